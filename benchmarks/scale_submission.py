"""CPU of one submission in the lab's own process, with a small and with a large ledger.

A submission is what has to happen before a candidate can be measured: parent choice, ticket, lineage and prompt for
the agent; edits, preflight, the gate against everything tried, claim and queue for its answer. The whole trial is told
as well, with what comes afterwards (record, judge, archive, views), but without the model and the measurement.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scale_task import WRITE, program, write_lab
from toy import fill

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.agents import briefing_of
from autolab.execution.local import Slot
from autolab.harness import Ticket
from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger.records import Measurement, Proposal, Status, Trial
from autolab.program.hashing import Files
from autolab.search.population import Population
from autolab.task import Edit

PARAMS = re.compile(r"^PARAMS = \[(.*)\]$", re.M)
WARM_UP = 40


class Watch:
    """CPU seconds of some of what this process does."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, on this clock."""

        def on_the_clock(*arguments: Any, **named: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - begin

        return on_the_clock


class Instant:
    """Agents that read their prompt and answer at once."""

    name = "chat"
    ahead: int | None = 68

    def __init__(self, lab: Lab, watch: Watch) -> None:
        self._rng = random.Random(0)
        self._prompt = watch.timed(briefing_of(lab, lambda event: None).trial)

    async def consult(self, ticket: Ticket) -> str:
        """Nothing."""
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        """One number of the parent changed."""
        prompt = self._prompt(ticket, can_edit=False)
        await asyncio.sleep(0)
        found = PARAMS.search(prompt)
        assert found is not None
        numbers = [float(x) for x in found[1].split(",")]
        place = self._rng.randrange(len(numbers))
        numbers[place] = round(numbers[place] + self._rng.gauss(0, 0.1), 9)
        edit = Edit(
            path="train.py", search=found[0], replace="PARAMS = [" + ", ".join(map(repr, numbers)) + "]"
        )
        return Proposal(f"number {place} moved to {numbers[place]} comes nearer to the optimum", (edit,))

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """Nothing to remember."""

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """Nothing to learn."""


class Nowhere:
    """An executor that scores at once, in this process."""

    name = "local"

    def __init__(self) -> None:
        self.slots = [Slot(index) for index in range(2)]
        self.notice = lambda text: None
        self._staged: dict[str, Files] = {}

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Remember the program."""
        self._staged[measurement.id] = program
        return Path()

    async def run(self, bundle: Path, measurement: Measurement, slot: object) -> Measurement:
        """The score of the program's numbers."""
        await asyncio.sleep(0)
        found = PARAMS.search(self._staged.pop(measurement.id)["train.py"])
        assert found is not None
        numbers = [float(x) for x in found[1].split(",")]
        far = sum(10 + (x - 1.234) ** 2 - 10 * math.cos(2 * math.pi * (x - 1.234)) for x in numbers)
        now, metrics = time.time(), {"score": 1 / (1 + far), "first": numbers[0]}
        return measurement.replace(
            status=Status.OK,
            metrics=metrics,
            started_at=now,
            finished_at=now,
            sandbox="bubblewrap",
            host="here",
        )

    def clear(self, measurement: Measurement) -> None:
        """Nothing is left."""

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """Nothing to adopt."""
        return []

    def wind_down(self) -> None:
        """Nothing waits."""


def submissions(size: int, count: int) -> tuple[float, float]:
    """CPU milliseconds of a submission and of a whole trial, means of `count`, with `size` programs in the ledger."""
    with TemporaryDirectory(prefix="autolab-submission-") as folder:
        root = write_lab(Path(folder) / "lab", 0.14, 1)
        lab, watch = _lab(root), Watch()
        fill(lab, size, lambda i: program(0.14).replace("0.0]", f"{i / size:.9f}]") + WRITE)
        harness, population = Instant(lab, watch), Population(lab.ledger, lab.campaign, lab.task, "auto", 0)
        for owner, name in ((population, "choose"), (lab, "reserve"), (lab, "ticket"), (lab, "submit")):
            object.__setattr__(owner, name, watch.timed(getattr(owner, name)))
        clock: list[tuple[float, float]] = []

        def heard(event: Any) -> None:
            if event.kind in ("judged", "promoted"):
                clock.append((watch.seconds, time.process_time()))

        limits = Limits(trials=size + WARM_UP + count)
        asyncio.run(CampaignRun(lab, harness, Nowhere(), limits, heard, population=population).run())
    before, after = clock[WARM_UP - 1], clock[-1]
    submission, trial = (
        1000 * (last - first) / (len(clock) - WARM_UP) for first, last in zip(before, after, strict=True)
    )
    return submission, trial


def _lab(root: Path) -> Lab:
    config = {"seed": 0, "window": 5, "harness": "chat", "lineage": "on", "novelty": True}
    return begin_campaign(root, open_lab(root, create=True), name=None, profile="cpu", config=config)
