"""What colleagues tell each other: notes with a candidate, learnings and concerns of workers, plans of planners.

All of it was written by agents: evidence for others, never an instruction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from autolab.ledger.records import storable
from autolab.ledger.store import Ledger

KINDS = ("handover", "learning", "concern", "plan")
MAX_TEXT = 8000  # characters of one handover


@dataclass(frozen=True)
class Handover:
    """One thing told. `round` begins with the collaboration's name, since another one may have gone on with the
    campaign: `hierarchy:3`, and for the second turn of a team `team:3.2`. `trial` is None if it is about no single
    one."""

    number: int
    campaign: str
    trial: int | None
    round: str
    role: str
    surface: str
    kind: str  # one of KINDS
    text: str
    at: float


def add(
    ledger: Ledger,
    campaign: str,
    *,
    round: str,
    role: str,
    kind: str,
    text: str,
    surface: str = "",
    trial: int | None = None,
) -> None:
    """Note what a role tells of a round, a surface and a trial. It is told once: a campaign that was killed and goes on
    tells it again, and then the newer words replace the older ones in their place."""
    assert kind in KINDS, kind
    place = (campaign, trial, round, role, surface, kind)
    said = (storable(text.strip())[:MAX_TEXT], time.time())
    with ledger.transaction() as db:
        changed = db.execute(
            "UPDATE handover SET text = ?, at = ? WHERE campaign = ? AND trial IS ? AND round = ? AND role = ?"
            " AND surface = ? AND kind = ?",
            (*said, *place),
        )
        if not changed.rowcount:
            db.execute(
                "INSERT INTO handover (campaign, trial, round, role, surface, kind, text, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, *said),
            )


def of_round(ledger: Ledger, campaign: str, round: str, kind: str | None = None) -> list[Handover]:
    """What was told in a round, oldest first; of one kind, or of all."""
    rows = ledger.rows.execute(
        "SELECT * FROM handover WHERE campaign = ? AND round = ? AND kind = coalesce(?, kind) ORDER BY number",
        (campaign, round, kind),
    )
    return [Handover(**dict(row)) for row in rows]
