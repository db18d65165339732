"""The executor's slots, shared by whatever wants to measure at the same time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from autolab.execution.executor import Executor, Unstarted
from autolab.judging.course import advance
from autolab.lab import Lab
from autolab.ledger.records import Measurement, Trial, TrialState

URGENT, ORDINARY = 0, 1


class Closed(Exception):
    """The slots take nothing new any more; what was asked for stays to be done by a later process."""


class SlotPool:
    """Hands slots out one by one: what a decision waits for first, else in the order in which they were asked for.

    `listener` hears of each measurement that is `started` and `measured`.
    """

    def __init__(
        self,
        lab: Lab,
        executor: Executor,
        listener: Callable[[str, Measurement], None] = lambda kind, measurement: None,
    ) -> None:
        self.lab, self.executor, self.listener = lab, executor, listener
        self.running: dict[int, Measurement] = {}
        self._free: list[Any] = list(executor.slots)
        self._waiting: list[tuple[int, int, asyncio.Future[Any]]] = []
        self._under_way: dict[str, asyncio.Task[Measurement]] = {}
        self._count = itertools.count()
        self._paused = self._closed = False

    async def measure(self, measurement: Measurement, pace: dict[str, Any] | None = None) -> Measurement:
        """Run one measurement as soon as a slot is free, and record it; `pace` is a recorded clock to repeat. What two
        trials want (the sealed score of the master that both replace, say) is measured once.

        Raises Closed if it had not begun when the slots were closed, LabError if it may not begin.
        """
        if measurement.id in self._under_way:
            return await asyncio.shield(self._under_way[measurement.id])
        task = asyncio.ensure_future(self._measure(measurement, pace))
        self._under_way[measurement.id] = task
        try:
            return await task
        finally:
            del self._under_way[measurement.id]

    async def _measure(self, measurement: Measurement, pace: dict[str, Any] | None) -> Measurement:
        slot = await self._take(ORDINARY if measurement.stage == "screen" else URGENT)
        try:
            program = self.lab.program(self.lab.ledger.trial(measurement.trial))
            bundle = self.executor.stage(measurement, program, pace)
            self.lab.ledger.start_measurement(measurement)
            self.running[slot.index] = measurement.replace(started_at=time.time(), slot=slot.index)
            self.listener("started", self.running[slot.index])
            result = await self.executor.run(bundle, measurement, slot)
        except Unstarted:
            if self._closed:
                raise Closed from None
            raise
        finally:
            self.running.pop(slot.index, None)
            self._give(slot)
        recorded = self.lab.record(result)
        self.executor.clear(measurement)
        self.listener("measured", recorded)
        return recorded

    def pause(self) -> None:
        """Start nothing new until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        self._hand_out()

    def close(self) -> None:
        """Start nothing new any more; whoever waits for a slot gets Closed, what runs goes on to its end."""
        self._closed = True
        self.executor.wind_down()
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Closed())
        self._waiting.clear()

    async def _take(self, priority: int) -> Any:
        if self._closed:
            raise Closed
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._count), future))
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give(future.result())  # handed out at the very moment of being cancelled
            raise

    def _give(self, slot: Any) -> None:
        self._free.append(slot)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting and not self._paused:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(self._free.pop(0))


async def settle(pool: SlotPool, trial: Trial) -> Trial:
    """Measure and judge one submitted trial to its end, whatever of that is still to be done. Raises Closed."""
    if trial.state is TrialState.DONE:
        return trial
    await all_of(pool.measure(m) for m in pool.lab.first_measurements(trial) if m.status is None)
    step = advance(pool.lab, trial.number)
    while not isinstance(step, Trial):
        await all_of(pool.measure(measurement) for measurement in step)
        step = advance(pool.lab, trial.number)
    return step


async def all_of(measuring: Iterable[Awaitable[Measurement]]) -> list[Measurement]:
    """The results of several measurements; if one fails, that is raised when the others have ended."""
    found: list[Measurement] = []
    for result in await asyncio.gather(*measuring, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
