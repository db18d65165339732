"""Rules for who becomes master: four that people use, and Autolab's, all played in the same way."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Protocol

from noise_worlds import Bench, Program

from autolab.judge.noise import learn
from autolab.judge.promotion import BASELINE_REPLICATES, ESTIMATES, Criterion, decide
from autolab.judge.standing import level
from autolab.ledger.records import PROMOTED, Observation

SIGMAS = 2.0
# Autolab's judge is called sparingly, to be fast: the noise is learned from the campaign's newest measurements, anew
# after each trial at first and then once in ten; a candidate is compared with the newest measurements of the master.
MEMORY = 400
LEARNING = 30  # trials
RELEARN = 10  # trials
NEWEST = 24


class Rule(Protocol):
    """A rule measures the baseline when it is made, and then plays one trial after the other."""

    estimate: float

    def trial(self, candidate: Program, ordinal: int) -> bool:
        """Measure as the rule wants; True if the candidate is master now. `estimate` is the master's score."""


class Strict:
    """Lower than the master's one measurement."""

    def __init__(self, bench: Bench, baseline: Program) -> None:
        self._bench = bench
        self.estimate = bench.measure(baseline, 0).score

    def trial(self, candidate: Program, ordinal: int) -> bool:
        score = self._bench.measure(candidate, ordinal).score
        if score >= self.estimate:
            return False
        self.estimate = score
        return True


class BestOfThree:
    """Everything is measured three times; the lower mean wins."""

    def __init__(self, bench: Bench, baseline: Program) -> None:
        self._bench = bench
        self.estimate = self._mean(baseline, 0)

    def trial(self, candidate: Program, ordinal: int) -> bool:
        score = self._mean(candidate, ordinal)
        if score >= self.estimate:
            return False
        self.estimate = score
        return True

    def _mean(self, program: Program, ordinal: int) -> float:
        return statistics.fmean(self._bench.measure(program, ordinal).score for _ in range(3))


class Banded:
    """The baseline is run twice; its spread gives a band of two sigma. Lower by more than the band wins at once."""

    second_chance = False

    def __init__(self, bench: Bench, baseline: Program) -> None:
        self._bench = bench
        runs = [bench.measure(baseline, 0).score for _ in range(2)]
        self._band = SIGMAS * statistics.stdev(runs)
        self.estimate = statistics.fmean(runs)

    def trial(self, candidate: Program, ordinal: int) -> bool:
        scores = [self._bench.measure(candidate, ordinal).score]
        gain = self.estimate - scores[0]
        if gain <= 0:
            return False
        if gain <= self._band:
            if not self.second_chance:
                return False
            scores.append(self._bench.measure(candidate, ordinal).score)
            if scores[1] >= self.estimate:
                return False
        self.estimate = statistics.fmean(scores)
        return True


class SecondSeed(Banded):
    """As that, and a gain inside the band wins if a second seed is lower too."""

    second_chance = True


class Ours:
    """Autolab's own judge."""

    def __init__(self, bench: Bench, baseline: Program, criterion: Criterion) -> None:
        self._bench = bench
        self._criterion = criterion
        self._seen: list[Observation] = []
        self._program = baseline
        self._master = [self._measure(baseline, 0, "screen") for _ in range(BASELINE_REPLICATES)]
        self._reported = list(self._master)
        self._noise = learn(self._seen)

    @property
    def estimate(self) -> float:
        """What was measured of the master after it was selected, on the average host."""
        return level(self._reported, learn(self._seen))[0]

    def trial(self, candidate: Program, ordinal: int) -> bool:
        own = [self._measure(candidate, ordinal, "screen")]
        if ordinal <= LEARNING or ordinal % RELEARN == 0:
            self._noise = learn(self._seen[-MEMORY:])
        while True:
            finding = decide(self._criterion, self._noise, own, self._master[-NEWEST:], ordinal)
            if not finding.want:
                break
            for wanted in finding.want:
                if wanted == "candidate":
                    own.append(self._measure(candidate, ordinal, "replicate"))
                else:
                    again = self._measure(self._program, ordinal, f"control-{ordinal}")
                    self._master.append(again)
                    self._reported.append(again)
        if finding.verdict not in PROMOTED:
            return False
        self._program = candidate
        self._reported = [self._measure(candidate, ordinal, "confirm") for _ in range(ESTIMATES)]
        self._master = own[1:] + self._reported
        return True

    def _measure(self, program: Program, ordinal: int, stage: str) -> Observation:
        reading = self._bench.measure(program, ordinal)
        self._seen.append(Observation(program.name, reading.host, reading.score, ordinal, stage))
        return self._seen[-1]


PEOPLES: dict[str, Callable[[Bench, Program], Rule]] = {
    "strict <": Strict,
    "best-of-3 mean": BestOfThree,
    "2-sigma": Banded,
    "second seed inside the band": SecondSeed,
}
