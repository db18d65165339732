"""A measurement as a folder: write what the runner needs, read back what it found.

The folder is the whole interface between the lab and a runner, wherever that runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autolab.errors import LabError
from autolab.execution.bundle_folder import RESULT, SPEC
from autolab.execution.curve import POINTS
from autolab.ledger.records import Band, Curve, Status
from autolab.task import Task

# What to ship, side by side, to a machine where autolab is not installed; runner.py is the program.
RUNNER_FILES = (
    *("runner.py", "measurement.py", "training.py", "curve.py", "artifact.py", "evaluation.py"),
    *("phase.py", "limits.py", "process_tree.py", "sandbox.py", "syscalls.py"),
    *("bundle_folder.py", "run_log.py", "output.py", "outcome.py", "machine.py"),
)
_RESULT_LIMIT = 4 << 20  # bytes

Stage = Literal["screen", "confirm", "certify"]
Sandbox = Literal["bubblewrap", "none"]


def evaluator_stage(stage: str) -> Stage:
    """What the evaluator is told of a measurement's stage. Only `certify` itself looks at the sealed split, never a
    replay of it."""
    if stage == "certify":
        return "certify"
    return "confirm" if stage.endswith("confirm") else "screen"


@dataclass(frozen=True)
class MeasurementSpec:
    """Everything that a runner must know about one measurement; the content of spec.json.

    `data` is the prepared data folder, `pace` a recorded clock file to replay, `secret` hex digits for
    the evaluator alone. `profile` is the profile's name, which the program gets to know; with `gpu` it sees
    the NVIDIA devices, and only its resident memory is limited. Cores and device are given to the runner when
    a slot is known. `band` is what the recipe's learning curve may not exceed.
    """

    id: str
    python: str
    commands: Mapping[str, list[str] | None]
    editable: list[str]
    budget: Mapping[str, float | int | None]
    metric: Mapping[str, Any]
    seed: int
    eval_seed: int
    stage: Stage = "screen"
    secret: str = ""
    profile: str = "cpu"
    gpu: bool = False
    data: str | None = None
    pace: str | None = None
    sandbox: Sandbox = "bubblewrap"
    environment: Mapping[str, str] = field(default_factory=dict)
    cpus: list[int] | None = None
    band: Band = ()


def spec_for(
    task: Task,
    *,
    id: str,
    seed: int,
    eval_seed: int,
    stage: Stage,
    secret: str,
    sandbox: Sandbox,
    data: Path | None,
    pace: Path | None = None,
    band: Band = (),
    python: str = sys.executable,
) -> MeasurementSpec:
    """The spec of one measurement of a program of `task`. Raises LabError to certify without a sealed split."""
    if stage == "certify" and task.metric.sealed is None:
        raise LabError(
            f"{task.name} has no sealed split to certify on",
            where="task.yaml",
            mend="name what the evaluator reports in that stage in metric.sealed, and begin a new campaign",
        )
    commands = task.commands
    return MeasurementSpec(
        id=id,
        python=python,
        commands={
            "prepare": list(commands.prepare) if commands.prepare else None,
            "train": list(commands.train),
            "evaluate": list(commands.evaluate) if commands.evaluate else None,
        },
        editable=list(task.editable),
        budget=task.budget.model_dump(),
        metric=task.metric.model_dump(mode="json"),
        seed=seed,
        eval_seed=eval_seed,
        stage=stage,
        secret=secret,
        profile=task.profile,
        gpu=task.kind == "gpu",
        data=str(data.resolve()) if data else None,
        pace=str(pace.resolve()) if pace else None,
        band=band,
        sandbox=sandbox,
    )


def write_bundle(
    directory: Path,
    spec: MeasurementSpec,
    program: Mapping[str, str | bytes],
    protected: Mapping[str, str | bytes],
) -> Path:
    """Create the bundle `directory`, complete or not at all, and return its absolute path.

    `program` holds the editable files, `protected` the protected ones; both {relative path: content}.
    Raises LabError if the folder exists already, or if `program` is not exactly the editable files.
    """
    directory = directory.resolve()
    if set(program) != set(spec.editable):
        odd = sorted(set(program) ^ set(spec.editable))
        raise LabError(f"a program must be exactly the editable files; {odd[0]!r} is missing or too many")
    if set(program) & set(protected):
        raise LabError(f"{sorted(set(program) & set(protected))[0]!r} is both editable and protected")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for folder, files in (("workspace", {**program, **protected}), ("pristine", protected)):
            (temporary / folder).mkdir()
            for name, text in files.items():
                path = temporary / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_bytes(text))
        content = {
            **vars(spec),  # not asdict, which copies all that is in it
            "protected": {name: hashlib.sha256(_bytes(text)).hexdigest() for name, text in protected.items()},
        }
        (temporary / SPEC).write_text(json.dumps(content), encoding="utf-8")
        temporary.rename(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise LabError(
            f"cannot write the bundle: {error.strerror}",
            where=str(directory),
            mend="is the disk full, or the name taken?",
        ) from None
    return directory


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


@dataclass(frozen=True)
class MeasurementResult:
    """What the runner found; times in seconds, `metrics` empty unless the status is ok or gate_missed.

    `clock`, `curve`, `cause` and `log_excerpt` come from the measured program: never trust them, only show them.
    `machine` is the kind that it ran on, as the runner saw it; empty in results of older runners. `core` is the number
    of the core that a lane of warm processes measured on.
    """

    id: str
    status: Status
    cause: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    train_seconds: float = 0.0
    train_cpu_seconds: float = 0.0
    eval_seconds: float = 0.0
    eval_cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    artifact_bytes: int = 0
    exit_code: int | None = None
    signal: str | None = None
    host: str = ""
    sandbox: str = "none"
    evidence: str = "measured"
    started_at: float = 0.0
    finished_at: float = 0.0
    clock: dict[str, Any] | None = None
    log_excerpt: str = ""
    curve: Curve = ()
    machine: str = ""
    core: int | None = None


def infra_error(id: str, cause: str) -> MeasurementResult:
    """The result of a measurement that the lab, not the program, failed to make."""
    now = time.time()
    return MeasurementResult(
        id, Status.INFRA_ERROR, cause, host=os.uname().nodename, started_at=now, finished_at=now
    )


def read_result(bundle: Path) -> MeasurementResult | None:
    """The runner's result, or None if there is none yet.

    Raises LabError if measurement.json is not what a runner writes, e.g. after a fault of the disk.
    """
    path = bundle / RESULT
    try:
        with open(path, "rb") as file:
            return parse_result(file.read(_RESULT_LIMIT + 1), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_result(error, str(path)) from None


def parse_result(content: bytes, where: str) -> MeasurementResult:
    """The result in the bytes of a measurement.json. Raises LabError that names `where`."""
    try:
        if len(content) > _RESULT_LIMIT:
            raise ValueError("it is too large")
        raw = json.loads(content)
        if not isinstance(raw, dict):
            raise ValueError("it is not an object")
        return _checked(raw)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _no_result(error, where) from None


def _no_result(error: Exception, where: str) -> LabError:
    return LabError(f"not a measurement: {error}", where=where, mend="remove the file; it is redone")


def _checked(raw: dict[str, Any]) -> MeasurementResult:
    values: dict[str, Any] = {"id": _text(raw, "id"), "status": Status(_text(raw, "status"))}
    for name in ("cause", "host", "sandbox", "evidence", "log_excerpt"):
        values[name] = _text(raw, name)
    values["machine"] = _text({"machine": "", **raw}, "machine")
    for name in (
        *("train_seconds", "train_cpu_seconds", "eval_seconds", "eval_cpu_seconds", "peak_memory_mb"),
        *("started_at", "finished_at"),
    ):
        values[name] = _number(raw.get(name, 0.0), name)
    values["core"] = None if raw.get("core") is None else int(_number(raw["core"], "core"))
    values["artifact_bytes"] = int(_number(raw.get("artifact_bytes", 0), "artifact_bytes"))
    code, signal, clock, metrics = (raw.get(name) for name in ("exit_code", "signal", "clock", "metrics"))
    values["exit_code"] = None if code is None else int(code)
    values["signal"] = None if signal is None else str(signal)
    if clock is not None and not isinstance(clock, dict):
        raise ValueError("clock is not an object")
    if not isinstance(metrics or {}, dict):
        raise ValueError("metrics is not an object")
    values["clock"] = clock
    values["curve"] = _curve(raw.get("curve", []))
    values["metrics"] = {str(name): _number(value, str(name)) for name, value in (metrics or {}).items()}
    return MeasurementResult(**values)


def _curve(raw: Any) -> Curve:
    points = tuple((_number(progress, "progress"), _number(value, "curve")) for progress, value in raw)
    places = [progress for progress, _ in points]
    if len(points) > POINTS or places != sorted(set(places)) or not all(0 <= place <= 1 for place in places):
        raise ValueError("curve does not run from 0 to 1")
    return points


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is not a finite number")
    return float(value)
