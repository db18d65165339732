"""A campaign as other people may see it: without what belongs to the machines, which are their names and their logs,
without secrets, and without what trials that have not ended are about to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from autolab.hub.results.publish import leaks_in, refuse_leaks
from autolab.ledger.store import Ledger
from autolab.report.overview import Detail, Overview, details, last_event, overview, quote, requote
from autolab.report.page import page

_OF_HOSTS = frozenset({"host_shift"})  # concerns that say nothing without a host's name


def published(view: Overview) -> Overview:
    """The overview without names of hosts: lanes are numbered, and what only hosts explain is left out."""
    names = {lane: f"slot {number}" for number, lane in enumerate(view.slots.lanes)}
    # Only where it is all that is quoted: a host can be called `a`.
    quoted = {quote(lane)[1:-1]: name for lane, name in names.items()}
    return replace(
        view,
        slots=replace(view.slots, lanes=tuple(names.values())),
        under_way=tuple(replace(one, slot=names.get(one.slot, "")) for one in view.under_way),
        concerns=tuple(
            replace(one, text=requote(one.text, lambda words: f"“{quoted.get(words, words)}”"))
            for one in view.concerns
            if one.kind not in _OF_HOSTS
        ),
    )


def published_detail(detail: Detail) -> Detail:
    """What an opened row shows, without names of hosts and without logs."""
    return replace(detail, runs=tuple(replace(run, host="", log="") for run in detail.runs))


def to_publish(ledger: Ledger, campaign: str, *, alive: bool) -> tuple[Overview, str]:
    """The overview of a campaign and its page as they may be published; the same ledger gives the same. Only finished
    trials can be opened there. Raises LabError that says where secrets are: packed as they are in the page, nobody
    finds them there any more."""
    now = last_event(ledger, campaign)
    view = published(overview(ledger, campaign, now=now, alive=alive))
    name = f"{campaign}/report.html"
    said = replace(view, slots=replace(view.slots, spans=(), queue=()))  # those are numbers, and many
    refuse_leaks(leaks_in(name, [("overview", asdict(said))]))

    def rows() -> Iterator[tuple[int, Detail]]:
        finished = {mark.ordinal for mark in view.marks if mark.finished_at is not None}
        for ordinal, found in details(ledger, campaign):
            if ordinal in finished:
                detail = published_detail(found)
                refuse_leaks(leaks_in(name, [(f"trial {detail.id}", asdict(detail))]))
                yield ordinal, detail

    return view, page(view, rows())
