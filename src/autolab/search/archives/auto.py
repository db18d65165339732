"""The default: greedy while that pays, diverse when it does not.

A hill climb is the quickest on a slope, and stuck for ever in a dead end; archives with many places are the other way
round (docs/archives.md). All see the same history, so that it costs nothing to change between them. The sign of a dead
end is that children of the best program have brought nothing of substance for much longer than they used to take: then
most trials branch from the elites of a grid and of Dominated Novelty Search in turn, until something better is found.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

import numpy as np

from autolab.search.archives.best import Best
from autolab.search.archives.dns import DominatedNovelty
from autolab.search.archives.elites import Elites
from autolab.search.archives.grid import Grid
from autolab.search.archives.history import Bounds, History

SUBSTANCE = 0.01  # a gain is one from this share of all that was gained so far
WAITS = 5  # that are remembered: how many children of the best program each gain took
PATIENCE = 6  # a dead end: so many times their median without a gain, and at least
LEAST = 20  # children besides those in flight
LITTLE, MOST = 0.2, 1.0  # the share of trials that branch from the best program, in a dead end and otherwise
CROWD = (
    0.1  # by how much less otherwise if many are in flight: the same parent again and again teaches little
)


class Auto(Elites):
    """The best program, a grid's elites, and the places of Dominated Novelty Search."""

    def __init__(self, bounds: Sequence[Bounds], history: History | None = None) -> None:
        super().__init__(bounds, history)
        self._best = Best(bounds, self.history)
        self._diverse = (Grid(bounds, self.history), DominatedNovelty(bounds, self.history))
        self._first = self._reached = -math.inf  # objectives: of the first program, and at the last gain
        self._leaders: set[int] = set()  # ids of the best programs since then, and
        self._waited = 0  # their children
        self._waits: deque[int] = deque(maxlen=WAITS)

    def add(
        self, solution_id: int, objective: float, measures: Sequence[float], parent: int | None = None
    ) -> bool:
        """Tell a program that was scored, and the id of the one that it branched from; whether it is an elite now."""
        of_leader = parent in self._leaders
        self._waited += of_leader
        kept = super().add(solution_id, objective, measures, parent)
        gain = objective - self._reached
        if not self._leaders:
            self._first = self._reached = objective
            self._leaders = {solution_id}
        elif gain > 0 and gain >= SUBSTANCE * (objective - self._first):
            if of_leader:  # how long others take says nothing of a climb
                self._waits.append(self._waited)
            self._reached, self._waited, self._leaders = objective, 0, {solution_id}
        elif self._best.elites() == [solution_id]:
            self._leaders.add(solution_id)
        return kept

    def add_failed(self, parent: int | None = None) -> None:
        """Tell of a child that gave no score: it counts against its parent."""
        super().add_failed(parent)
        self._waited += parent in self._leaders

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it is an elite now."""
        kept = [archive.placed(place) for archive in (self._best, *self._diverse)]
        return any(kept)

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of `n` elites to branch from: the best one, or others, as the search goes."""
        chosen: list[int] = []
        for _ in range(n):
            greedy = rng.random() < self.greed(in_flight)
            archive = self._best if greedy else self._diverse[int(rng.integers(len(self._diverse)))]
            chosen += archive.sample_elites(1, rng)
        return chosen

    def greed(self, in_flight: int) -> float:
        """The share of trials that are to branch from the best program."""
        # What was chosen before the last gain comes in after it; with as many in flight as there are trials, half.
        least = LEAST + min(in_flight, self.history.trials // 2)
        usual = statistics.median(self._waits) if self._waits else 0.0
        if self._waited >= least + PATIENCE * usual:
            return LITTLE
        return MOST - CROWD * (1 - 1 / math.sqrt(in_flight))

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite nearest to these measures."""
        return self._diverse[1].retrieve(measures)

    def places(self) -> list[int]:
        """Where all elites are in the history."""
        return sorted({place for archive in (self._best, *self._diverse) for place in archive.places()})
