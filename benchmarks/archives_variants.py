"""What was tried of Cluster-Elites, and the rank-weighted grid that it is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autolab.search.archives import Archive
from autolab.search.archives.clusters import Clusters
from autolab.search.archives.elites import Elites
from autolab.search.archives.grid import Grid

BOUNDS = [None, None]
GREED = 8


class _ByRank(Elites):
    """Parents by rank alone: no age, no offspring."""

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of elites; the chances fall exponentially, the mean rank is an eighth of their number."""
        places = self.places()
        ranked = sorted(places, key=lambda place: (-self.history.objective[place], -place))
        ranks = np.minimum(rng.exponential(max(1.0, len(ranked) / GREED), n).astype(int), len(ranked) - 1)
        return [int(self.history.ids[ranked[rank]]) for rank in ranks]


class GridByRank(_ByRank, Grid):
    """The reference: MAP-Elites with a rank-weighted parent choice."""


class ClustersByRank(_ByRank, Clusters):
    """Cluster-Elites with the reference's parent choice."""


class Curious(Clusters):
    """Parents by curiosity (Cully and Demiris 2018): an elite's score rises when a child finds a place and falls when
    it does not; chances are in proportion to it."""

    def __init__(self, bounds: Sequence[None], niches: int = 64) -> None:
        super().__init__(bounds, niches=niches)
        self._score: dict[int, float] = {}

    def add(
        self, solution_id: int, objective: float, measures: Sequence[float], parent: int | None = None
    ) -> bool:
        """As everywhere; and the parent's score changes."""
        won = super().add(solution_id, objective, measures, parent)
        if parent is not None:
            before = self._score.get(parent, 1.0)
            self._score[parent] = before + 1.0 if won else max(0.05, before - 0.5)
        return won

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of elites."""
        ids = self.elites()
        chance = np.array([self._score.get(one, 1.0) for one in ids])
        picked = np.minimum(
            np.searchsorted(np.cumsum(chance), rng.random(n) * chance.sum(), "right"), len(ids) - 1
        )
        return [ids[at] for at in picked]


class Seldom(Clusters):
    """Niches that are made anew only when the history has doubled, and stay where they are meanwhile."""

    def due(self) -> bool:
        """Whether the niches are to be made anew."""
        return self.history.count <= 32 or self.history.count >= 2 * self._clustered


VARIANTS: dict[str, Callable[[], Archive]] = {
    "grid-rank": lambda: GridByRank(BOUNDS),
    "clusters-rank": lambda: ClustersByRank(BOUNDS),
    "clusters-16": lambda: Clusters(BOUNDS, niches=16),
    "clusters-32": lambda: Clusters(BOUNDS, niches=32),
    "clusters-144": lambda: Clusters(BOUNDS, niches=144),
    "clusters-seldom": lambda: Seldom(BOUNDS),
    "clusters-curious": lambda: Curious(BOUNDS),
}
