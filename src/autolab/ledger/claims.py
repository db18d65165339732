"""What trials set out to do, claimed so that nobody else does the same at the same time.

A claim is written in the transaction that looked for rivals, so of two agents who want the same at once one finds the
other's. It holds while its trial is under way: a queued trial's until it has ended, an open trial's until its lease
runs out. Afterwards it is the memory of what was tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from autolab.ledger.records import Proposal, TrialState
from autolab.ledger.rows import encode_proposal
from autolab.ledger.store import Ledger
from autolab.program.change import Change, Constants
from autolab.program.hashing import Files

RECENT = 256  # claims whose words are compared
MOST_RIVALS = 16


@dataclass(frozen=True)
class Claim:
    """What a trial is about. `sketch` is a SimHash of its hypothesis, as a signed 64-bit number; `vector` (float16, of
    length 1) and `model` are of an embedding, if there is one."""

    hypothesis: str
    change: Change
    sketch: int
    model: str = ""
    vector: bytes = b""


class Rival(NamedTuple):
    """A trial that claimed something alike."""

    number: int
    id: str
    state: str
    surface: str
    parent_program: str | None
    status: str | None
    verdict: str | None
    score: float | None
    delta: float | None
    finished_at: float | None
    hypothesis: str
    constants: str
    touched: str
    lease_until: float | None

    @property
    def under_way(self) -> bool:
        """Whether it is open with a lease that holds, or queued."""
        held = self.lease_until is None or self.lease_until > time.time()
        return self.state == TrialState.QUEUED or (self.state == TrialState.OPEN and held)

    @property
    def changed(self) -> Constants:
        """The constants that it changes, if nothing else."""
        return _constants(self.constants) if self.constants else ()


@lru_cache(maxsize=1024)
def _constants(text: str) -> Constants:
    return tuple(tuple(one) for one in json.loads(text))


_RIVALS = (
    "SELECT t.number, t.id, t.state, t.surface, t.parent_program, t.status, t.verdict, t.score, t.delta, t.finished_at,"
    " coalesce(json_extract(t.proposal, '$.hypothesis'), ''), c.constants, c.touched, c.lease_until"
    " FROM claim c JOIN trial t ON t.number = c.trial"
)


def keep_claim(ledger: Ledger, trial: int, claim: Claim, *, lease_until: float | None = None) -> None:
    """Write what a trial claims, in place of what it claimed before; `lease_until` is an open trial's."""
    with ledger.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO claim (trial, campaign, edit_hash, constants, touched, sketch, lease_until)"
            " VALUES (?1, (SELECT campaign FROM trial WHERE number = ?1), ?2, ?3, ?4, ?5, ?6)",
            (
                trial,
                claim.change.edit_hash,
                json.dumps(claim.change.constants) if claim.change.constants else "",
                " ".join(sorted(claim.change.touched)),
                claim.sketch,
                lease_until,
            ),
        )
        if claim.vector:
            db.execute(
                "INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", (trial, claim.model, claim.vector)
            )


def renew_claim(ledger: Ledger, trial: int, until: float) -> None:
    """The agent of an open trial is still at work: move the end of its claim."""
    with ledger.transaction() as db:
        db.execute(
            "UPDATE claim SET lease_until = ? WHERE trial = ? AND lease_until IS NOT NULL", (until, trial)
        )


def same_edit(ledger: Ledger, campaign: str, edit_hash: str) -> list[Rival]:
    """Trials that made the same edit, the newest first."""
    if not edit_hash:
        return []
    rows = ledger.rows.execute(
        f"{_RIVALS} WHERE c.campaign = ? AND c.edit_hash = ? AND c.edit_hash != '' ORDER BY c.trial DESC LIMIT ?",
        (campaign, edit_hash, MOST_RIVALS),
    )
    return [Rival(*row) for row in rows]


def same_constants(ledger: Ledger, campaign: str, constants: Constants) -> list[Rival]:
    """Trials that set the same constants from the same values to the same, and changed nothing else; newest first."""
    if not constants:
        return []
    rows = ledger.rows.execute(
        f"{_RIVALS} WHERE c.campaign = ? AND c.constants = ? AND c.constants != '' ORDER BY c.trial DESC LIMIT ?",
        (campaign, json.dumps(constants), MOST_RIVALS),
    )
    return [Rival(*row) for row in rows]


def recent_sketches(ledger: Ledger, campaign: str) -> list[tuple[int, int]]:
    """(trial, sketch) of the newest claims."""
    cursor = ledger.rows.cursor()
    cursor.row_factory = None  # plain tuples: there are many of them, for every proposal
    return cursor.execute(
        "SELECT trial, sketch FROM claim WHERE campaign = ? ORDER BY trial DESC LIMIT ?", (campaign, RECENT)
    ).fetchall()


def recent_vectors(ledger: Ledger, campaign: str, model: str) -> list[tuple[int, bytes]]:
    """(trial, vector) of the newest claims that this model has placed."""
    rows = ledger.rows.execute(
        "SELECT e.trial, e.vector FROM embedding e JOIN claim c ON c.trial = e.trial"
        " WHERE e.model = ? AND c.campaign = ? ORDER BY e.trial DESC LIMIT ?",
        (model, campaign, RECENT),
    )
    return [(row[0], row[1]) for row in rows]


def rivals(ledger: Ledger, numbers: Sequence[int]) -> list[Rival]:
    """The claims of these trials, in this order."""
    marks = ",".join("?" * len(numbers))
    rows = ledger.rows.execute(f"{_RIVALS} WHERE c.trial IN ({marks})", list(numbers))
    found = {row[0]: Rival(*row) for row in rows}
    return [found[number] for number in numbers if number in found]


def mark_repeat(ledger: Ledger, trial: int, program: Files, proposal: Proposal, repeats: int) -> None:
    """Note of an open trial what it proposed, and which trial that repeats in other words."""
    with ledger.transaction() as db:
        db.execute(
            "UPDATE trial SET program = ?, proposal = ?, surface = ?, repeats = ? WHERE number = ?",
            (
                ledger.add_program(program),
                json.dumps(encode_proposal(proposal)),
                proposal.surface,
                repeats,
                trial,
            ),
        )
