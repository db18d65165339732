"""research_results.tsv and research_live_master.json: views of the ledger, always rebuildable.

The table holds one row a finished trial, other labs' included, in the order in which they finished: the same
trials give the same bytes in every lab. A new trial is one appended row, so the cost of a trial does not grow with
the ledger. How far the file reaches is noted in the ledger; if the file is not exactly that long (somebody edited
it, or the lab was killed between the two), or if trials came that finished before its last row (another lab's were
pulled, or the clock was put back), it is written anew to a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from autolab.errors import LabError
from autolab.ledger.masters import master_now, steps
from autolab.ledger.observations import looks, standing
from autolab.ledger.records import Measurement, Promotion, Status, Trial
from autolab.ledger.store import Ledger, ledger_problem

TABLE = "research_results.tsv"
MASTER = "research_live_master.json"
COLUMNS = (
    "trial_id", "created_at", "finished_at", "campaign", "role", "agent", "surface", "parent_id", "program_id",
    "status", "verdict", "metric", "score", "score_ci_low", "score_ci_high", "delta_vs_master", "measurements",
    "train_seconds", "train_tokens", "peak_memory_mb", "cost_usd", "tokens", "executor", "sandbox", "evidence",
    "job_id", "hypothesis", "note",
)  # fmt: skip
HEADER = "\t".join(COLUMNS) + "\n"
CELL = 500


def write_views(ledger: Ledger, root: Path, *, rebuild: bool = False) -> None:
    """Bring both files up to date with the ledger. Safe from any process at any time.

    Raises LabError when the directory cannot be written; the ledger is not touched by that.
    """
    try:
        with _locked(ledger.path.with_name("views.lock")):
            _write_table(ledger, root / TABLE, rebuild)
            _write_master(ledger, root / MASTER, rebuild)
    except OSError as error:
        raise ledger_problem(error, root / TABLE) from None


def row(ledger: Ledger, trial: Trial, measurements: Sequence[Measurement], metric: str) -> str:
    """One line of the table, without the end of line."""
    proposal = trial.proposal
    done = evidence(trial, measurements)
    values: dict[str, Any] = {
        "trial_id": trial.id,
        "created_at": timestamp(trial.created_at),
        "finished_at": timestamp_ms(trial.finished_at or 0.0),
        "campaign": trial.campaign,
        "role": trial.role,
        "agent": trial.agent,
        "surface": trial.surface,
        "parent_id": ledger.trial_id(trial.parent_trial) if trial.parent_trial else "",
        "program_id": trial.program or "",
        "status": trial.status or "",
        "verdict": trial.verdict or "",
        "metric": metric,
        "score": _number(trial.score),
        "score_ci_low": _number(trial.score_low),
        "score_ci_high": _number(trial.score_high),
        "delta_vs_master": _number(trial.delta),
        "measurements": sum(not m.cached_from for m in done),
        "train_seconds": _number(round(sum(m.train_seconds for m in done), 3)),
        "train_tokens": sum(m.tokens for m in done),
        "peak_memory_mb": _number(round(max((m.peak_memory_mb for m in done), default=0.0), 1)),
        "cost_usd": _number((proposal.cost_usd if proposal else 0.0) + sum(m.cost_usd for m in done)),
        "tokens": proposal.tokens if proposal else 0,
        "executor": trial.executor,
        "sandbox": done[-1].sandbox if done else "",
        "evidence": done[-1].evidence if done else "",
        "job_id": (done[-1].job or done[-1].id) if done else "",
        "hypothesis": trial.hypothesis,
        "note": trial.note,
    }
    return "\t".join(cell(values[column]) for column in COLUMNS)


class Ended(Protocol):
    """A measurement, whole or in brief."""

    @property
    def stage(self) -> str: ...
    @property
    def status(self) -> str | None: ...
    @property
    def finished_at(self) -> float: ...


E = TypeVar("E", bound=Ended)


def evidence(trial: Trial, measurements: Sequence[E]) -> list[E]:
    """The finished measurements that a trial was judged by, or will be: nothing that its program is measured for
    afterwards (as a master, say), and of a failed one none that ended later."""
    until = math.inf if trial.finished_at is None else trial.finished_at
    return [
        m for m in measurements
        if m.status is not None and m.stage in ("screen", "replicate", "confirm")
        and (trial.status is Status.OK or m.finished_at <= until)
    ]  # fmt: skip


def cell(value: Any) -> str:
    """Text with no tab, line end or other control character, at most 500 characters."""
    text = str(value)[: 2 * CELL]
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(text.split())[:CELL]


def timestamp(at: float) -> str:
    """UTC, to the second: 2026-01-31T12:00:00Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(at: float) -> int:
    """Unix time in whole milliseconds, as the ledger rounds it too."""
    return int(at * 1000)


def timestamp_ms(at: float) -> str:
    """UTC, to the millisecond: 2026-01-31T12:00:00.123Z; as text it sorts as the time does."""
    seconds, rest = divmod(milliseconds(at), 1000)
    return f"{timestamp(seconds)[:-1]}.{rest:03d}Z"


