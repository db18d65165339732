"""Planners over workers over subagents: surfaces with goals, isolated searches, and a synthesis of what they found.

After Aster (asterlab.ai, "Scaling autonomous research to thousands of agents"; arXiv 2602.07040), with the handing over
of learnings and concerns as in AutoScientists (arXiv 2605.28655):

    base := the best program
    a planner gives each worker a surface and goals for it
    each worker runs many subagents, on its surface only and apart from the others:
        each starts from the best program of this worker's so far, at first from the base
    workers hand over results, learnings and concerns
    planners put the best programs of the surfaces together and have that measured
    base := that, if it is better than the master; else the master

Since a worker sees one surface, what its programs gain has one cause. Nobody waits: a round's search is over when
enough of its trials have *ended*, so stragglers hold up nothing; and while the synthesis is measured, the workers go on
with what they have. Those trials are judged like all others, only the synthesis was too early for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from autolab.collaboration import Ask, Assignment, Consult, Setting
from autolab.collaboration.common.handing_over import Desk
from autolab.collaboration.common.merging import combine, gain_over
from autolab.collaboration.common.surfaces import expert
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Status, Trial

WAVES = 3  # how many subagents a worker has one after the other, for each that it has at once
DRAFT, SYNTHESIS = "draft", "synthesis"


@dataclass
class _Worker:
    """One surface in one round. `best` is its archive: the gain over the round's base, and minus the trial's number."""

    trials: list[int] = field(default_factory=list)
    best: tuple[float, int] | None = None


@dataclass
class _Round:
    number: int
    workers: dict[str, _Worker]
    base: int | None
    under_way: dict[int, str] = field(default_factory=dict)  # trial -> surface, of drafts
    ended: int = 0
    synthesis: int | None = None  # the trial, once it is opened
    synthesised: Trial | None = None  # the same, once it has ended

    def winners(self) -> tuple[int, ...]:
        """The best trial of each surface that has one, the best of all first."""
        found = sorted((worker.best for worker in self.workers.values() if worker.best), reverse=True)
        return tuple(-number for _, number in found)

    def batch(self) -> dict[str, list[int]]:
        """The trials of each worker."""
        return {surface: worker.trials for surface, worker in self.workers.items()}


class Collaborators:
    """Workers on surfaces, in rounds."""

    name = "hierarchy"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._surfaces = list(setting.task.surfaces) or [""]
        self._roles = {surface: expert(setting, surface) for surface in self._surfaces}
        self._workers = min(len(self._surfaces), max(2, setting.agents))
        self._batch = WAVES * max(setting.agents, self._workers)  # trials of a round
        nothing = _Round(0, {}, None, ended=self._batch)  # it is over, and the first one is next
        self._round = self._before = nothing
        self._desk = Desk(setting, self.name)

    def assign(self) -> Assignment | None:
        """The synthesis if it is due, else the next subagent."""
        now = self._round
        if now.ended < self._batch:
            return self._draft(now)
        winners = now.winners()
        if now.synthesised is not None or (now.synthesis is None and len(winners) < 2):
            return self._draft(self._begin(now.number + 1, self._base_after(now)))
        if now.synthesis is None:
            return Assignment("coordinator", "", now.base, round=str(now.number), part=SYNTHESIS, of=winners)
        return self._draft(now)

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """A round's first trial fixes its base; one of an earlier round is only late."""
        if not assignment.round.isdecimal():  # of another collaboration
            return
        number = int(assignment.round)
        if number > self._round.number:
            self._before, self._round = self._round, self._begin(number, trial.parent_trial)
        if number < self._round.number:
            return
        if assignment.part == SYNTHESIS:
            self._round.synthesis = trial.number
        elif assignment.surface in self._round.workers:
            self._round.workers[assignment.surface].trials.append(trial.number)
            self._round.under_way[trial.number] = assignment.surface

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """A subagent's own change towards one of its worker's goals, or the surfaces' best programs as one."""
        now, before = self._round, self._before
        if not assignment.round.isdecimal():
            return await ask(ticket)
        if assignment.part == SYNTHESIS:
            if assignment.round == str(now.number):
                await self._desk.hand_over(consult, ticket, assignment.round, now.batch())
            return await combine(self._setting, ask, ticket, assignment.of)
        last = str(int(assignment.round) - 1)
        surfaces = self._surfaces_of(int(assignment.round))
        batch = before.batch() if last == str(before.number) else {}
        goals = await self._desk.goals(consult, ticket, assignment.round, surfaces, (last, batch))
        own = goals.get(assignment.surface, [])
        goal = own[ticket.ordinal // len(surfaces) % len(own)] if own else ""
        warned = self._desk.concerns(last, assignment.surface)
        return await ask(replace(ticket, goal=goal, notes=(*ticket.notes, *warned)))

    def tell(self, trial: Trial) -> None:
        """A draft may be the best of its surface; what comes after its round was over changes nothing more."""
        now = self._round
        if trial.number == now.synthesis:
            now.synthesised = trial
        surface = now.under_way.pop(trial.number, None)
        if surface is None:
            return
        now.ended += 1
        gain = gain_over(self._setting, trial, now.base)
        if gain is not None:
            worker = now.workers[surface]
            worker.best = max(worker.best or (0.0, 0), (gain, -trial.number))

    def _surfaces_of(self, number: int) -> list[str]:
        """The surfaces of a round: all, or as many as there are workers, in turn."""
        first = (number - 1) * self._workers
        return [self._surfaces[(first + place) % len(self._surfaces)] for place in range(self._workers)]

    def _begin(self, number: int, base: int | None) -> _Round:
        return _Round(number, {surface: _Worker() for surface in self._surfaces_of(number)}, base)

    def _draft(self, now: _Round) -> Assignment:
        """The next subagent: of the worker that had the fewest, from the best of its own."""
        surface = min(now.workers, key=lambda name: len(now.workers[name].trials))
        best = now.workers[surface].best
        parent = -best[1] if best else now.base
        return Assignment(self._roles[surface], surface, parent, round=str(now.number), part=DRAFT)

    def _base_after(self, ended: _Round) -> int | None:
        """What the next round starts from: the synthesis if it is better than the master."""
        master, found = self._setting.ledger.newest_promotion(self._setting.campaign), ended.synthesised
        if master is None:
            return None
        if found is not None and found.status is Status.OK and found.score is not None:
            return found.number if self._setting.task.better(found.score, master.score) else master.trial
        return master.trial
