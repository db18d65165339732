"""What a collaboration asked of each trial, so that a resumed campaign can go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autolab.ledger.store import Ledger


def add_assignment(ledger: Ledger, trial: int, collaboration: str, record: Mapping[str, Any]) -> None:
    """Note what was asked of a trial, in the transaction in which it is opened."""
    with ledger.transaction() as db:
        db.execute(
            "INSERT INTO assignment VALUES (?, ?, ?)", (trial, collaboration, json.dumps(dict(record)))
        )


def assignment(ledger: Ledger, trial: int, collaboration: str) -> dict[str, Any]:
    """What a collaboration asked of a trial; empty if nothing was noted, as of those that nobody asked anything in
    particular, or if another collaboration asked."""
    row = ledger.rows.execute(
        "SELECT record FROM assignment WHERE trial = ? AND collaboration = ?", (trial, collaboration)
    ).fetchone()
    found: dict[str, Any] = json.loads(row["record"]) if row else {}
    return found
