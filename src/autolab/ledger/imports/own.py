"""Our own research_results.tsv, of this lab or of another, as far back as it had these columns."""

from __future__ import annotations

from pathlib import Path

from autolab.errors import LabError
from autolab.ledger.imports.draft import Draft, parent_name
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of
from autolab.ledger.imports.table import Row, Table
from autolab.ledger.records import PROMOTED, Status, Verdict


def is_own(header: tuple[str, ...]) -> bool:
    """Whether a table with this header is of this format."""
    return {"trial_id", "program_id", "status", "verdict", "metric", "score"} <= set(header)


def read_own(
    path: Path, table: Table, *, metric: str | None, direction: str | None, campaign: str | None
) -> ImportedCampaign:
    """One campaign of such a table. Scores are the lab's own estimates, not single measurements.

    Raises LabError if the table holds several campaigns and none is named, or not the one that is; if `metric` is not
    its metric; or if the direction is not clear.
    """
    name = _campaign(path, table, campaign)
    rows = [row for row in table.rows if row.get("campaign") in (name, "")]  # "": it is cut off
    metrics = sorted({text for row in rows if (text := row.get("metric"))})
    if not metrics and metric is None:
        raise LabError("does not say what it measures", where=str(path), mend="--metric NAME")
    measured = metric or metrics[0]
    if metrics and measured not in metrics:
        raise LabError(
            f"does not measure {metric!r}", where=str(path), mend="--metric " + " or ".join(metrics)
        )
    draft = Draft(
        path, "autolab", measured, direction_of(measured, direction, where=path), list(table.problems)
    )
    master: str | None = None
    for row in rows:
        trial = _trial(draft, row)
        draft.add(trial)
        master = trial.id if trial.promoted else master
    return draft.campaign(master=master, rows=len(rows) + len(table.problems))


def _campaign(path: Path, table: Table, wanted: str | None) -> str:
    names = list(dict.fromkeys(text for row in table.rows if (text := row.get("campaign"))))
    if wanted is not None and wanted not in names:
        raise LabError(f"has no campaign {wanted!r}", where=str(path), mend="one of: " + ", ".join(names))
    if wanted is None and len(names) > 1:
        raise LabError(
            f"holds {len(names)} campaigns", where=str(path), mend="--campaign " + " or ".join(names[-5:])
        )
    return wanted if wanted is not None else "".join(names)


def _trial(draft: Draft, row: Row) -> ImportedTrial:
    status, verdict = row.get("status"), row.get("verdict")
    draft.status(row, status, [known.value for known in Status])
    promoted = verdict in PROMOTED
    if verdict and verdict not in [known.value for known in Verdict]:
        draft.problem(row.line, f"has a verdict that there is not: {verdict}")
    measured = row.get("metric")
    if measured and measured != draft.metric:
        draft.problem(row.line, f"measures {measured}, not {draft.metric}")
    counts = measured in ("", draft.metric) and (promoted or status == Status.OK)
    return ImportedTrial(
        order=0,
        id=draft.name(row.get("trial_id"), row.line),
        parent=parent_name(row.get("parent_id")),
        program=row.get("program_id"),
        score=draft.cut_score(row, row.header.index("score"), counts=counts),
        status=verdict or status,
        promoted=promoted,
        host=row.get("executor"),
        description=row.get("hypothesis"),
        at=row.get("finished_at"),
        line=row.line,
    )
