"""CPU of one submission in the lab's own process, with a small and with a large ledger.

Everything that the lab does for a trial is in it (parent choice, lineage, prompt, ticket, edits, preflight, claims,
queue, record, judge, archive), but for the model, the measurement and the views.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Sequence
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


class Instant:
    """Agents that read their prompt and answer at once."""

    name = "chat"
    ahead: int | None = 68

    def __init__(self, lab: Lab) -> None:
        self._rng = random.Random(0)
        self._briefing = briefing_of(lab, lambda event: None)

    async def consult(self, ticket: Ticket) -> str:
        """Nothing."""
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        """One number of the parent changed."""
        prompt = self._briefing.trial(ticket, can_edit=False)
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


def submissions(size: int, count: int) -> float:
    """CPU milliseconds of a submission, the mean of `count`, with `size` programs in the ledger."""
    with TemporaryDirectory(prefix="autolab-submission-") as folder:
        root = write_lab(Path(folder) / "lab", 0.14, 1)
        lab = _lab(root)
        fill(lab, size, lambda i: program(0.14).replace("0.0]", f"{i / size:.9f}]") + WRITE)
        harness, population = Instant(lab), Population(lab.ledger, lab.campaign, lab.task, "auto", 0)
        clock: list[float] = []

        def heard(event: Any) -> None:
            if event.kind in ("judged", "promoted"):
                clock.append(time.process_time())

        limits = Limits(trials=size + WARM_UP + count)
        asyncio.run(CampaignRun(lab, harness, Nowhere(), limits, heard, population=population).run())
    return 1000 * (clock[-1] - clock[WARM_UP - 1]) / (len(clock) - WARM_UP)


def _lab(root: Path) -> Lab:
    config = {"seed": 0, "window": 5, "harness": "chat", "lineage": "on", "novelty": True}
    return begin_campaign(root, open_lab(root, create=True), name=None, profile="cpu", config=config)
