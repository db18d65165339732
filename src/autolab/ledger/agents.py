"""What agents add to the ledger: ideas, workspaces, and what their sessions cost."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import fields

from autolab.errors import LabError
from autolab.ledger.records import AgentSession, Idea, IdeaState, Workspace, storable
from autolab.ledger.store import Ledger

MAX_TEXT = 2000  # characters of one field of an idea


def add_idea(
    ledger: Ledger,
    campaign: str,
    *,
    change: str,
    surface: str = "",
    claim: str = "",
    source: str = "",
    effect: str = "",
    author: str = "",
) -> Idea:
    """Note a change that is worth trying; it goes to the end of the queue. Raises LabError if it says nothing,
    or if an idea that is still open says the same."""
    texts = [storable(" ".join(text.split()))[:MAX_TEXT] for text in (surface, change, claim, source, effect)]
    if not texts[1]:
        raise LabError("the idea says nothing", mend='--change "what exactly to change"')
    with ledger.transaction() as db:
        same = db.execute(
            "SELECT number FROM idea WHERE campaign = ? AND lower(change) = lower(?) AND state = ?",
            (campaign, texts[1], IdeaState.OPEN),
        ).fetchone()
        if same is not None:
            raise LabError(f"idea {same['number']} says that already", mend="add another one, or rank it")
        last = db.execute(
            "SELECT coalesce(max(rank), 0) FROM idea WHERE campaign = ?", (campaign,)
        ).fetchone()
        made = db.execute(
            "INSERT INTO idea (campaign, rank, surface, change, claim, source, effect, author, state, note, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
            (campaign, last[0] + 1, *texts, author, IdeaState.OPEN, time.time()),
        )
    return idea(ledger, int(made.lastrowid or 0))


def idea(ledger: Ledger, number: int) -> Idea:
    """One idea by its number. Raises LabError."""
    row = ledger.rows.execute("SELECT * FROM idea WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise LabError(f"there is no idea {number}", mend="`scripts/ideas.py list` shows them")
    return _idea_of(row)


def ideas(ledger: Ledger, campaign: str, state: IdeaState | None = None) -> list[Idea]:
    """The ideas of a campaign, the next one first."""
    where, values = ("AND state = ?", [campaign, state]) if state else ("", [campaign])
    rows = ledger.rows.execute(f"SELECT * FROM idea WHERE campaign = ? {where} ORDER BY rank, number", values)
    return [_idea_of(row) for row in rows]


def idea_trials(ledger: Ledger, campaign: str) -> dict[int, list[str]]:
    """The ids of the trials that were opened for each idea, oldest first; ideas without one are left out."""
    rows = ledger.rows.execute(
        "SELECT w.idea, t.id FROM workspace w JOIN trial t ON t.number = w.trial"
        " WHERE t.campaign = ? AND w.idea IS NOT NULL ORDER BY t.number",
        (campaign,),
    )
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["idea"], []).append(row["id"])
    return found


def rank_idea(ledger: Ledger, number: int, place: int) -> Idea:
    """Put an open idea at a place in the queue of open ideas; 1 is next. Raises LabError."""
    with ledger.transaction() as db:
        found = _open_idea(ledger, number)
        others = [
            other.rank for other in ideas(ledger, found.campaign, IdeaState.OPEN) if other.number != number
        ]
        before = others[place - 2] if 2 <= place <= len(others) + 1 else None
        if place <= 1 or not others:
            rank = (others[0] if others else found.rank) - 1
        elif before is None or place > len(others):
            rank = others[-1] + 1
        else:
            rank = (before + others[place - 1]) / 2
        db.execute("UPDATE idea SET rank = ? WHERE number = ?", (rank, number))
    return idea(ledger, number)


def set_idea(
    ledger: Ledger, number: int, state: IdeaState, *, trial: int | None = None, note: str = ""
) -> Idea:
    """Change what became of an idea; its trial and its note stay if none is given."""
    with ledger.transaction() as db:
        db.execute(
            "UPDATE idea SET state = ?, trial = coalesce(?, trial),"
            " note = CASE WHEN ? = '' THEN note ELSE ? END WHERE number = ?",
            (state, trial, note, storable(note)[:MAX_TEXT], number),
        )
    return idea(ledger, number)


def take_idea(ledger: Ledger, number: int) -> Idea:
    """Claim an open idea for a trial. Raises LabError if somebody has it, or if it is settled."""
    with ledger.transaction():
        _open_idea(ledger, number)
        return set_idea(ledger, number, IdeaState.TAKEN)


def _open_idea(ledger: Ledger, number: int) -> Idea:
    found = idea(ledger, number)
    if found.state is not IdeaState.OPEN:
        by = f" by trial {ledger.trial_id(found.trial)}" if found.trial else ""
        raise LabError(
            f"idea {number} is {found.state}{by}", mend="`scripts/ideas.py list --open`: take one of those"
        )
    return found


def drop_idea(ledger: Ledger, number: int, why: str) -> Idea:
    """Give an open idea up. Raises LabError if it is not open."""
    with ledger.transaction():
        _open_idea(ledger, number)
        return set_idea(ledger, number, IdeaState.DROPPED, note=why)


def add_workspace(ledger: Ledger, workspace: Workspace) -> None:
    """Record where the agent of an open trial works."""
    values = [getattr(workspace, field.name) for field in fields(workspace)]
    with ledger.transaction() as db:
        db.execute(
            "INSERT INTO workspace (trial, path, session, idea, opened_at, lease_until) VALUES (?, ?, ?, ?, ?, ?)",
            values,
        )


def workspace(ledger: Ledger, trial: int) -> Workspace | None:
    """The workspace of a trial, or None if none was opened for it."""
    row = ledger.rows.execute("SELECT * FROM workspace WHERE trial = ?", (trial,)).fetchone()
    return None if row is None else Workspace(**dict(row))


def renew_lease(ledger: Ledger, trial: int, until: float) -> None:
    """The agent is still at work: move the end of its lease."""
    with ledger.transaction() as db:
        db.execute("UPDATE workspace SET lease_until = ? WHERE trial = ?", (until, trial))


def open_workspaces(ledger: Ledger, campaign: str, *, session: str | None = None) -> list[Workspace]:
    """Workspaces of trials that are still open (not submitted), oldest first; of one session if given."""
    where, values = ("AND w.session = ?", [campaign, session]) if session is not None else ("", [campaign])
    rows = ledger.rows.execute(
        "SELECT w.* FROM trial t JOIN workspace w ON w.trial = t.number"
        f" WHERE t.campaign = ? AND t.state = 'open' {where} ORDER BY t.number",
        values,
    )
    return [Workspace(**dict(row)) for row in rows]


def workspaces_of_session(ledger: Ledger, session: str) -> list[Workspace]:
    """Every workspace that a session opened, newest last."""
    rows = ledger.rows.execute(
        "SELECT * FROM workspace WHERE session = ? ORDER BY opened_at, trial", (session,)
    )
    return [Workspace(**dict(row)) for row in rows]


def newest_ordinal(ledger: Ledger, campaign: str) -> int:
    """How many trials a campaign has opened beside its baseline."""
    row = ledger.rows.execute(
        "SELECT coalesce(max(ordinal), 0) FROM trial WHERE campaign = ?", (campaign,)
    ).fetchone()
    return int(row[0])


def add_session(ledger: Ledger, session: AgentSession) -> None:
    """Record what one session of a model cost."""
    names = [field.name for field in fields(session)]
    values = [getattr(session, name) for name in names]
    ledger.note(
        f"INSERT INTO agent_session ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values
    )


def sessions(ledger: Ledger, campaign: str, trial: int | None = None) -> list[AgentSession]:
    """Sessions of a campaign, or of one trial, oldest first."""
    where, values = ("AND trial = ?", [campaign, trial]) if trial is not None else ("", [campaign])
    rows = ledger.rows.execute(
        f"SELECT * FROM agent_session WHERE campaign = ? {where} ORDER BY number", values
    )
    return [
        AgentSession(**{name: value for name, value in dict(row).items() if name != "number"}) for row in rows
    ]


def spent_usd(ledger: Ledger, campaign: str) -> float:
    """Dollars that the sessions of a campaign cost so far."""
    found = ledger.rows.execute("SELECT total(cost_usd) FROM agent_session WHERE campaign = ?", (campaign,))
    return float(found.fetchone()[0])


def spent_by_model(ledger: Ledger, campaign: str) -> dict[str, float]:
    """Dollars that the sessions of a campaign cost so far, by model."""
    found = ledger.rows.execute(
        "SELECT model, total(cost_usd) FROM agent_session WHERE campaign = ? GROUP BY model", (campaign,)
    )
    return {row[0]: float(row[1]) for row in found}


def cost_by_role(ledger: Ledger, campaign: str) -> list[dict[str, object]]:
    """For each role: sessions, tokens, dollars, seconds, and how many sessions did not end in an answer."""
    rows = ledger.rows.execute(
        "SELECT role, count(*) AS sessions, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out,"
        " sum(retries) AS retries, sum(cost_usd) AS cost_usd, sum(seconds) AS seconds,"
        " sum(outcome != 'answered') AS failed FROM agent_session WHERE campaign = ? GROUP BY role ORDER BY role",
        (campaign,),
    )
    return [dict(row) for row in rows]


def _idea_of(row: sqlite3.Row) -> Idea:
    values = dict(row)
    return Idea(**{**values, "state": IdeaState(values["state"])})
