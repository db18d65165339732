"""Four problems on which archives are compared. A program is an array of numbers; all is a function of the seed.

packing    26 circles in the unit square: centres are given, the best radii come from a linear programme
maze       deceptive: sixteen steps of a walk that must leave two dead ends on its way to the goal
rastrigin  ten dimensions, many local optima on a slope
recipe     twelve constants of a training script: knobs that interact, switches, cliffs where it crashes,
           plateaus where nothing changes; a new landscape for each seed
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Program = NDArray[np.float64]
Rng = np.random.Generator


class Problem(Protocol):
    """`target` is a score that a good search reaches; `floor` and `ceiling` are what quality 0 and 1 mean."""

    name: str
    evaluations: int
    target: float
    floor: float
    ceiling: float

    def first(self, rng: Rng) -> Program:
        """Where a run begins."""

    def change(self, program: Program, rng: Rng) -> Program:
        """A child."""

    def evaluate(self, program: Program) -> tuple[float | None, tuple[float, float]]:
        """The score (higher is better; None: it crashed) and two measures between 0 and 1."""


class Packing:
    """Sum of the radii. Measures: how unequal the room around the circles is, and how far out they lie."""

    name, evaluations, target, floor, ceiling = "packing", 1500, 2.1, 1.2, 2.636
    circles = 26

    def __init__(self, seed: int) -> None:
        """The square is the same for every seed."""
        from scipy.optimize import linear_sum_assignment

        self._assign: Any = linear_sum_assignment

    def first(self, rng: Rng) -> Program:
        """Random centres."""
        return rng.random(2 * self.circles)

    def change(self, program: Program, rng: Rng) -> Program:
        """Moves one to three centres a little, or one to anywhere."""
        centres = program.reshape(-1, 2).copy()
        count = rng.integers(1, 4)
        which = rng.choice(self.circles, count, replace=False)
        if rng.random() < 0.15:
            centres[which[0]] = rng.random(2)
        else:
            centres[which] += rng.normal(0, 10 ** rng.uniform(-2.7, -0.7), (count, 2))
        return np.clip(centres, 0, 1).ravel()

    def evaluate(self, program: Program) -> tuple[float | None, tuple[float, float]]:
        """The largest sum of radii for the centres, exactly.

        It is the linear programme max sum(r), r_i + r_j <= distance_ij, r_i <= wall_i, r >= 0. Its dual is a least
        fractional edge cover, in which being alone costs the distance to the wall; that is half a least edge cover of
        two copies of the circles, which an assignment solves.
        """
        centres = program.reshape(-1, 2)
        cost = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
        np.fill_diagonal(cost, 2 * np.minimum(centres, 1 - centres).min(axis=1))
        least = cost.min(axis=1)
        saved = np.minimum(cost - least[:, None] - least, 0.0)
        total = float(least.sum() + 0.5 * saved[self._assign(saved)].sum())
        outwards = float(np.hypot(*(centres - 0.5).T).mean()) / 0.55
        return total, (min(1.0, float(least.std()) / 0.1), min(1.0, outwards))


class Maze:
    """Closeness of the walk's end to the goal. Measures: where it ends."""

    name, evaluations, target, floor, ceiling = "maze", 3000, 0.97, 0.4, 1.0
    stride, goal = 0.12, (0.5, 0.95)
    # (where, from, to): two caps, open towards the start
    across = ((0.2, 0.3, 0.7), (0.55, 0.15, 0.85))
    upright = ((0.3, 0.1, 0.2), (0.7, 0.1, 0.2), (0.15, 0.3, 0.55), (0.85, 0.3, 0.55))

    def __init__(self, seed: int) -> None:
        """The maze is the same for every seed."""

    def first(self, rng: Rng) -> Program:
        """Random headings."""
        return rng.random(16)

    def change(self, program: Program, rng: Rng) -> Program:
        """Turns one to three headings."""
        child = program.copy()
        count = rng.integers(1, 4)
        which = rng.choice(16, count, replace=False)
        child[which] = (child[which] + rng.normal(0, 10 ** rng.uniform(-2, -0.5), count)) % 1
        return child

    def evaluate(self, program: Program) -> tuple[float | None, tuple[float, float]]:
        """Walks; a step into a wall is not made."""
        x, y = 0.5, 0.08
        for turn in (2 * math.pi * program).tolist():
            to_x, to_y = x + self.stride * math.cos(turn), y + self.stride * math.sin(turn)
            if 0 <= to_x <= 1 and 0 <= to_y <= 1 and not self._blocked(x, y, to_x, to_y):
                x, y = to_x, to_y
        return 1 - math.hypot(x - self.goal[0], y - self.goal[1]), (x, y)

    def _blocked(self, x: float, y: float, to_x: float, to_y: float) -> bool:
        for where, low, high in self.across:
            if (y - where) * (to_y - where) <= 0 and y != to_y:
                at = x + (to_x - x) * (where - y) / (to_y - y)
                if low <= at <= high:
                    return True
        for where, low, high in self.upright:
            if (x - where) * (to_x - where) <= 0 and x != to_x:
                at = y + (to_y - y) * (where - x) / (to_x - x)
                if low <= at <= high:
                    return True
        return False


