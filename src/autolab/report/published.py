"""A campaign as other people may see it: without what belongs to the machines, which are their names and their logs."""

from __future__ import annotations

from dataclasses import replace

from autolab.ledger.store import Ledger
from autolab.report.overview import Detail, Overview, details, last_event, overview
from autolab.report.page import page

_SLOT = ", slot "  # between a host's name and its slot, in the name of a lane
_OF_HOSTS = frozenset({"host_shift"})


def published(view: Overview) -> Overview:
    """The overview without names of hosts: lanes are numbered, and what only hosts explain is left out."""
    hosts = {lane.rpartition(_SLOT)[0] for lane in view.slots.lanes} - {""}
    names = {lane: f"slot {number}" for number, lane in enumerate(view.slots.lanes)}
    return replace(
        view,
        slots=replace(view.slots, lanes=tuple(names.values())),
        under_way=tuple(replace(one, slot=names.get(one.slot, "")) for one in view.under_way),
        concerns=tuple(
            one
            for one in view.concerns
            if one.kind not in _OF_HOSTS and not any(host in one.text for host in hosts)
        ),
    )


def published_detail(detail: Detail) -> Detail:
    """What an opened row shows, without names of hosts and without logs."""
    return replace(detail, runs=tuple(replace(run, host="", log="") for run in detail.runs))


def to_publish(ledger: Ledger, campaign: str, *, alive: bool) -> tuple[Overview, str]:
    """The overview of a campaign and its page as they may be published; the same ledger gives the same."""
    now = last_event(ledger, campaign)
    view = published(overview(ledger, campaign, now=now, alive=alive))
    rows = ((ordinal, published_detail(detail)) for ordinal, detail in details(ledger, campaign))
    return view, page(view, rows)
