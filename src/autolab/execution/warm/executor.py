"""Where cheap measurements run: this machine, in processes that are forked from warm ones."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.execution.bundle import (
    MeasurementResult,
    evaluator_stage,
    infra_error,
    parse_result,
    spec_for,
)
from autolab.execution.data import Data
from autolab.execution.executor import Unstarted, finished, sweep
from autolab.execution.local import Slot, discover_slots
from autolab.execution.measurement import clean_environment
from autolab.execution.sandbox import available
from autolab.execution.syscalls import seccomp_filter
from autolab.execution.warm import script
from autolab.execution.warm.pool import Gone, Lane, Pool
from autolab.ledger.records import Measurement
from autolab.program.hashing import Files
from autolab.task import Task

_FOLDER = "warm"
_LANES_PER_CORE = 2  # one measures, and one has its order: a core does not wait for the lab's thread


class WarmExecutor:
    """This machine: lanes that share its cores, `slots` measurements handed over at once.

    More slots than cores keep the cores busy while the lab is; every measurement still has a core of its own, its time
    begins when it has, and that core's number is the slot that it is recorded with.
    """

    name = "local"

    def __init__(
        self, runs: Path, task: Task, protected: Files, data: Data, secret: str, slots: int | None = None
    ) -> None:
        """Raises LabError, one line, for what would keep every measurement from starting."""
        self.runs, self.task = runs, task
        self.notice: Callable[[str], None] = lambda text: None
        cores = discover_slots(None if slots is None else min(slots, len(os.sched_getaffinity(0))))
        count = len(cores) if slots is None else slots
        self.slots: list[Slot] = [Slot(i, cores[i % len(cores)].cpus) for i in range(count)]
        _check(task, protected)
        base = spec_for(
            task,
            id="",
            seed=0,
            eval_seed=0,
            stage="screen",
            secret=secret,
            sandbox="bubblewrap",
            data=data.directory,
        )
        self._setting: dict[str, Any] = {
            "spec": {**vars(base), "protected": list(protected)},
            "protected": dict(protected),
            "warm": list(task.warm or ()),
            "cores": [list(core.cpus) for core in cores],
        }
        self._lanes = min(count, _LANES_PER_CORE * len(cores))
        self._staged: dict[str, tuple[Files, dict[str, Any] | None]] = {}
        self._waiting: deque[asyncio.Future[Lane]] = deque()
        self._free: list[Lane] = []
        self._renewal: asyncio.Task[None] | None = None
        self._pool = self._start()
        self._pool.wait()
        self._free.extend(self._pool.lanes)

    def _start(self) -> Pool:
        folder = self.runs.resolve() / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        home = os.environ.get("HOME", "/tmp")
        return Pool(folder, self._setting, self._lanes, clean_environment(self._setting["spec"], home))

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Keep what is to be measured at hand; the answer names it, and is no folder."""
        if measurement.stage == "certify":
            spec_for(
                self.task,
                id="",
                seed=0,
                eval_seed=0,
                stage="certify",
                secret="",
                sandbox="bubblewrap",
                data=None,
            )
        if set(program) != set(self.task.editable):
            odd = sorted(set(program) ^ set(self.task.editable))
            raise LabError(f"a program must be exactly the editable files; {odd[0]!r} is missing or too many")
        self._staged[measurement.id] = program, pace
        return self.runs / measurement.id

    async def run(self, bundle: Path, measurement: Measurement, slot: Slot) -> Measurement:
        """Measure on the next free lane. Raises Unstarted if there is none any more: the warm processes died, and
        new ones did not start."""
        program, pace = self._staged[measurement.id]
        request = {
            "id": measurement.id,
            "program": dict(program),
            "seed": measurement.seed,
            "eval_seed": measurement.eval_seed,
            "stage": evaluator_stage(measurement.stage),
            "band": measurement.band,
            "pace": None if pace is None else json.dumps(pace),
        }
        result = await self._result(measurement.id, request)
        return finished(measurement, result, slot.index if result.core is None else result.core)

    async def _result(self, id: str, request: dict[str, Any]) -> MeasurementResult:
        lane = await self._lane()
        try:
            return parse_result(await lane.ask(request), "the pool")
        except Gone:
            return infra_error(id, f"the warm processes died: {self._retire(lane)}"[:200])
        except LabError as error:
            return infra_error(id, str(error)[:200])
        finally:
            if lane in self._pool.lanes:
                self._give(lane)

    async def _lane(self) -> Lane:
        """The next lane that is free. Raises Unstarted."""
        if self._free:
            return self._free.pop()
        self._renew()
        turn: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give(turn.result())
            raise

    def _give(self, lane: Lane) -> None:
        """Let the next one have a lane."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(lane)
                return
        self._free.append(lane)

    def _retire(self, lane: Lane) -> str:
        """Have another pool in place of the one that the lane died with; what that one said when it died."""
        pool = self._pool
        if lane not in pool.lanes:
            return "with another measurement"
        pool.lanes.clear()
        self._free.clear()
        self._renew()
        return pool.last_words()

    def _renew(self) -> None:
        """See to it that a new pool is on its way if the present one died."""
        if not self._pool.lanes and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        """Start a new pool; if that cannot be, who waits for a lane hears why. The next one who asks tries again."""
        try:
            await asyncio.to_thread(self._pool.close)
            pool = self._start()  # not in a thread, which may end before this one
            try:
                await asyncio.to_thread(pool.wait)
            except asyncio.CancelledError:
                pool.close()
                raise
        except Exception as problem:  # of whatever kind: nobody may wait for ever
            reason = f"the warm processes died, and no new ones start: {problem}"
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_exception(Unstarted(reason))
            return
        self._pool = pool
        for lane in pool.lanes:
            self._give(lane)

    def clear(self, measurement: Measurement) -> None:
        """Forget the program of a measurement that is in the ledger."""
        self._staged.pop(measurement.id, None)

    def wind_down(self) -> None:
        """Nothing: no measurement waits for anything but a core."""

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """Nothing: what an earlier process of this lab was measuring died with it, and is measured again."""
        sweep(self.runs, keep=_FOLDER)
        return []


def can_be_warm(task: Task) -> bool:
    """Whether this machine and the task's profile allow what its key `warm` asks for."""
    return (
        task.warm is not None
        and task.kind == "cpu"
        and task.objective == "metric"
        and available()[0] == "bubblewrap"
        and seccomp_filter()
        is not None  # the candidates share a network's namespace: without it, they could talk
    )


def _check(task: Task, protected: Files) -> None:
    """Raise LabError for a task whose commands no forked process can be."""
    for name in ("train", "evaluate"):
        argv = getattr(task.commands, name)
        if argv is None:
            continue
        try:
            command = script.Command(list(argv))
        except ValueError as problem:
            raise LabError(
                f"a warm measurement cannot run commands.{name}: {problem}",
                where="task.yaml",
                mend="use [python, SCRIPT, …], or remove the key `warm`",
            ) from None
        if command.script not in (*task.editable, *task.protected):
            raise LabError(
                f"commands.{name} runs {command.script!r}, which is no file of the task",
                where="task.yaml",
                mend="name it in `editable` or `protected`",
            )
    scorer = next((name for name, text in protected.items() if "AUTOLAB_SCORER" in text), None)
    if scorer is not None:
        raise LabError(
            f"{scorer} asks for a scorer, which a warm measurement has not",
            where="task.yaml: warm",
            mend="let the evaluator read numbers from the artifact, or remove the key `warm`",
        )
