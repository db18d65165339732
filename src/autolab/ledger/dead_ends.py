"""Dead ends: changes that ended worse or failed, and until when that counts against them.

A change that failed on one program can work on another. So a dead end expires when the master has changed twice since:
by then it would be tried on something else.
"""

from __future__ import annotations

from autolab.ledger.records import UNRELATED, Status, Verdict
from autolab.ledger.store import Ledger

EXPIRES_AFTER = 2  # changes of the master
# Ended without a score for reasons that can lie in the program.
FAILED = frozenset(Status) - {Status.OK, Status.DUPLICATE, Status.INFRA_ERROR, Status.PROPOSAL_FAILED}


def is_dead_end(status: str | None, verdict: str | None) -> bool:
    """Whether a trial that ended so is evidence against its change. `no_difference` is none, nor is `infra_error`."""
    return verdict == Verdict.WORSE or (status in FAILED and status not in UNRELATED)


def newest_changes(ledger: Ledger, campaign: str) -> tuple[float, ...]:
    """When the master changed last (unix time), the newest first, as many as it takes for a dead end to expire."""
    rows = ledger.rows.execute(
        "SELECT at FROM promotion WHERE campaign = ? ORDER BY number DESC LIMIT ?", (campaign, EXPIRES_AFTER)
    )
    return tuple(float(row["at"]) for row in rows)


def changes_left(changes: tuple[float, ...], finished_at: float) -> int:
    """How often the master has still to change before a dead end of that time expires; 0: it has expired."""
    return EXPIRES_AFTER - sum(at > finished_at for at in changes)
