"""What a campaign asks of a place where measurements run, and the local answer to it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from autolab.errors import LabError
from autolab.execution.bundle import (
    MeasurementResult,
    Sandbox,
    evaluator_stage,
    read_result,
    spec_for,
    write_bundle,
)
from autolab.execution.data import Data
from autolab.execution.local import Slot, discover_slots, measure, reap_orphans
from autolab.execution.sandbox import available
from autolab.ledger.records import Measurement
from autolab.program.hashing import Files
from autolab.task import Task


class Unstarted(LabError):
    """A measurement could not begin, or not be followed to its end, and the campaign ends; a later process goes on
    with it."""


class Executor(Protocol):
    """Where measurements run; `slots` of them at once."""

    name: str
    notice: Callable[[str], None]  # hears what a person should know: why nothing happens just now

    @property
    def slots(self) -> Sequence[Any]:
        """Places for one measurement each; a slot has an `index`."""
        ...

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Write the bundle of a measurement ahead of its start; `pace` is a recorded clock to repeat."""
        ...

    async def run(self, bundle: Path, measurement: Measurement, slot: Any) -> Measurement:
        """Run a bundle to its end; cancelling kills everything that it started. Raises Unstarted if it has to wait
        for what may never come, and the executor was told to wind down, or nothing is left of the budget."""
        ...

    def clear(self, measurement: Measurement) -> None:
        """Forget a bundle whose result is in the ledger."""
        ...

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """After a crash: kill what is left over, and return what had been measured but not recorded."""
        ...

    def wind_down(self) -> None:
        """The campaign is ending: what has begun goes on, but nothing waits for better times."""
        ...


class LocalExecutor:
    """This machine: one runner process for each measurement, on cores or a GPU of its own."""

    name = "local"

    def __init__(
        self, runs: Path, task: Task, protected: Files, data: Data, secret: str, slots: int | None = None
    ) -> None:
        self.runs, self.task, self.protected, self.data, self.secret = runs, task, protected, data, secret
        self.notice: Callable[[str], None] = lambda text: None
        self.slots: list[Slot] = discover_slots(slots, task.kind)
        mode, _ = available()
        self._sandbox: Sandbox = "bubblewrap" if mode == "bubblewrap" else "none"

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Write the bundle under the measurement's name. Raises LabError (a full disk, say)."""
        pace_file = None
        if pace is not None:
            self.runs.mkdir(parents=True, exist_ok=True)
            pace_file = self.runs / f"{measurement.id}.pace.json"
            pace_file.write_text(json.dumps(pace), encoding="utf-8")
        return stage_bundle(
            self.runs, self.task, self.protected, self.secret, measurement, program,
            sandbox=self._sandbox, data=self.data.directory, pace=pace_file,
        )  # fmt: skip

    async def run(self, bundle: Path, measurement: Measurement, slot: Slot) -> Measurement:
        """Run the bundle on the slot; its result stays on the disk until `clear`."""
        return finished(measurement, await measure(bundle, slot), slot.index)

    def clear(self, measurement: Measurement) -> None:
        """Delete a bundle whose result is in the ledger."""
        clear_bundle(self.runs, measurement)

    def wind_down(self) -> None:
        """Nothing: here a measurement begins as soon as it has a slot."""

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """Results that an earlier process of this lab did not live to record; all other leftovers go."""
        if not self.runs.is_dir():
            return []
        reap_orphans(self.runs)
        found = []
        # Without a sandbox the recipe could have written the file itself once its runner was gone.
        for measurement in waiting if self._sandbox == "bubblewrap" else ():
            try:
                result = read_result(self.runs / measurement.id)
            except LabError:
                continue
            if result is not None and result.id == measurement.id:
                found.append(finished(measurement, result, 0))
        sweep(self.runs)
        return found


def sweep(runs: Path, keep: str = "") -> None:
    """Kill and remove whatever an earlier process of the lab left in `runs`, but for the folder `keep`."""
    if runs.is_dir():
        reap_orphans(runs)
        for left in runs.iterdir():
            if left.name != keep:
                _remove(left)


def stage_bundle(
    runs: Path,
    task: Task,
    protected: Files,
    secret: str,
    measurement: Measurement,
    program: Files,
    *,
    sandbox: Sandbox,
    data: Path | None,
    pace: Path | None = None,
    python: str = sys.executable,
) -> Path:
    """Write the bundle of a measurement under its name, in place of an earlier one. Raises LabError, also to
    certify without a sealed split."""
    _remove(runs / measurement.id)
    spec = spec_for(
        task,
        id=measurement.id,
        seed=measurement.seed,
        eval_seed=measurement.eval_seed,
        stage=evaluator_stage(measurement.stage),
        secret=secret,
        sandbox=sandbox,
        data=data,
        pace=pace,
        band=measurement.band,
        python=python,
    )
    return write_bundle(runs / measurement.id, spec, program, protected)


def clear_bundle(runs: Path, measurement: Measurement) -> None:
    """Delete the bundle of a measurement."""
    _remove(runs / measurement.id)
    (runs / f"{measurement.id}.pace.json").unlink(missing_ok=True)


def finished(measurement: Measurement, result: MeasurementResult, slot: int) -> Measurement:
    """The measurement with what the runner found; the score is set when it is recorded."""
    tokens = (result.clock or {}).get("tokens")
    return measurement.replace(
        status=result.status,
        cause=result.cause,
        metrics=result.metrics,
        host=result.host or result.machine,
        sandbox=result.sandbox,
        evidence=result.evidence,
        train_seconds=result.train_seconds,
        train_cpu_seconds=result.train_cpu_seconds,
        eval_seconds=result.eval_seconds,
        peak_memory_mb=result.peak_memory_mb,
        artifact_bytes=result.artifact_bytes,
        tokens=tokens if isinstance(tokens, int) and 0 <= tokens < 2**53 else 0,
        clock=result.clock,
        slot=slot,
        started_at=result.started_at,
        finished_at=result.finished_at,
        log_excerpt=result.log_excerpt,
        curve=result.curve,
        band=(),
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
