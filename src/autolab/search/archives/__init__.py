"""Archives: which of all programs are worth branching from, and which of those the next trial gets.

All have pyribs' verbs (Tjanaka et al. 2023, arXiv 2303.00191): `add`, `sample_elites`, `retrieve`. They hold ids, not
programs; a higher objective is better. Only numpy is needed: pyribs itself is the oracle in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from autolab.search.archives.auto import Auto
from autolab.search.archives.best import Best
from autolab.search.archives.clusters import Clusters
from autolab.search.archives.dns import DominatedNovelty
from autolab.search.archives.grid import Grid
from autolab.search.archives.history import Bounds


class Archive(Protocol):
    """What `--archive` chooses among."""

    def add(
        self, solution_id: int, objective: float, measures: Sequence[float], parent: int | None = None
    ) -> bool:
        """Tell a program that was scored, and the id of the one that it branched from; whether it is an elite now."""
        ...

    def add_failed(self, parent: int | None = None) -> None:
        """Tell of a child that gave no score: it counts against its parent."""
        ...

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of `n` elites to branch from, while `in_flight` trials are under way; none before the first program."""
        ...

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite where these measures lie, or None if nobody is there."""
        ...

    def elites(self) -> list[int]:
        """The ids of all elites."""
        ...


_MAKERS: dict[str, Callable[[Sequence[Bounds]], Archive]] = {
    "auto": Auto,
    "best": Best,
    "grid": Grid,
    "clusters": Clusters,
    "dns": DominatedNovelty,
}
ARCHIVES = tuple(_MAKERS)


def new_archive(name: str, bounds: Sequence[Bounds]) -> Archive:
    """An empty archive by its name in `ARCHIVES`; one entry of `bounds` for each measure, None where nobody knows."""
    return _MAKERS[name](bounds)
