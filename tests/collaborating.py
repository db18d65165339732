"""Plays the campaign's loop around a collaboration: a real ledger and real programs, agents and outcomes by rule."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from conftest import TASK, write_toy
from scripted import start

from autolab.collaboration import Assignment, Collaboration, Setting
from autolab.collaboration.choosing import collaboration_class
from autolab.harness import Exhausted, NoProposal, Ticket
from autolab.ledger.records import Proposal, Status, Trial, TrialState, Verdict
from autolab.program.edits import apply_edits
from autolab.task import Edit

CONSTANTS = 200
PROGRAM = '"""Many numbers."""\n' + "".join(f"X{place} = 0\n" for place in range(CONSTANTS))
SURFACES = '{architecture: "shape", optimizer: "rates", systems: "speed", loss: "what"}'
BASELINE_SCORE = 10.0  # minimised
Rule = Callable[[Ticket], Proposal]


def set_constant(ticket: Ticket, place: int, value: int, **fields: object) -> Proposal:
    """A proposal that sets one of the program's numbers."""
    (line,) = re.findall(rf"^X{place} = .*$", ticket.parent_files["train.py"], re.MULTILINE)
    edits = (Edit(path="train.py", search=f"\n{line}\n", replace=f"\nX{place} = {value}\n"),)
    said = Proposal(f"X{place} to {value}", edits, surface=ticket.surface or "", tokens=7, cost_usd=0.25)
    return replace(said, **fields)  # type: ignore[arg-type]


def own_constant(ticket: Ticket) -> Proposal:
    """Every trial changes another number, so that all of them go together."""
    return set_constant(ticket, ticket.number % CONSTANTS, ticket.number)


class Play:
    """One campaign with one collaboration."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        agents: int = 4,
        surfaces: str = SURFACES,
        rule: Rule = own_constant,
        words: Callable[[Ticket], str] = lambda ticket: "",
        seed: int = 0,
        models: tuple[str, ...] = (),
        generic: bool = False,
    ) -> None:
        task = re.sub(r"surfaces: .*", f"surfaces: {surfaces}", TASK)
        self.lab = start(write_toy(root, train=PROGRAM, task=task))
        self.ledger, self.campaign = self.lab.ledger, self.lab.campaign.id
        self.rule, self.words = rule, words
        self.setting = Setting(
            self.lab.task, self.ledger, self.campaign, seed, agents, models=models, generic=generic
        )
        self.collaboration: Collaboration = collaboration_class(name)(self.setting)
        self.asked: dict[int, Assignment] = {}
        self.tickets: list[Ticket] = []
        self.consulted: list[Ticket] = []
        self.events: list[tuple[str, int]] = []
        baseline = next(self.ledger.sequence(self.campaign))
        self.baseline = baseline.number
        self._end(baseline.number, Status.OK, BASELINE_SCORE, Verdict.CONFIRMED, 0.0)

    # what the loop does -------------------------------------------------------------------------------

    def open(self) -> int | None:
        """Open the trial that is assigned next; None if the collaboration waits."""
        asked = self.collaboration.assign()
        if asked is None:
            return None
        assert self.collaboration.assign() == asked, "asking changes nothing"
        master = self.ledger.master(self.campaign)
        parent = asked.parent if asked.parent is not None else master.trial
        trial = self.ledger.open_trial(
            self.campaign, role=asked.role, agent="scripted", surface=asked.surface,
            parent_program=self.ledger.trial(parent).program, parent_trial=parent,
        )  # fmt: skip
        self.asked[trial.number] = asked
        self.collaboration.opened(trial, asked)
        self.events.append(("opened", trial.number))
        return trial.number

    def fill(self, window: int) -> list[int]:
        """Open trials until the window is full or the collaboration waits."""
        found: list[int] = []
        while len(self.under_way()) < window and (number := self.open()) is not None:
            found.append(number)
        assert self.under_way(), "it waits, and nothing is under way"
        return found

    async def bring(self, number: int) -> Proposal | None:
        """Have a trial proposed, and queue it; None if it came to nothing."""
        trial = self.ledger.trial(number)
        ticket = self.lab.ticket(trial)
        try:
            proposal = await self.collaboration.propose(self.ask, self.consult, ticket, self.asked[number])
        except (NoProposal, Exhausted) as reason:
            self.ledger.finish_trial(number, Status.PROPOSAL_FAILED, note=str(reason))
            return None
        files = apply_edits(ticket.parent_files, proposal.edits)
        if self.ledger.queue_trial(number, files, proposal) is not None:
            self.ledger.finish_trial(number, Status.DUPLICATE)
        return proposal

    def propose(self, *numbers: int) -> list[Proposal | None]:
        """Have trials proposed, all at once."""

        async def all_of_them() -> list[Proposal | None]:
            return await asyncio.gather(*(self.bring(number) for number in numbers))

        return asyncio.run(all_of_them())

    def end(
        self, number: int, score: float | None = None, status: Status = Status.OK, *, promoted: bool = False
    ) -> Trial:
        """End a trial, and tell."""
        if self.ledger.trial(number).state is not TrialState.DONE:
            verdict = Verdict.CONFIRMED if promoted else Verdict.NO_DIFFERENCE
            scored = status is Status.OK
            self._end(number, status, score if scored else None, verdict if scored else None, 0.5)
        trial = self.ledger.trial(number)
        self.collaboration.tell(trial)
        self.events.append(("told", number))
        return trial

    def run(self, number: int, score: float | None = None, status: Status = Status.OK, **more: bool) -> Trial:
        """One trial from its proposal to its end."""
        self.propose(number)
        return self.end(number, score, status, **more)

    def under_way(self) -> list[int]:
        """The trials that were opened and of which nothing was told yet."""
        told = {number for event, number in self.events if event == "told"}
        return [number for number in self.asked if number not in told]

    # resuming -----------------------------------------------------------------------------------------

    def again(self, by_number: bool = False) -> Collaboration:
        """A new collaboration that was told everything, as it happened or trial by trial."""
        fresh = collaboration_class(self.collaboration.name)(self.setting)
        events = self.events
        if by_number:
            told = {number for event, number in events if event == "told"}
            events = [
                (event, number) for number in self.asked for event in ("opened", "told")
                if event == "opened" or number in told
            ]  # fmt: skip
        for event, number in events:
            trial = self.ledger.trial(number)
            if event == "opened":
                fresh.opened(trial, self.asked[number])
            else:
                fresh.tell(trial)
        return fresh

    # agents -------------------------------------------------------------------------------------------

    async def ask(self, ticket: Ticket) -> Proposal:
        """An agent's proposal, as the rule says."""
        self.tickets.append(ticket)
        await asyncio.sleep(0)
        return self.rule(ticket)

    async def consult(self, ticket: Ticket) -> str:
        """An agent's words."""
        self.consulted.append(ticket)
        await asyncio.sleep(0)
        return self.words(ticket)

    def _end(
        self, number: int, status: Status, score: float | None, verdict: Verdict | None, delta: float
    ) -> None:
        interval = None if score is None else (score, score)
        trial = self.ledger.finish_trial(
            number, status, score=score, verdict=verdict, interval=interval, delta=delta
        )
        if verdict is Verdict.CONFIRMED and score is not None:
            self.ledger.promote(trial, score=score, interval=(score, score), gain=delta, reason="test")


def parts(play: Play, numbers: Sequence[int]) -> list[str]:
    """What trials were asked to be."""
    return [play.asked[number].part for number in numbers]
