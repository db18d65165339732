"""results.tsv and tree.tsv of the specialist-agents release: one row a trial, failures included.

The score is the column between `status` and `delta_vs_best`, whatever its name, which another column can have too
(`train_s`). tree.tsv lists the trials by their places in the tree; they are put back in the order of time.
"""

from __future__ import annotations

from pathlib import Path

from autolab.ledger.imports.draft import Draft, in_time, parent_name
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of
from autolab.ledger.imports.table import Row, Table, chosen

SCORED = ("keep", "discard")
CRASHED = ("crash", "preflight_crash", "harness_abort")
STOPPED = (
    "size_blocked",
    "train_budget_overrun",
    "eval_budget_overrun",
    "disqualified",
)  # may have an unused score


def is_specialists(header: tuple[str, ...]) -> bool:
    """Whether a table with this header is of this format."""
    return {"exp_id", "status", "delta_vs_best"} <= set(header) and header.index(
        "delta_vs_best"
    ) > header.index("status") + 1


def read_specialists(
    path: Path, table: Table, *, metric: str | None = None, direction: str | None = None
) -> ImportedCampaign:
    """The campaign of such a table. A trial's code is its own: nothing says that two ran the same.

    Raises LabError for a metric that is no column, or whose direction is not clear.
    """
    place = table.header.index("delta_vs_best") - 1
    if metric and table.header[place] != metric.strip().lower():
        place = chosen(table.header, metric, where=path)
    name = table.header[place]
    draft = Draft(path, "specialists", name, direction_of(name, direction, where=path), list(table.problems))
    rows = _in_time(draft, table) if {"depth", "path"} <= set(table.header) else table.rows
    kept: str | None = None
    for row in rows:
        trial = _trial(draft, row, place)
        draft.add(trial)
        kept = trial.id if trial.promoted else kept
    return draft.campaign(master=kept, rows=table.length)


def _in_time(draft: Draft, table: Table) -> tuple[Row, ...]:
    order = in_time(row.get("timestamp") for row in table.rows)
    if order is None:
        draft.problem(0, "a row has no time, so the rows are taken in the order of the file")
        return table.rows
    return tuple(table.rows[place] for place in order)


def _trial(draft: Draft, row: Row, place: int) -> ImportedTrial:
    status = row.get("status")
    word = status.lower()
    draft.status(row, word, (*SCORED, *CRASHED, *STOPPED))
    return ImportedTrial(
        order=0,
        id=draft.name(row.get("exp_id"), row.line),
        parent=parent_name(row.get("parent_exp")),
        program="",
        score=draft.cut_score(row, place, counts=word in SCORED, failed=word in CRASHED),
        status=status,
        promoted=word == "keep",
        host="",
        description=row.get("hypothesis"),
        at=row.get("timestamp"),
        line=row.line,
    )
