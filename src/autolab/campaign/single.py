"""Measurements outside the loop: a replay, a person's own trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolab.campaign import slots
from autolab.campaign.slots import SlotPool, all_of
from autolab.execution.executor import Executor
from autolab.lab import Lab
from autolab.ledger.records import Measurement, Trial


async def run_all(
    lab: Lab, executor: Executor, wanted: Sequence[tuple[Measurement, dict[str, Any] | None]]
) -> list[Measurement]:
    """Run some measurements outside the loop (a replay, a person's trial), each with the pace to repeat."""
    pool = SlotPool(lab, executor)
    return await all_of([pool.measure(measurement, pace) for measurement, pace in wanted])


async def settle(lab: Lab, executor: Executor, trial: Trial) -> Trial:
    """Measure and judge one submitted trial to its end, whatever of that is still to be done."""
    return await slots.settle(SlotPool(lab, executor), trial)
