"""Measurements outside the loop: a replay, a person's own trial."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from autolab.execution.executor import Executor
from autolab.lab import Lab
from autolab.ledger.records import Measurement, Trial, TrialState


async def run_all(
    lab: Lab, executor: Executor, wanted: Sequence[tuple[Measurement, dict[str, Any] | None]]
) -> list[Measurement]:
    """Run some measurements outside the loop (a replay, a person's trial), each with the pace to repeat."""
    free: asyncio.Queue[Any] = asyncio.Queue()
    for slot in executor.slots:
        free.put_nowait(slot)

    async def one(measurement: Measurement, pace: dict[str, Any] | None) -> Measurement:
        bundle = executor.stage(measurement, lab.program(lab.ledger.trial(measurement.trial)), pace)
        lab.ledger.start_measurement(measurement)
        slot = await free.get()
        try:
            recorded = lab.record(await executor.run(bundle, measurement, slot))
            executor.clear(measurement)
            return recorded
        finally:
            free.put_nowait(slot)

    return await asyncio.gather(*(one(measurement, pace) for measurement, pace in wanted))


async def settle(lab: Lab, executor: Executor, trial: Trial) -> Trial:
    """Measure and judge one submitted trial to its end, whatever of that is still to be done."""
    if trial.state is not TrialState.DONE:
        await run_all(lab, executor, [(m, None) for m in lab.first_measurements(trial) if m.status is None])
        step = lab.advance(trial.number)
        while isinstance(step, Measurement):
            await run_all(lab, executor, [(step, None)])
            step = lab.advance(trial.number)
        return step
    return trial
