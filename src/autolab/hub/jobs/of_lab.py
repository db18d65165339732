"""Which jobs are a lab's own: the labels that it gives them, and those that still run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.hub.jobs.listing import UNFINISHED, Listing, label, listed, prices
from autolab.ledger.store import Ledger

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def lab_labels(ledger: Path) -> dict[str, str]:
    """The labels of a job that a lab launches: the lab, and its newest campaign; none before its first."""
    if not ledger.exists():
        return {}
    with Ledger(ledger, create=False) as opened:
        campaigns = opened.campaigns()
        return {"lab": opened.meta("lab") or "", "campaign": campaigns[-1].id if campaigns else ""}


def is_sealed(ledger: Path, job: str) -> bool:
    """Whether a job of the lab measures the sealed split, whose log agents may not read."""
    if not ledger.exists():
        return False
    with Ledger(ledger, create=False) as opened:
        return opened.rows.execute(
            "SELECT 1 FROM job j JOIN measurement m ON m.id = j.measurement"
            " WHERE j.id = ? AND m.stage LIKE '%certify%'", (job,)
        ).fetchone() is not None  # fmt: skip


def unfinished_of_lab(api: HfApi, owner: str, ledger: Path) -> Listing:
    """The jobs that a lab or one of its campaigns launched and that have not ended."""
    if not ledger.exists():
        return Listing([], False)
    with Ledger(ledger, create=False) as opened:
        lab = opened.meta("lab")
        campaigns = {label(campaign.id) for campaign in opened.campaigns()}
    found = listed(api, owner, stages=UNFINISHED, flavors=prices(api))
    ours = [
        job for job in found.jobs if job.labels.get("lab") == lab or job.labels.get("campaign") in campaigns
    ]
    return dataclasses.replace(found, jobs=ours)
