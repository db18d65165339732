"""Which programs to branch from: Autolab's archives and OpenEvolve's program database on four problems.

Within a problem everything is the same for all: the seeded first program, the mutator, the evaluator, the number of
evaluations, and how many are in flight (a parent is chosen before the results of those are known). Two measures,
chosen before the default was tuned, though not before its parts were first looked at:

  quality      the area under the best-so-far curve, as a share: 0 is the problem's floor, 1 its ceiling
  evaluations  all evaluations of all seeds divided by the number of seeds that reached the target (the expected
               running time of COCO, arXiv 1603.08785): runs that fail count with everything that they spent

    python benchmarks/archives.py [--seeds 20] [--jobs 1] [--quick] [--out FILE]

`--out` keeps the runs, and those that it holds already are not run again. Bars: (a) `auto` has at least 95 % of the
quality of the best single archive on every problem, at 1 and at 64 in flight, and OpenEvolve's database needs at least
1.3 times its evaluations; (b) `clusters` needs fewer evaluations than the rank-weighted grid on the deceptive problem
with 64 in flight. Intervals are 95 %, from a bootstrap over seeds. Exits with 1 if a bar of (a) is missed; (b) is
told, whatever it is (docs/archives.md).
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from archives_peer import OpenEvolveDatabase
from archives_problems import PROBLEMS
from archives_variants import VARIANTS
from numpy.typing import NDArray

from autolab.search.archives import Archive, new_archive

SINGLE = ("best", "grid", "clusters", "dns")
ARMS = ("auto", *SINGLE, "openevolve")
IN_FLIGHT = (1, 64)
DECEPTIVE, MANY, REFERENCE = "maze", 64, "grid-rank"
NEAR_BEST, AHEAD = 0.95, 1.3
DRAWS = 4000


@dataclasses.dataclass(frozen=True)
class Run:
    """What one seed came to. `hit`: after how many evaluations the target was reached."""

    problem: str
    flight: int
    arm: str
    seed: int
    evaluations: int
    quality: float
    hit: int | None
    best: float
    elites: int
    milliseconds: float  # of CPU time for each trial, in the archive

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What was run."""
        return self.problem, self.flight, self.arm, self.seed


class Chooser(Protocol):
    """An arm of the benchmark: told programs by number, asked for parents."""

    def tell(
        self, number: int, score: float | None, measures: tuple[float, float], parent: int | None
    ) -> None:
        """A program was evaluated; None: it crashed."""

    def ask(self, in_flight: int) -> int:
        """The number of a parent."""

    def size(self) -> int:
        """How many places are taken."""


class Ours:
    """One of Autolab's archives. Nobody tells it the measures' bounds."""

    def __init__(self, archive: Archive, seed: int) -> None:
        self._archive, self._rng = archive, np.random.default_rng([seed, 2])

    def tell(
        self, number: int, score: float | None, measures: tuple[float, float], parent: int | None
    ) -> None:
        """A program was evaluated."""
        if score is None:
            self._archive.add_failed(parent)
        else:
            self._archive.add(number, score, measures, parent)

    def ask(self, in_flight: int) -> int:
        """The number of a parent."""
        return self._archive.sample_elites(1, self._rng, in_flight)[0]

    def size(self) -> int:
        """How many places are taken."""
        return len(self._archive.elites())


def chooser(arm: str, seed: int) -> Chooser:
    """An arm by its name."""
    if arm == "openevolve":
        return OpenEvolveDatabase.of_this_process(seed)
    archive = VARIANTS[arm]() if arm in VARIANTS else new_archive(arm, [None, None])
    return Ours(archive, seed)


def play(problem_name: str, flight: int, arm: str, seed: int, evaluations: int) -> Run:
    """One run."""
    problem = PROBLEMS[problem_name](seed)
    changes = np.random.default_rng([seed, 1])
    programs = [problem.first(np.random.default_rng([seed, 0]))]
    score, measures = problem.evaluate(programs[0])
    assert score is not None
    best, hit, spent = score, None, 0.0
    curve = np.full(evaluations, best)
    archive = chooser(arm, seed)
    archive.tell(0, score, measures, None)
    under_way: collections.deque[tuple[Any, int]] = collections.deque()
    for number in range(1, evaluations):
        begun = time.process_time()
        parents = [archive.ask(flight) for _ in range(flight - len(under_way))]
        spent += time.process_time() - begun
        under_way.extend((problem.change(programs[parent], changes), parent) for parent in parents)
        program, parent = under_way.popleft()
        score, measures = problem.evaluate(program)
        programs.append(program)
        begun = time.process_time()
        archive.tell(number, score, measures, parent)
        spent += time.process_time() - begun
        best = best if score is None else max(best, score)
        curve[number] = best
        if hit is None and best >= problem.target:
            hit = number + 1
    quality = np.clip((curve - problem.floor) / (problem.ceiling - problem.floor), 0, 1)
    return Run(
        problem_name, flight, arm, seed, evaluations, float(quality.mean()), hit, best, archive.size(),
        1000 * spent / evaluations,
    )  # fmt: skip


