"""A proposer that follows a script, and a short way to run a campaign with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from autolab.campaign.loop import CampaignRun, Event, Limits
from autolab.cli.executors import local_executor
from autolab.harness import Exhausted, Ticket
from autolab.lab import Lab, begin_campaign, open_lab, resume_campaign
from autolab.ledger.records import Proposal, Trial
from autolab.task import Edit


class Scripted:
    """Proposes the n-th value of a script for the n-th trial: RATE becomes that value, whatever it was."""

    name = "scripted"
    ahead: int | None = None

    def __init__(self, script: Sequence[object]) -> None:
        self.script = script
        self.told: list[tuple[int, str]] = []
        self.seen: dict[int, int] = {}

    async def consult(self, ticket: Ticket) -> str:
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        step = ticket.ordinal - 1
        self.seen[ticket.ordinal] = len(self.told)
        if step >= len(self.script):
            raise Exhausted("the script is over")
        wanted = self.script[step]
        if isinstance(wanted, Proposal):
            return wanted
        (line,) = [line for line in ticket.parent_files["train.py"].splitlines() if line.startswith("RATE")]
        return Proposal(f"RATE {wanted}", (Edit(path="train.py", search=line, replace=f"RATE = {wanted}"),))

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        pass

    def tell(self, trial: Trial, noise_sd: float) -> None:
        self.told.append((trial.ordinal, str(trial.verdict or trial.status)))


def start(directory: Path, seed: int = 0, window: int = 4) -> Lab:
    """Begin a campaign in a directory, or go on with the one that is there."""
    ledger = open_lab(directory, create=True)
    if ledger.campaigns():
        return resume_campaign(directory, ledger, ledger.campaign())
    return begin_campaign(
        directory, ledger, name=None, profile="cpu", config={"seed": seed, "window": window}
    )


def search(
    directory: Path,
    script: Sequence[object],
    *,
    limits: Limits | None = None,
    slots: int = 2,
    seed: int = 0,
    listener: Callable[[CampaignRun, Event], None] | None = None,
) -> tuple[Lab, Scripted, str]:
    """Run a campaign with a script to its end; returns the lab, the proposer and why it ended."""  # fmt: skip
    lab = start(directory, seed)
    harness = Scripted(script)
    work = CampaignRun(lab, harness, local_executor(lab, slots), limits or Limits(trials=len(script)))
    if listener is not None:
        hear = listener
        work.listener = lambda event: hear(work, event)
    reason = asyncio.run(work.run())
    return lab, harness, reason


def outcome(lab: Lab) -> list[tuple[object, ...]]:
    """What a campaign found, trial by trial, without names and times."""
    name = lab.ledger.meta("lab") or ""
    ids = {trial.number: trial.ordinal for trial in lab.ledger.sequence(lab.campaign.id)}
    return [
        (
            t.ordinal,
            t.status,
            t.verdict,
            t.score,
            t.program,
            ids.get(t.parent_trial or -1),
            t.note.replace(name, "lab"),
        )
        for t in lab.ledger.trials(lab.campaign.id)
    ]
