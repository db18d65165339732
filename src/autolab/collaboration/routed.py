"""A router: starts broad, escalates to a team, and learns which choices bring confirmed gain for their cost.

Shen et al. (arXiv 2603.29632) find that parallel subagents do best in short budgets, where many shallow trials count,
and that a team's deeper changes pay in longer ones; they conclude that one should choose by budget and complexity, as
a campaign goes. Here:

    broad (a swarm, or subagents) is always among the choices
    a team is, too, if nothing was promoted for a while (a plateau), if the surface that is up is structural, or if one
        run's budget is long
    among the choices, and among surfaces and models, Thompson sampling decides (`common/bandit.py`)

What was begun is finished first: a merge or a repair that is due, a round that is not full. Each collaboration has its
own module and is told of its own trials only; a trial's `round` begins with its name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autolab.collaboration import Ask, Assignment, Collaboration, Consult, Setting, subagents, swarm, team
from autolab.collaboration.common.bandit import Bandit
from autolab.collaboration.common.surfaces import expert, touched
from autolab.harness import Ticket
from autolab.ledger.records import PROMOTED, Proposal, Trial
from autolab.task import Task

BROAD, DEEP = (swarm, subagents), (team,)
STRUCTURAL = ("architecture", "systems")
LONG_SECONDS = 600.0  # of one training run: where the paper's teams caught up
PLATEAU = 3  # rounds of all agents without a promotion


class Collaborators:
    """A swarm, subagents and a team, of which one gets each trial."""

    name = "routed"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._parts: dict[str, Collaboration] = {
            module.Collaborators.name: module.Collaborators(setting) for module in (*BROAD, *DEEP)
        }
        self._broad = [module.Collaborators.name for module in BROAD]
        self._deep = [module.Collaborators.name for module in DEEP]
        surfaces = ("", *setting.task.surfaces)
        self._roles = {surface: expert(setting, surface) if surface else "worker" for surface in surfaces}
        self._long = _seconds(setting.task) >= LONG_SECONDS
        self._bandit = Bandit()
        self._chosen: dict[int, Assignment] = {}  # of the trials under way
        self._begun: dict[str, str] = {}  # the newest round of each part
        self._opened = 0
        self._newest = self._promoted = 0  # ordinals: the newest trial that ended, and the newest promotion

    def assign(self) -> Assignment | None:
        """What is due of something that was begun, else a draft as the bandit draws it."""
        rng = np.random.default_rng([self._setting.seed, self._opened])
        model = self._bandit.ranked("model", self._setting.models or ("",), rng)[0]
        (surface, *_) = self._bandit.ranked("surface", list(self._roles), rng)
        offers = {name: offer for name, part in self._parts.items() if (offer := part.assign())}
        due = [name for name, offer in offers.items() if self._is_due(name, offer)]
        open_to = [*self._broad, *(self._deep if self._escalates(surface) else [])]
        drawn = self._bandit.ranked("collaboration", open_to, rng)
        name = next((name for name in (*due, *drawn) if name in offers), None)
        if name is None:
            return None
        offer = offers[name]
        if name == swarm.Collaborators.name and not self._setting.generic:
            offer = replace(offer, role=self._roles[surface], surface=surface)
        return replace(offer, round=f"{name}:{offer.round}", model=model)

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """The part that has the trial learns of it."""
        name, inner = _inner(assignment)
        if name not in self._parts:  # of another collaboration
            return
        self._opened += 1
        self._chosen[trial.number] = assignment
        self._begun[name] = inner.round
        self._parts[name].opened(trial, inner)

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """As the part that has the trial does."""
        name, inner = _inner(assignment)
        if name not in self._parts:
            return await ask(ticket)
        return await self._parts[name].propose(ask, consult, ticket, inner)

    def tell(self, trial: Trial) -> None:
        """What it brought and cost, for the choices that were made for it."""
        assignment = self._chosen.pop(trial.number, None)
        if assignment is None:
            return
        name, _ = _inner(assignment)
        self._parts[name].tell(trial)
        promoted = trial.verdict in PROMOTED
        self._newest = max(self._newest, trial.ordinal)
        self._promoted = max(self._promoted, trial.ordinal if promoted else 0)
        measured = self._setting.ledger.measurements(trial.number)
        dollars = sum(one.cost_usd for one in measured) + (trial.proposal.cost_usd if trial.proposal else 0.0)
        surfaces = (touched(trial.proposal) if trial.proposal else ()) or (assignment.surface,)
        choices = {"collaboration": [name], "surface": surfaces, "model": [assignment.model]}
        gain = max(trial.delta or 0.0, 0.0) if promoted else 0.0
        self._bandit.learn(choices, gain, dollars, max(1, len(measured)))

    def _escalates(self, surface: str) -> bool:
        plateau = self._newest - self._promoted >= PLATEAU * max(self._setting.agents, 4)
        return plateau or self._long or surface in STRUCTURAL

    def _is_due(self, name: str, offer: Assignment) -> bool:
        return bool(offer.of) or (offer.round != "" and offer.round == self._begun.get(name))


def _inner(assignment: Assignment) -> tuple[str, Assignment]:
    """The part that an assignment is of, and the assignment as that part made it."""
    name, _, own = assignment.round.partition(":")
    return name, replace(assignment, round=own)


def _seconds(task: Task) -> float:
    """How long one run trains; 0 where only tokens are counted."""
    budget = task.budget
    if budget.cpu_seconds is not None:
        return budget.cpu_seconds
    return budget.wall_seconds if budget.tokens is None else 0.0