# what it comes to -------------------------------------------------------------------------------------


def expected(hits: NDArray[np.float64], evaluations: int) -> NDArray[np.float64]:
    """Expected evaluations to the target over the last axis; NaN in `hits` is a run that did not get there, and a row
    of which none did counts as if one had at the very end."""
    spent = np.where(np.isnan(hits), evaluations, hits).sum(axis=-1)
    cost: NDArray[np.float64] = spent / np.maximum((~np.isnan(hits)).sum(axis=-1), 1)
    return cost


@dataclasses.dataclass(frozen=True)
class Arm:
    """All seeds of one arm, and the same seeds drawn again."""

    runs: tuple[Run, ...]

    @functools.cached_property
    def quality(self) -> NDArray[np.float64]:
        """By seed."""
        return np.array([run.quality for run in self.runs])

    @functools.cached_property
    def hits(self) -> NDArray[np.float64]:
        """By seed; NaN: not reached."""
        return np.array([np.nan if run.hit is None else run.hit for run in self.runs], float)

    @functools.cached_property
    def drawn(self) -> NDArray[np.int64]:
        """Seeds drawn with replacement: (draws, seeds)."""
        rng = np.random.default_rng(len(self.runs[0].arm) + 1000 * self.runs[0].flight)
        return rng.integers(len(self.runs), size=(DRAWS, len(self.runs)))

    @property
    def mean_quality(self) -> float:
        """Over seeds."""
        return float(self.quality.mean())

    @property
    def cost(self) -> float:
        """Expected evaluations to the target."""
        return float(expected(self.hits, self.runs[0].evaluations))

    @property
    def drawn_quality(self) -> NDArray[np.float64]:
        """Of each draw."""
        found: NDArray[np.float64] = self.quality[self.drawn].mean(axis=1)
        return found

    @property
    def drawn_cost(self) -> NDArray[np.float64]:
        """Of each draw."""
        return expected(self.hits[self.drawn], self.runs[0].evaluations)


def interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def between(draws: NDArray[np.float64], form: str) -> str:
    """The interval as text."""
    low, high = interval(draws)
    return f"[{low:{form}}, {high:{form}}]"


def table(arms: dict[str, Arm]) -> None:
    """One line for each arm, the best quality first."""
    first = next(iter(arms.values())).runs[0]
    target = PROBLEMS[first.problem].target
    print(
        f"\n{first.problem}, {first.flight} in flight: {first.evaluations} evaluations, "
        f"{len(next(iter(arms.values())).runs)} seeds, target {target:g}"
    )
    print(
        f"  {'archive':14} {'quality':>7} {'95 %':16} {'solved':>7} {'evaluations':>12} {'95 %':16}"
        f" {'median best':>11} {'places':>6} {'ms':>5}"
    )
    for name, arm in sorted(arms.items(), key=lambda item: -item[1].mean_quality):
        solved = int((~np.isnan(arm.hits)).sum())
        cost = f"{arm.cost:.0f}" if solved else f"> {arm.cost:.0f}"
        print(
            f"  {name:14} {arm.mean_quality:7.3f} {between(arm.drawn_quality, '.3f'):16}"
            f" {f'{solved}/{len(arm.runs)}':>7} {cost:>12} {between(arm.drawn_cost, '.0f'):16}"
            f" {statistics.median(run.best for run in arm.runs):11.4f}"
            f" {statistics.median(run.elites for run in arm.runs):6.0f}"
            f" {statistics.median(run.milliseconds for run in arm.runs):5.2f}"
        )


def bar(met: bool, text: str) -> bool:
    """Say whether a bar is met."""
    print(f"  {'met   ' if met else 'MISSED'} {text}")
    return met


