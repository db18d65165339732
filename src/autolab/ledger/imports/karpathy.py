"""The table of karpathy/autoresearch and of what was made after it: commit, score, …, status, description.

A loop with one branch: every row was tried on the last one that was kept. Agents write the table by hand, so the
metric has many names, the columns between it and the status differ, and so do the words for a status.
"""

from __future__ import annotations

from pathlib import Path

from autolab.ledger.imports.draft import NOTHING, Draft, number
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of
from autolab.ledger.imports.table import Row, Table, chosen, column, quoted

COMMIT = ("commit", "commit_hash", "git_commit", "git_hash", "hash", "sha")
DESCRIPTION = ("description", "desc", "hypothesis", "change", "summary", "notes", "note", "comment")
TIME = ("timestamp", "created_at", "datetime", "date", "time")
HOST = ("host", "platform", "gpu", "hardware", "machine", "device")
PLACE = (
    "",
    "#",
    "n",
    "no",
    "id",
    "exp",
    "experiment",
    "run",
    "iter",
    "iteration",
    "step",
    "branch",
    "parent",
)
COST = ("memory_gb", "memory_mb", "vram_gb", "vram_mb", "peak_vram_gb", "peak_vram_mb", "params", "cost_usd")
NO_METRIC = frozenset({*COMMIT, *DESCRIPTION, *TIME, *HOST, *PLACE, *COST, "status"})
KEEP = ("keep", "kept", "accept", "accepted", "baseline")
DISCARD = ("discard", "discarded", "reject", "rejected", "revert", "reverted")
CRASH = ("crash", "crashed", "fail", "failed", "error", "oom", "timeout", "nan")


def is_karpathy(header: tuple[str, ...]) -> bool:
    """Whether a table with this header is of this format."""
    return (
        column(header, *COMMIT) >= 0 and "status" in header and any(name not in NO_METRIC for name in header)
    )


def read_karpathy(
    path: Path, table: Table, *, metric: str | None = None, direction: str | None = None
) -> ImportedCampaign:
    """The campaign of such a table; the metric is the first column that can be one, if none is named.

    Rows with the same commit are repeats of one program if they say the same of it; else the agent wrote down the
    commit that it had gone back to, and nothing is known of the code. Raises LabError for a metric that is no column,
    or whose direction is not clear.
    """
    place = chosen(table.header, metric, where=path) if metric else _metric_place(table)
    name = table.header[place]
    draft = Draft(path, "karpathy", name, direction_of(name, direction, where=path), list(table.problems))
    said: dict[str, str] = {}
    kept: str | None = None
    for row in table.rows:
        word = row.get("status").lower()
        if word not in (*KEEP, *DISCARD, *CRASH) and number(row.at(place)) is None:
            draft.problem(row.line, f"is no row of this table: {quoted(' '.join(row.cells))}")
            continue
        trial = _trial(draft, row, place, said, kept)
        draft.add(trial)
        kept = trial.id if trial.promoted else kept
    return draft.campaign(master=kept, rows=table.length)


def _metric_place(table: Table) -> int:
    return next(place for place, name in enumerate(table.header) if name not in NO_METRIC)


def _trial(draft: Draft, row: Row, place: int, said: dict[str, str], kept: str | None) -> ImportedTrial:
    status, commit, description = row.get("status"), row.get(*COMMIT), row.get(*DESCRIPTION)
    word = status.lower()
    known = draft.status(row, word, (*KEEP, *DISCARD, *CRASH))
    counts = word in (*KEEP, *DISCARD) or (not known and word != "")
    return ImportedTrial(
        order=0,
        id=draft.name(commit, row.line, again=_again(commit, said, description)),
        parent=kept,
        program=_program(commit, said, description),
        score=draft.cut_score(row, place, counts=counts, failed=known),
        status=status,
        promoted=word in KEEP,
        host=row.get(*HOST),
        description=description,
        at=row.get(*TIME),
        line=row.line,
    )


def _again(commit: str, said: dict[str, str], description: str) -> str:
    if description and said.get(commit) == description:
        return "measures the commit {0} again, as line {1} did"
    return "has the commit {0} as line {1} has, but says another thing of it: taken as other code"


def _program(commit: str, said: dict[str, str], description: str) -> str:
    first = commit not in said
    same = said.setdefault(commit, description) == description != ""
    return commit.lower() if commit.lower() not in NOTHING and (first or same) else ""
