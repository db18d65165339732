"""The instant task of the benchmarks: the tests' toy, with a proposer that takes no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from conftest import TASK, TRAIN, write_toy
from scripted import start

from autolab.harness import Ticket
from autolab.lab import Lab
from autolab.ledger.records import Proposal, Status, Trial, Verdict
from autolab.task import Edit

__all__ = ["TASK", "TRAIN", "Instant", "fill", "start", "toy_lab", "write_toy"]


class Instant:
    """Proposes another value each time, a better one now and then."""

    name = "instant"
    ahead: int | None = None

    async def consult(self, ticket: Ticket) -> str:
        """Nothing: there is no model."""
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        """Set RATE to a value that no other trial has."""
        line = next(line for line in ticket.parent_files["train.py"].splitlines() if line.startswith("RATE"))
        value = 0.5 - ticket.ordinal * 1e-7 if ticket.ordinal % 10 else 0.5 + ticket.ordinal * 1e-3
        return Proposal(f"RATE {value}", (Edit(path="train.py", search=line, replace=f"RATE = {value!r}"),))

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """Nothing to remember."""

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """Nothing to learn."""


@contextmanager
def toy_lab(task: str = TASK, train: str = TRAIN) -> Iterator[Path]:
    """A temporary directory with the toy task."""
    with TemporaryDirectory(prefix="autolab-bench-") as directory:
        yield write_toy(Path(directory) / "toy", train=train, task=task)


def fill(lab: Lab, count: int, texts: Callable[[int], str] = lambda i: f"RATE = {i}\n") -> None:
    """Put `count` finished trials into the ledger, as a long campaign would have left them; `texts(i)` is the program
    of the i-th."""
    ledger, campaign = lab.ledger, lab.campaign.id
    worse = lab.task.sign * -0.1
    with ledger.transaction():
        first = next(ledger.sequence(campaign))
        done = ledger.finish_trial(
            first.number, Status.OK, verdict=Verdict.CONFIRMED, score=0.5, interval=(0.49, 0.51)
        )
        ledger.set_campaign(campaign, noise_sd=0.001)
        ledger.promote(done, score=0.5, interval=(0.49, 0.51), gain=0.0, reason="baseline")
        for i in range(count):
            opened = ledger.open_trial(
                campaign,
                role="worker",
                agent="fill",
                surface="",
                parent_program=done.program,
                parent_trial=done.number,
            )
            edit = Edit.model_construct(path="train.py", search="RATE = 0.5", replace=f"RATE = {i}")
            proposal = Proposal(f"RATE {i}", (edit,))
            ledger.queue_trial(opened.number, {"train.py": texts(i)}, proposal)
            measured = lab.needed(ledger.trial(opened.number), "screen")
            ledger.start_measurement(measured)
            score = 0.5 + worse * (1 + i / count)
            metrics = {lab.task.metric.name: score}
            done_now = measured.replace(status=Status.OK, score=score, metrics=metrics, sandbox="bubblewrap")
            ledger.finish_measurement(done_now)
            ledger.finish_trial(
                opened.number,
                Status.OK,
                verdict=Verdict.WORSE,
                score=score,
                interval=(score, score),
                delta=-0.1,
            )
