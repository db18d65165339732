"""Which choice brings the most confirmed gain for its cost: Thompson sampling (Thompson 1933; Russo et al. 2018, arXiv
1707.02038, section 4).

What a choice earned is counted as events at an unknown rate: confirmed gain, in units of the average promotion, for
each unit of cost, that of the average trial. The rate's posterior after gain g at cost c is a gamma distribution with
shape 1 + g and rate 1 + c. A choice that nobody made yet is taken to bring one promotion a trial, so that everything is
tried once; what costs and brings nothing falls behind as 1 / (1 + c), and is tried again now and then.

Each kind of choice (a collaboration, a surface, a model) has posteriors of its own, as if their effects were
independent: a table of all combinations would take a campaign to fill.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CHEAPEST = 0.5  # of an average trial's cost; else what fails at once and for nothing would stay promising


@dataclass
class _Earned:
    gain: float = 0.0
    usd: float = 0.0
    runs: float = 0.0
    trials: float = 0.0

    def add(self, share: float, gain: float, usd: float, runs: int) -> None:
        self.gain += share * gain
        self.usd += share * usd
        self.runs += share * runs
        self.trials += share


class Bandit:
    """What each choice has earned and cost. Cost counts in dollars as soon as anything cost any, else in runs: they
    have the same budget, and unlike seconds their number is the same when a campaign is repeated."""

    def __init__(self) -> None:
        self._all, self._promotions = _Earned(), 0
        self._arms: dict[tuple[str, str], _Earned] = defaultdict(_Earned)

    def learn(self, choices: Mapping[str, Sequence[str]], gain: float, usd: float, runs: int) -> None:
        """What a trial brought and cost, for all that was chosen for it: kind -> names."""
        self._all.add(1.0, gain, usd, runs)
        self._promotions += gain > 0
        for kind, names in choices.items():
            for name in names:
                self._arms[kind, name].add(1.0 / len(names), gain, usd, runs)

    def ranked(self, kind: str, names: Sequence[str], rng: np.random.Generator) -> list[str]:
        """The names of a kind, the most promising first, by one draw of each one's rate."""
        drawn = [rng.gamma(*self.posterior(kind, name)) for name in names]
        return [names[place] for place in np.argsort(drawn)[::-1]]

    def posterior(self, kind: str, name: str) -> tuple[float, float]:
        """(shape, scale) of the gamma distribution of a choice's rate."""
        arm = self._arms.get((kind, name), _Earned())
        typical = self._all.gain / self._promotions if self._promotions else 1.0
        whole, own = (self._all.usd, arm.usd) if self._all.usd > 0 else (self._all.runs, arm.runs)
        cost = own * self._all.trials / whole if whole else arm.trials
        return 1.0 + arm.gain / typical, 1.0 / (1.0 + max(cost, CHEAPEST * arm.trials))
