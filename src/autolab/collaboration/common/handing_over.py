"""What planners and workers of a hierarchy tell each other, once a round.

The ledger keeps it, so that nobody is asked again by a campaign that goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace

from autolab.collaboration import Consult, Setting
from autolab.collaboration.common.plans import goal_lines, read_concerns, read_goals
from autolab.harness import Ticket
from autolab.ledger import handovers
from autolab.ledger.records import Trial

MOST_RESULTS = 20  # trials that a worker reports, the newest
LONGEST_HYPOTHESIS = 200

Batch = Mapping[str, Sequence[int]]
"""The trials of a round by their surface."""


class Desk:
    """Where reports are handed in and plans are read. Whoever needs one first asks for it; the others wait."""

    def __init__(self, setting: Setting, collaboration: str) -> None:
        self._collaboration = collaboration
        self._ledger, self._campaign, self._surfaces = setting.ledger, setting.campaign, setting.task.surfaces
        self._goals: dict[str, dict[str, list[str]]] = {}
        self._asking = asyncio.Lock()

    async def goals(
        self, consult: Consult, ticket: Ticket, round: str, surfaces: Sequence[str], before: tuple[str, Batch]
    ) -> dict[str, list[str]]:
        """What each surface's worker is to reach in a round, by the planner, who reads what came of the round `before`;
        without a planner that answers, by what the task says of the surface."""
        if round not in self._goals:
            async with self._asking:
                if round not in self._goals:
                    self._goals[round] = await self._plan(consult, ticket, round, surfaces, before)
        return self._goals[round]

    async def hand_over(self, consult: Consult, ticket: Ticket, round: str, batch: Batch) -> None:
        """Have the workers of a round hand over results, learnings and concerns, if they have not."""
        async with self._asking:
            await self._hand_over(consult, ticket, round, batch)

    def concerns(self, round: str, surface: str) -> tuple[str, ...]:
        """What a surface's worker warned of in a round."""
        return tuple(one.text for one in self._told(round, "concern") if one.surface == surface)

    async def _plan(
        self, consult: Consult, ticket: Ticket, round: str, surfaces: Sequence[str], before: tuple[str, Batch]
    ) -> dict[str, list[str]]:
        described = {surface: self._surfaces.get(surface, "") for surface in surfaces}
        if not any(surfaces):
            return {}
        known = self._told(round, "plan")
        if known:
            return read_goals(known[-1].text, described)
        await self._hand_over(consult, ticket, *before)
        told = [one for one in self._told(before[0]) if one.kind != "plan"]
        notes = tuple(f"{one.surface}, {one.kind}: {one.text}" for one in told)
        wanted = "\n".join(f"{surface}: {text}" for surface, text in described.items())
        words = await consult(replace(ticket, role="planner", surface=None, goal=wanted, notes=notes))
        goals = read_goals(words, described)
        self._add(round, "planner", "", "plan", words.strip() or goal_lines(goals))
        return goals

    async def _hand_over(self, consult: Consult, ticket: Ticket, round: str, batch: Batch) -> None:
        done = {one.surface for one in self._told(round, "handover")}
        missing = deque(surface for surface, trials in batch.items() if trials and surface not in done)

        def report(surface: str) -> Awaitable[bool]:
            return self._report(consult, ticket, round, surface, batch[surface])

        # All at once only if there is somebody to wait for: without a model nothing may wait, not even for an instant,
        # or what a proposer sees would depend on which slot was quicker.
        while missing:
            if await report(missing.popleft()):
                await asyncio.gather(*(report(surface) for surface in missing))
                return

    async def _report(
        self, consult: Consult, ticket: Ticket, round: str, surface: str, trials: Sequence[int]
    ) -> bool:
        """Have one worker report; whether it had words of its own."""
        results = "\n".join(_result(self._ledger.trial(number)) for number in trials[-MOST_RESULTS:])
        asked = replace(ticket, role="worker", surface=surface or None, goal="", notes=(results,))
        words = await consult(asked)
        learnings, concerns = read_concerns(words)
        for kind, text in (("learning", learnings), ("concern", concerns), ("handover", results)):
            if text:
                self._add(round, "worker", surface, kind, text)
        return bool(words)

    def _told(self, round: str, kind: str | None = None) -> list[handovers.Handover]:
        return handovers.of_round(self._ledger, self._campaign, self._named(round), kind)

    def _add(self, round: str, role: str, surface: str, kind: str, text: str) -> None:
        handovers.add(
            self._ledger, self._campaign, round=self._named(round), role=role, kind=kind, text=text,
            surface=surface,
        )  # fmt: skip

    def _named(self, round: str) -> str:
        return f"{self._collaboration}:{round}"


def _result(trial: Trial) -> str:
    outcome = f"{trial.verdict or trial.status or 'under way'}"
    score = f", score {trial.score:.6g}" if trial.score is not None else ""
    return f"{trial.id}: {outcome}{score}: {trial.hypothesis[:LONGEST_HYPOTHESIS]}"