class Rastrigin:
    """-log10(f). Measures: the first two coordinates."""

    name, evaluations, target, floor, ceiling = "rastrigin", 2000, -1.0, -2.3, 1.0

    def __init__(self, seed: int) -> None:
        """The function is the same for every seed."""

    def first(self, rng: Rng) -> Program:
        """A random point."""
        return rng.random(10)

    def change(self, program: Program, rng: Rng) -> Program:
        """Shifts one or two coordinates."""
        child = program.copy()
        count = rng.integers(1, 3)
        which = rng.choice(10, count, replace=False)
        child[which] += rng.normal(0, 10 ** rng.uniform(-2.5, -0.7), count)
        return np.clip(child, 0, 1)

    def evaluate(self, program: Program) -> tuple[float | None, tuple[float, float]]:
        """The shifted function on [-3.8, 6.5]."""
        at = (program - 0.37) * 10.24
        height = float(np.sum(10 + at * at - 10 * np.cos(2 * np.pi * at)))
        return -math.log10(height + 1e-9), (float(program[0]), float(program[1]))


SWITCHES = {8: 3, 9: 2, 10: 3, 11: 2}  # of a recipe: how many settings each has


class Recipe:
    """Minus the loss above the best possible. Measures: the model's size and how long a step takes.

    Constants 0 to 7 are numbers: learning rate, batch, width, depth, decay, warm-up, momentum, clip. 8 to 11 are
    switches: optimizer (3), normalisation (2), activation (3), tied weights (2).
    """

    name, evaluations, target, floor, ceiling = "recipe", 1000, -0.02, -1.0, 0.0

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 77])
        self._rate = rng.permutation([0.3, 0.5, 0.7])  # each optimizer's best learning rate
        self._slack = rng.permutation([0.0, 0.12, 0.3])  # what each optimizer loses at its best
        self._size, self._batch = rng.uniform(0.45, 0.75), rng.uniform(0.3, 0.7)
        self._decay, self._warm, self._momentum = rng.uniform(0.2, 0.8, 3)
        self._activation = rng.permutation([0.0, 0.03, 0.08])
        self._tied = int(rng.integers(2))

    def first(self, rng: Rng) -> Program:
        """A recipe that runs: a small model with a low learning rate and the second best optimizer."""
        program = rng.random(12)
        program[[0, 2, 3]] = 0.15, 0.25, 0.25
        program[8] = (int(np.argsort(self._slack)[1]) + 0.5) / 3
        return program

    def change(self, program: Program, rng: Rng) -> Program:
        """Changes one or two constants: a number by a little or a lot, a switch to anything."""
        child = program.copy()
        for which in rng.choice(12, rng.integers(1, 3), replace=False):
            if which in SWITCHES:
                child[which] = rng.random()
            else:
                child[which] = np.clip(child[which] + rng.normal(0, 10 ** rng.uniform(-2.3, -0.5)), 0, 1)
        return child

    def evaluate(self, program: Program) -> tuple[float | None, tuple[float, float]]:
        """The loss has terms that are 0 at their best; some depend on others' constants, some count in whole steps."""
        x = program.tolist()
        optimizer, norm, activation, tied = (
            min(int(x[at] * count), count - 1) for at, count in SWITCHES.items()
        )
        batch, width, depth = (round(8 * x[at]) / 8 for at in (1, 2, 3))
        size = 0.6 * width + 0.4 * depth
        seconds = 0.5 * size + 0.5 * batch
        measures = (size, seconds)
        rate = x[0] - (self._rate[optimizer] + 0.25 * (batch - self._batch) - 0.3 * (width - 0.5))
        if rate > (0.22 if norm else 0.12) or width * batch > 0.8:  # diverges; out of memory
            return None, measures
        loss = self._slack[optimizer] + self._activation[activation]
        loss += min(0.6, 3 * rate * rate)  # a model that hardly learns: no slope to follow
        loss += 1.2 * (size - self._size) ** 2 + 0.4 * (batch - self._batch) ** 2 * (1 + norm)
        loss += 0.3 * max(0.0, abs(x[4] - self._decay) - 0.1) + 0.05 * (tied != self._tied)
        loss += 0.2 * (x[5] - self._warm) ** 2 * (1 + 2 * (not norm))
        if optimizer == 0:  # only one optimizer has a momentum
            loss += 0.4 * (x[6] - self._momentum) ** 2
        loss += 0.1 * max(0.0, 0.3 - x[7])
        return -float(loss), measures


PROBLEMS: dict[str, type[Packing] | type[Maze] | type[Rastrigin] | type[Recipe]] = {
    kind.name: kind for kind in (Packing, Maze, Rastrigin, Recipe)
}
