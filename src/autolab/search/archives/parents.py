"""Which elites to branch from. Parent choice matters more than the shape of niches (docs/archives.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autolab.search.archives.history import History

GREED = 8  # the mean rank that is chosen is the number of elites divided by this
PATIENCE = 10  # an elite with so many children in a row that were no better than it gets half of its turns


def choose_parents(history: History, places: Sequence[int], n: int, rng: np.random.Generator) -> list[int]:
    """Ids of `n` of the programs at `places`.

    Their chances fall exponentially with their rank, and with the children in a row that were no better (an old elite
    of a barren niche has had many): 1 / (1 + children / PATIENCE), after Shinka (arXiv 2509.19349).
    """
    if not places:
        return []
    at = np.asarray(places)
    order = at[np.lexsort((-at, -history.objective[at]))]
    chance = np.exp(-np.arange(len(order)) / max(1.0, len(order) / GREED))
    chance /= 1 + history.barren[order] / PATIENCE
    share = np.cumsum(chance)
    picked = np.searchsorted(share, rng.random(n) * share[-1], side="right")
    return [int(number) for number in history.ids[order[np.minimum(picked, len(order) - 1)]]]