def judge(arms: dict[str, Arm]) -> bool:
    """The bars of (a) for one problem and number in flight."""
    ours = arms["auto"]
    name, single = max(((name, arms[name]) for name in SINGLE), key=lambda item: item[1].mean_quality)
    share = ours.mean_quality / single.mean_quality
    ok = bar(
        share >= NEAR_BEST,
        f"auto has {share:.3f} {between(ours.drawn_quality / single.drawn_quality, '.3f')} of the quality of the best"
        f" single archive, {name} (bar {NEAR_BEST})",
    )
    peer = arms["openevolve"]
    never = "" if np.isfinite(peer.hits).any() else "more than "
    ratio = peer.cost / ours.cost
    return ok & bar(
        ratio >= AHEAD,
        f"openevolve's database needs {never}{ratio:.2f} {between(peer.drawn_cost / ours.drawn_cost, '.2f')} times"
        f" the evaluations of auto (bar {AHEAD})",
    )


def account(arms: dict[str, Arm]) -> None:
    """Bar (b): what of Cluster-Elites there is to claim."""
    grid = arms[REFERENCE]
    print(f"\nCluster-Elites against the rank-weighted grid, {DECEPTIVE}, {MANY} in flight:")
    for name, arm in arms.items():
        if name == REFERENCE:
            continue
        low, high = interval(grid.drawn_cost / arm.drawn_cost)
        word = "better" if low > 1 else "worse" if high < 1 else "no difference shown"
        print(
            f"  {name:20} {grid.cost / arm.cost:5.2f} times as quick [{low:.2f}, {high:.2f}], quality"
            f" {arm.mean_quality - grid.mean_quality:+.3f}"
            f" {between(arm.drawn_quality - grid.drawn_quality, '+.3f')}: {word}"
        )


# all of it --------------------------------------------------------------------------------------------


def perform(keys: Sequence[tuple[str, int, str, int, int]], jobs: int, out: Path | None) -> list[Run]:
    """Run what was not run yet."""
    done = {run.key: run for run in _kept(out)}
    todo = [key for key in keys if key[:4] not in done or done[key[:4]].evaluations != key[4]]
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as pool:
        for run in pool.map(_play, todo):
            done[run.key] = run
            if out is not None:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(dataclasses.asdict(run)) + "\n")
    return [done[key[:4]] for key in keys]


def _play(key: tuple[str, int, str, int, int]) -> Run:
    return play(*key)


def _kept(out: Path | None) -> Iterable[Run]:
    if out is None or not out.exists():
        return []
    return [Run(**json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines()]


def by_arm(runs: Iterable[Run], keep: Callable[[Run], bool]) -> dict[str, Arm]:
    """Runs by arm."""
    found: dict[str, list[Run]] = {}
    for run in filter(keep, runs):
        found.setdefault(run.arm, []).append(run)
    return {name: Arm(tuple(mine)) for name, mine in found.items()}


def main() -> int:
    """Exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--account-seeds", type=int, default=60, help="for (b), which is harder to tell")
    parser.add_argument("--first-seed", type=int, default=0, help="1000 and more are for development")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a smoke run: no figure of it means anything")
    parser.add_argument("--out", type=Path, help="keep the runs in this file, and go on from it")
    asked = parser.parse_args()
    count, many = (2, 2) if asked.quick else (asked.seeds, asked.account_seeds)
    short = 10 if asked.quick else 1
    keys = [
        (name, flight, arm, seed, problem.evaluations // short)
        for seed in range(asked.first_seed, asked.first_seed + count)
        for name, problem in PROBLEMS.items()
        for flight in IN_FLIGHT
        for arm in ARMS
    ]
    compared = (
        REFERENCE,
        *(name for name in VARIANTS if name != REFERENCE),
        "grid",
        "clusters",
        "dns",
        "auto",
    )
    deceptive = [
        (DECEPTIVE, MANY, arm, seed, PROBLEMS[DECEPTIVE].evaluations // short)
        for seed in range(asked.first_seed, asked.first_seed + many)
        for arm in compared
    ]
    runs = perform(keys, asked.jobs, asked.out)
    met = True
    for name in PROBLEMS:
        for flight in IN_FLIGHT:
            arms = by_arm(runs, lambda run, n=name, f=flight: (run.problem, run.flight) == (n, f))  # type: ignore[misc]
            table(arms)
            met &= judge(arms)
    arms = by_arm(perform(deceptive, asked.jobs, asked.out), lambda run: True)
    table(arms)
    account(arms)
    return 0 if met or asked.quick else 1


if __name__ == "__main__":
    sys.exit(main())
