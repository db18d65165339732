"""Result tables as other loops write them, from rows that a test gives; each writer returns the path of its table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autolab.ledger.views import COLUMNS

KARPATHY = ("commit", "val_bpb", "memory_gb", "status", "description")
MULTIAUTORESEARCH = (
    "run_id", "created_at", "status", "job_id", "campaign", "experiment_id", "worker_id", "hypothesis", "parent_hash",
    "candidate_hash", "val_bpb", "training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent", "promoted",
    "comment",
)  # fmt: skip
SPECIALISTS = (
    "exp_id", "timestamp", "specialist", "parent_exp", "baseline_exp", "domain", "hypothesis", "expected_delta",
    "status", "val_bpb", "delta_vs_best", "artifact_bytes", "train_s", "eval_s", "total_s", "job_name",
    "snapshot_path", "notes",
)  # fmt: skip
TREE = ("depth", "path", *SPECIALISTS)
TEXT = {"status": "completed", "promoted": False}

Row = Mapping[str, Any]


def code(name: str) -> str:
    """A hash as their tools make them, of the program that a test calls `name`."""
    return hashlib.sha1(name.encode()).hexdigest()


def table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> Path:
    """A table with tabs; what a row does not say is empty."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row.get(column, "")) for column in columns) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def karpathy(path: Path, rows: Iterable[tuple[str, float, str, str]], metric: str = "val_bpb") -> Path:
    """Rows of (commit, score, status, description); the score of a crash is written as 0.000000."""
    lines = ["\t".join(metric if column == "val_bpb" else column for column in KARPATHY)]
    for commit, score, status, description in rows:
        memory = 0.0 if status == "crash" else 44.0
        lines.append(f"{commit}\t{score:.6f}\t{memory:.1f}\t{status}\t{description}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def multiautoresearch(
    directory: Path,
    rows: Iterable[Row],
    *,
    platform: str = "NVIDIA-H100-80GB-HBM3",
    master: Row | None = None,
    dag: Sequence[Row] | None = None,
) -> Path:
    """research/results.tsv of a repository in `directory`, and research/live with what their code keeps beside it.

    A row needs no more than `candidate_hash` and `val_bpb`. `master` overrides fields of master.json, which is the
    row that was promoted last; `dag` replaces dag.json, which has the rows that were promoted.
    """
    full = [_run(number, row) for number, row in enumerate(rows, 1)]
    path = table(directory / "research" / "results.tsv", MULTIAUTORESEARCH, full)
    promoted = [row for row in full if row["promoted"]]
    tree = [dag_entry(row, platform=platform, is_master=row is promoted[-1]) for row in promoted]
    write_json(directory / "research" / "live" / "dag.json", tree if dag is None else dag)
    if promoted:
        record = {**_master(promoted[-1]), **(master or {})}
        write_json(directory / "research" / "live" / "master.json", record)
    return path


def dag_entry(row: Row, *, platform: str = "", is_master: bool = False, live: bool = True) -> dict[str, Any]:
    """An entry of their dag.json, or without `live` of their seed, which has fewer fields."""
    entry = {
        "hash": row["candidate_hash"],
        "parent_hash": row.get("parent_hash", ""),
        "contributor_id": row.get("worker_id", "scientist"),
        "message": row.get("comment") or row.get("hypothesis", ""),
        "val_bpb": row["val_bpb"],
        "platform": platform,
        "created_at": row.get("created_at", ""),
        "is_master": is_master,
    }
    more = ("job_id", "campaign", "experiment_id", "worker_id", "hypothesis", "status")
    return {**entry, **{name: row.get(name, "") for name in more}} if live else entry


def dag(path: Path, entries: Sequence[Any]) -> Path:
    """A dag.json or dag.seed.json of these entries."""
    return write_json(path, entries)


def specialists(path: Path, rows: Iterable[Row], score: str = "val_bpb") -> Path:
    """results.tsv of the specialist-agents release; rows name the score `score`, whatever its column is called."""
    return _specialists(path, SPECIALISTS, rows, score)


def tree(path: Path, rows: Sequence[Row], score: str = "val_bpb") -> Path:
    """tree.tsv of the same rows: each trial under its parent, so not in the order of time."""
    full = [_trial(number, row) for number, row in enumerate(rows, 1)]
    names = {row["exp_id"] for row in full}
    listed: list[Row] = []

    def visit(parent: str, depth: int, place: str) -> None:
        for row in full:
            if row["parent_exp"] == parent or (not parent and row["parent_exp"] not in names):
                here = f"{place}/{row['exp_id']}" if place else row["exp_id"]
                listed.append({**row, "depth": depth, "path": here})
                visit(row["exp_id"], depth + 1, here)

    visit("", 0, "")
    return _specialists(path, TREE, listed, score)


def own(path: Path, rows: Iterable[Row]) -> Path:
    """Our own research_results.tsv."""
    return table(
        path, COLUMNS, ({"campaign": "c-1", "metric": "val_bpb", "status": "ok", **row} for row in rows)
    )


def clock(number: int) -> str:
    """The time at which the trial with this number ended: one every five minutes."""
    minutes = 5 * number
    return f"2026-03-{14 + minutes // 1440:02d}T{minutes // 60 % 24:02d}:{minutes % 60:02d}:00Z"


def write_json(path: Path, content: Any) -> Path:
    """A JSON file as theirs are written: NaN and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def _run(number: int, row: Row) -> dict[str, Any]:
    return {
        "run_id": f"job-{number}", "job_id": str(number), "created_at": clock(number), "parent_hash": "",
        "training_seconds": 300.1, "total_seconds": 432.0, "hypothesis": f"idea {number}", **TEXT, **row,
    }  # fmt: skip


def _master(row: Row) -> dict[str, Any]:
    kept = ("parent_hash", "val_bpb", "created_at", "job_id", "campaign", "experiment_id", "worker_id", "hypothesis",
            "status", "comment")  # fmt: skip
    record = {name: row.get(name, "") for name in kept}
    message = row.get("comment", "")
    return {
        **record,
        "hash": row["candidate_hash"],
        "message": message,
        "promoted": True,
        "source": "local-results-tsv",
    }


def _trial(number: int, row: Row) -> dict[str, Any]:
    name = f"exp_{number:04d}"
    return {
        "exp_id": name, "timestamp": clock(number), "specialist": "arch", "parent_exp": "",
        "hypothesis": f"idea {number}", "snapshot_path": f"snapshots/{name}", **row,
    }  # fmt: skip


def _specialists(path: Path, columns: Sequence[str], rows: Iterable[Row], score: str) -> Path:
    """Written cell by cell: the score's column can have the name of another one."""
    place = columns.index("delta_vs_best") - 1
    header = [score if here == place else column for here, column in enumerate(columns)]
    lines = ["\t".join(header)]
    for number, row in enumerate(rows, 1):
        full = {**_trial(number, row), "val_bpb": row.get("score", "")}
        lines.append("\t".join(_cell(full.get(column, "")) for column in columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _cell(value: Any) -> str:
    """As their code writes a cell: floats with 12 digits, booleans in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
