"""The default: greedy while that pays, diverse when it does not.

A hill climb is the quickest on a smooth slope, and stuck for ever in a dead end; archives with many places are the
other way round (docs/archives.md). All see the same history, so that it costs nothing to change between them: the
share of trials that branch from the best program follows the progress of the last tenth of the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autolab.search.archives.best import Best
from autolab.search.archives.dns import DominatedNovelty
from autolab.search.archives.elites import Elites
from autolab.search.archives.history import Bounds, History

LOOK_BACK = 0.1  # share of all trials
LEAST = 50  # trials, besides those that are in flight
PLATEAU = 0.003  # progress in that time, as a share of all progress, at which half of the trials are greedy
LITTLE, MOST = 0.1, 1.0  # the least and the largest share of greedy trials
CROWD = (
    0.1  # by how much the largest falls if many are in flight: the same parent again and again teaches little
)


class Auto(Elites):
    """The best program, and the places of Dominated Novelty Search."""

    def __init__(self, bounds: Sequence[Bounds], history: History | None = None) -> None:
        super().__init__(bounds, history)
        self._best = Best(bounds, self.history)
        self._diverse = DominatedNovelty(bounds, self.history)
        self._rise: list[float] = []  # the best objective after each trial

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it is an elite now."""
        kept = [archive.placed(place) for archive in (self._best, self._diverse)]
        self._note()
        return any(kept)

    def add_failed(self, parent: int | None = None) -> None:
        """Tell of a child that gave no score: it counts against its parent."""
        super().add_failed(parent)
        self._note()

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of `n` elites to branch from: the best one, or others, as the search goes."""
        greedy = int(rng.binomial(n, self.greed(in_flight)))
        chosen = self._best.sample_elites(greedy, rng)
        return chosen + self._diverse.sample_elites(n - len(chosen), rng)

    def greed(self, in_flight: int) -> float:
        """The share of trials that are to branch from the best program."""
        trials = len(self._rise)
        # What was chosen in that time must have had time to end: with as many in flight as there are trials, half.
        back = max(LEAST, round(LOOK_BACK * trials)) + min(in_flight, trials // 2)
        most = MOST - CROWD * (1 - 1 / math.sqrt(in_flight))
        if trials <= back:
            return most
        risen = self._rise[-1] - self._rise[0]
        recent = (self._rise[-1] - self._rise[-1 - back]) / risen if risen > 0 else 0.0
        return LITTLE + (most - LITTLE) * recent / (recent + PLATEAU)

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite nearest to these measures."""
        return self._diverse.retrieve(measures)

    def places(self) -> list[int]:
        """Where all elites are in the history."""
        return sorted({*self._best.places(), *self._diverse.places()})

    def _note(self) -> None:
        if self.history.count:
            self._rise.append(float(self.history.objective[self._best.places()[0]]))
