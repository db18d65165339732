"""A generated campaign with its overview, and a lab that has just begun, for tests of what people are told of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generated import generate
from masters import ended, promoted
from scripted import start

from autolab.lab import Lab
from autolab.ledger.records import Verdict
from autolab.ledger.store import Ledger
from autolab.report.overview import Concern, Overview, last_event, overview


@dataclass
class Night:
    """A generated campaign, its overview, and its database for questions of one's own."""

    ledger: Ledger
    campaign: str
    view: Overview
    db: sqlite3.Connection

    def ask(self, question: str, *values: Any) -> list[sqlite3.Row]:
        return self.db.execute(question, values).fetchall()

    def runs(self, trial: int) -> list[dict[str, Any]]:
        rows = self.ask("SELECT * FROM measurement WHERE trial = ? AND status IS NOT NULL", trial)
        return [{**json.loads(row["record"]), **dict(row)} for row in rows]


@contextmanager
def a_night(directory: Path) -> Iterator[Night]:
    """200 trials of agents that write what breaks pages."""
    path, campaign = generate(directory / "lab", trials=200, seed=3, hostile=True)
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    with Ledger(path) as ledger:
        view = overview(ledger, campaign, now=last_event(ledger, campaign), alive=True)
        yield Night(ledger, campaign, view, db)
    db.close()


def with_a_baseline(toy: Path) -> Lab:
    """A lab whose baseline was measured, and is the master."""
    lab = start(toy)
    ended(lab, next(lab.ledger.sequence(lab.campaign.id)), Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    return lab


def seen(lab: Lab, *, alive: bool = True, later: float = 0.0) -> Overview:
    """The overview of its campaign, so many seconds after its last event."""
    name = lab.campaign.id
    return overview(lab.ledger, name, now=last_event(lab.ledger, name) + later, alive=alive)


def concern(view: Overview, kind: str) -> Concern:
    """The one concern of a kind."""
    (found,) = [one for one in view.concerns if one.kind == kind]
    return found


def kinds(view: Overview) -> set[str]:
    """Of all concerns."""
    return {one.kind for one in view.concerns}