def master_record(ledger: Ledger, campaign: str, *, sealed: bool = False) -> dict[str, Any]:
    """What research_live_master.json says: the master as it is seen now, its files in full, and the way to it.

    Scores on the sealed split are left out unless `sealed`: agents can read the file, and to search on that split is
    what it is kept from.
    """
    settings = ledger.campaign(campaign)
    chain = steps(ledger, campaign)
    seen = master_now(ledger, campaign, chain)
    measurements = ledger.measurements(seen.trial.number)
    known = looks(ledger, campaign)
    return {
        "campaign": campaign,
        "task": settings.task,
        "comparability_key": settings.key,
        "metric": settings.config["task"]["metric"],
        "trial": seen.trial.id,
        "program": seen.promotion.program,
        "state": seen.state,
        "score": seen.score,
        "score_ci": [seen.low, seen.high],
        "estimated_from": seen.runs,
        "replaced": seen.over.id if seen.over else None,
        "gain": seen.gain,
        "gain_ci": None if seen.gain_low is None else [seen.gain_low, seen.gain_high],
        "noise_sd": seen.noise_sd,
        "noise_df": seen.noise_df,
        "evidence": measurements[-1].evidence if measurements else "",
        "hypothesis": seen.trial.hypothesis,
        "promoted_at": timestamp(seen.promotion.at),
        "reproduce": f"autolab replay {seen.trial.id}",
        "sealed_looks": {
            "count": len(known),
            "looks": [
                {"trial": ledger.trial_id(look.trial), "at": timestamp(look.at), "asked_by": look.asked_by,
                 "status": look.status, **({"score": look.score} if sealed else {})}
                for look in known
            ],
        },
        "chain": [
            {
                "trial": step.trial.id, "program": step.promotion.program, "kind": step.kind, "state": step.state,
                "score": step.promotion.score, "score_ci": [step.promotion.score_low, step.promotion.score_high],
                "gain": step.promotion.gain, "reason": step.promotion.reason, "hypothesis": step.trial.hypothesis,
                "at": timestamp(step.promotion.at),
            }
            for step in chain
        ],
        "files": ledger.program(seen.promotion.program),
    }  # fmt: skip


def _write_table(ledger: Ledger, path: Path, rebuild: bool) -> None:
    reached, length, last = _noted(ledger)
    actual = path.stat().st_size if path.exists() else -1
    if length == 0 and path.is_file() and actual > len(HEADER):
        _keep_aside(path)  # of a ledger that is gone; it may be all that is left of it
    rebuild = rebuild or actual != length or length == 0 or last is None
    new = ledger.table_order(0 if rebuild else reached)
    if not rebuild and not new:
        return
    if not rebuild and last is not None and new[0][:2] <= last:
        rebuild, new = True, ledger.table_order()
    if rebuild:
        with replacing(path) as table:
            table.write(HEADER)
            for line in _lines(ledger, new):
                table.write(line)
    else:
        text = "".join(_lines(ledger, new))
        with open(path, "a", encoding="utf-8", newline="\n") as table:
            table.write(text)
    reached = max((order for *_, order in new), default=0)
    at, name = new[-1][:2] if new else (0, "-")
    ledger.set_meta("table", f"{reached} {path.stat().st_size} {at} {name}")


def _noted(ledger: Ledger) -> tuple[int, int, tuple[int, str] | None]:
    """(finish order reached, bytes of the file, (milliseconds, id) of its last row) when the table was last written."""
    noted = (ledger.meta("table") or "0 0").split()
    last = (
        (int(noted[2]), noted[3]) if len(noted) == 4 else None
    )  # a table of an earlier version has other columns
    return int(noted[0]), int(noted[1]), last


def _keep_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    path.rename(aside)


def _lines(ledger: Ledger, chosen: Sequence[tuple[int, str, int, int]]) -> Iterator[str]:
    metrics: dict[str, str] = {}
    for trial, measurements in ledger.outcomes([number for _, _, number, _ in chosen]):
        if trial.campaign not in metrics:
            metrics[trial.campaign] = ledger.campaign(trial.campaign).config["task"]["metric"]["name"]
        yield row(ledger, trial, measurements, metrics[trial.campaign]) + "\n"


def _write_master(ledger: Ledger, path: Path, rebuild: bool) -> None:
    campaigns = ledger.campaigns()
    promotions = ledger.promotions(campaigns[-1].id) if campaigns else []
    if not promotions:
        if rebuild:
            path.unlink(missing_ok=True)
        return
    version = _master_version(ledger, promotions[-1])
    if not rebuild and path.exists() and ledger.meta("master_view") == version:
        return
    record = json.dumps(master_record(ledger, campaigns[-1].id), indent=2, ensure_ascii=False)
    with replacing(path) as file:
        file.write(record + "\n")
    ledger.set_meta("master_view", version)


def _master_version(ledger: Ledger, newest: Promotion) -> str:
    """What changes whenever the record of the master does: a promotion, its standing, a look at the sealed split."""
    seen = standing(ledger, newest.campaign)
    told = dataclasses.astuple(seen)[1:] if seen is not None else ()
    return " ".join(map(str, (newest.number, len(looks(ledger, newest.campaign)), *told)))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file under a temporary name beside `path`; flushed to the disk and renamed at the end."""
    with (
        _renamed(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing."""
    with _renamed(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A name beside `path` for what takes its place if all goes well. An OSError names `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, each a dict by column. Raises LabError if it is not one of ours."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0] + "\n" != HEADER:
        raise LabError(
            "is not a research_results.tsv of this version", where=str(path), mend="`autolab export`"
        )
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines[1:] if line]
