"""What was measured in a campaign, in brief and read once: for whoever adds it up again and again while it grows."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from autolab.ledger.store import Ledger

PAGE = 500


class Run(NamedTuple):
    """A finished measurement without what only a person reads of it. Times are Unix seconds, durations seconds, memory
    MB, money US dollars. `cached`: nothing ran, its result is another measurement's."""

    id: str
    trial: int
    stage: str
    status: str
    started_at: float
    finished_at: float
    host: str
    slot: int
    train_seconds: float
    eval_seconds: float
    peak_memory_mb: float
    cost_usd: float
    sandbox: str
    evidence: str
    cached: bool


class Spent(NamedTuple):
    """One session of a model: when it ended, what it cost, and how it ended."""

    number: int
    at: float
    cost_usd: float
    tokens: int
    outcome: str


class Kin(NamedTuple):
    """A trial and where it branched from."""

    number: int
    ordinal: int
    id: str
    parent: int | None


_TOLD = ("host", "slot", "train_seconds", "eval_seconds", "peak_memory_mb", "cost_usd", "sandbox", "evidence",
         "cached_from")  # fmt: skip
_PATHS = ", ".join(f"'$.{name}'" for name in _TOLD)
_DEFAULTS = ("", 0, 0.0, 0.0, 0.0, 0.0, "", "measured", "")


@contextmanager
def snapshot(ledger: Ledger) -> Iterator[None]:
    """Everything that is read inside is as of one moment; writers are not held up. Nested uses join the outer one."""
    if ledger.rows.in_transaction:
        yield
        return
    ledger.rows.execute("BEGIN")
    try:
        yield
    finally:
        if ledger.rows.in_transaction:  # a failure in between can have ended it, and is the one to tell
            ledger.rows.execute("COMMIT")


def new_runs(ledger: Ledger, campaign: str, known: Container[str]) -> list[Run]:
    """The finished measurements of a campaign, replays among them, whose ids are not known yet, by id."""
    ids = ledger.rows.execute(
        "SELECT m.id FROM trial t JOIN measurement m ON m.trial = t.number WHERE t.campaign = ?"
        " AND m.status IS NOT NULL",
        (campaign,),
    )
    wanted = sorted(row[0] for row in ids if row[0] not in known)
    found: list[Run] = []
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        rows = ledger.rows.execute(
            f"SELECT id, trial, stage, status, started_at, finished_at, json_extract(record, {_PATHS}) FROM measurement"
            f" WHERE id IN ({','.join('?' * len(page))}) ORDER BY id",
            page,
        )
        for *head, finished_at, record in rows:
            told = zip(json.loads(record), _DEFAULTS, strict=True)
            *values, cached_from = [default if value is None else value for value, default in told]
            found.append(Run._make([*head, finished_at or 0.0, *values, bool(cached_from)]))
    return found


def new_sessions(ledger: Ledger, campaign: str, after: int) -> list[Spent]:
    """The sessions of models past the one of this number, in the order in which they were noted."""
    rows = ledger.rows.execute(
        "SELECT number, at, cost_usd, tokens_in + tokens_out, outcome FROM agent_session"
        " WHERE campaign = ? AND number > ? ORDER BY number",
        (campaign, after),
    )
    return [Spent(*row) for row in rows]


def submissions(ledger: Ledger, campaign: str, after: int = 0) -> dict[int, float]:
    """When the trials past finish order `after`, and those under way, were submitted to be measured (Unix time): when
    their program was stored, or when they were opened if another campaign had stored it before."""
    rows = ledger.rows.execute(
        "SELECT t.number, max(t.created_at, p.created_at) FROM trial t JOIN program p ON p.id = t.program"
        " WHERE t.campaign = ? AND (t.finish_order > ? OR t.state = 'queued')",
        (campaign, after),
    )
    return {row[0]: row[1] for row in rows}


def kin(ledger: Ledger, campaign: str) -> list[Kin]:
    """Every trial of a campaign with its parent, in the order in which they were opened."""
    rows = ledger.rows.execute(
        "SELECT number, ordinal, id, parent_trial FROM trial WHERE campaign = ? ORDER BY ordinal, number",
        (campaign,),
    )
    return [Kin(*row) for row in rows]


def last_event(ledger: Ledger, campaign: str) -> float:
    """When anything last happened in a campaign (Unix time): the moment at which to look at one if the same ledger is
    to show the same. Raises LabError if there is none of this name."""
    row = ledger.rows.execute(
        "SELECT max(t.created_at), max(t.finished_at), max(m.started_at), max(m.finished_at),"
        " (SELECT max(at) FROM promotion WHERE campaign = ?1),"
        " (SELECT max(at) FROM agent_session WHERE campaign = ?1),"
        " (SELECT max(max(launched_at, coalesce(ended_at, 0))) FROM job WHERE campaign = ?1)"
        " FROM trial t LEFT JOIN measurement m ON m.trial = t.number WHERE t.campaign = ?1",
        (campaign,),
    ).fetchone()
    return max(ledger.campaign(campaign).created_at, *(at or 0.0 for at in row))
