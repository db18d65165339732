"""Who becomes master: a sequential test of every candidate against the master, looked at after each run.

Most trials end after one measurement (screening). One that may be an improvement is measured again with fresh seeds,
in turn with the master and on the same hosts, until a likelihood ratio says that it is better, that it is not, or that
it cannot be told within MOST_RUNS. The test keeps its error rate under continuous peeking (`evidence.py`), the error
rates of all trials together stay below the campaign's allowance (`error_budget.py`), and what is reported of a new
master comes from measurements made after the decision.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autolab.judge.comparison import NEIGHBOURS, compare
from autolab.judge.error_budget import LEVEL, log_share
from autolab.judge.evidence import log_evidence, log_ratio, student
from autolab.judge.noise import EQUAL, WANDER, Noise
from autolab.ledger.records import Observation, Verdict

BASELINE_REPLICATES = 3  # few, because every later replicate sharpens the noise too
ESTIMATES = 2  # measurements after a positive decision; the reported score is their mean
TARGET = 2.0  # SDs; effects of this size are found with more than 90 % probability, smaller ones less often
FRESH, CONTROLS = (
    2,
    3,
)  # runs beside the screening one, and of the master in turn with them, that a promotion needs
MOST_RUNS = 24  # of one candidate
MOST_CONTROLS = 24  # of the master for one candidate

# When to give a candidate up, after its first run and later: log likelihood ratio of the target effect to none. By
# Wald's bounds exp(-3.0) = 5 % of real effects of that size are lost later, and fewer in truth, as a step goes beyond
# the bound. Chosen with benchmarks/promotion.py: tighter bounds spend more on nothing, looser ones lose effects.
HOPELESS_AT_ONCE, HOPELESS = -1.9, -3.0
WORSE = 0.975  # one-sided confidence that a candidate is worse than the master
# The master is measured when its level is less certain than this share of the candidate's variance.
BALANCE = 0.7
# Degrees of freedom that the pooled variance weighs beside a candidate's own scatter, where that is larger.
OWN_SCATTER = 4.0
WILD = 4.0  # times the pooled variance, from which a candidate's own scatter alone counts

Want = Literal["candidate", "master"]


@dataclass(frozen=True)
class Criterion:
    """What a promotion needs. `sign`: +1 if more is better, -1 if less. `min_effect`: a gain that is no difference, in
    the metric's unit. `level`: false promotions that the campaign may expect. `target`: see TARGET."""

    sign: float
    min_effect: float = 0.0
    deterministic: bool = False
    level: float = LEVEL
    target: float = TARGET


@dataclass(frozen=True)
class Finding:
    """What the measurements so far say. Either `want` names what to measure next (several may run at once), or
    `verdict` is the outcome.

    `gain` (positive is better) and its standard error `se` are in the metric's unit; the evidence is a natural
    logarithm, as is what a promotion `needed` of it.
    """

    want: tuple[Want, ...]
    verdict: Verdict | None = None
    gain: float = 0.0
    se: float = 0.0
    log_evidence: float = 0.0
    needed: float = 0.0
    note: str = ""


def decide(
    criterion: Criterion,
    noise: Noise,
    candidate: Sequence[Observation],
    master: Sequence[Observation],
    ordinal: int,
    *,
    turn: int | None = None,
    simpler: bool = False,
    most_runs: int = MOST_RUNS,
) -> Finding:
    """What to do with the trial of this ordinal: measure on, or end it.

    `candidate`: its measurements, the screening one first. `master`: those of the master in force, in the order in
    which they were made. `turn`: the `at` of those made in turn with the candidate, if it is not the ordinal (a trial
    taken up again). `simpler`: the candidate's code is smaller, so that being as good is enough if the task says
    what a difference is (`min_effect`).
    """
    turn = ordinal if turn is None else turn
    candidate = [seen for seen in candidate if math.isfinite(seen.score)]
    master = [seen for seen in master if math.isfinite(seen.score)]
    if noise.state != "known" or criterion.deterministic:
        return _without_noise(criterion, noise, candidate, master, turn)
    sd, df = _scatter(noise, candidate)
    ratios = {host: noise.ratio(host) for host in {seen.host for seen in candidate}}
    found = compare(candidate, _of_these_days(master, turn, sd, criterion.sign), sd, criterion.sign, ratios)
    tally = _tally(candidate, master, turn, most_runs)
    if not found.runs:
        return _apart(tally)
    scale, effect = sd * math.sqrt(found.spread), criterion.target * max(noise.yardstick, sd)
    null = criterion.min_effect
    needed = -log_share(ordinal, criterion.level) + (math.log(2) if simpler else 0.0)
    evidence = log_evidence(found.gain, scale, df, null, effect)
    hope = log_ratio(found.gain, scale, df, null, effect)
    so_far = Finding((), None, found.gain, scale, evidence, needed)
    if tally.runs > FRESH and _same_digits(candidate) and found.gain > null:
        note = "not promoted: all its runs have the same digits, so it ignores the seed, and one draw may be luck"
        return _ended(so_far, tally, df, Verdict.PROVISIONAL, note)
    if evidence >= needed:
        return _enough(so_far, tally, df, Verdict.CONFIRMED, "")
    # With few degrees of freedom the ratio levels off, so plainly worse is said in its own right.
    worse = found.gain < -student(WORSE, df) * scale
    hopeless = worse or hope <= (HOPELESS_AT_ONCE if tally.runs == 1 else HOPELESS)
    if simpler and null > 0:
        equal = log_ratio(found.gain, scale, df, -null, null)
        if equal >= needed and hopeless:
            note = f"as good within {null:.3g}, with less code"
            return _enough(so_far, tally, df, Verdict.SIMPLIFICATION, note)
        short = found.gain < -null - student(WORSE, df) * scale or equal <= HOPELESS
        hopeless = hopeless and (short or _runs_for(null / sd, needed) > most_runs)
    if hopeless:
        return _ended(so_far, tally, df, Verdict.WORSE if worse else Verdict.NO_DIFFERENCE)
    if tally.runs >= most_runs:
        verdict = Verdict.PROVISIONAL if evidence > 0 else Verdict.NO_DIFFERENCE
        return _ended(so_far, tally, df, verdict, f"not told apart within {most_runs} runs")
    uncertain = found.spread - 1 / found.runs > BALANCE / found.runs
    master_next = uncertain and tally.asked < MOST_CONTROLS
    return replace(so_far, want=("master",) if master_next else ("candidate",))


@dataclass(frozen=True)
class _Tally:
    """Runs of the candidate, `fresh` ones among them that have controls beside them; `controls` of the master on the
    candidate's hosts, and all that were `asked` for in its turn."""

    runs: int
    fresh: int
    controls: int
    asked: int
    most_runs: int

    @property
    def exhausted(self) -> bool:
        return self.runs >= self.most_runs or self.asked >= MOST_CONTROLS


def _tally(
    candidate: Sequence[Observation], master: Sequence[Observation], turn: int, most_runs: int
) -> _Tally:
    in_turn = [seen.host for seen in master if seen.at == turn]
    beside = [seen for seen in candidate[1:] if seen.host in in_turn or not in_turn]
    hosts = {seen.host for seen in candidate}
    controls = sum(host in hosts for host in in_turn)
    return _Tally(len(candidate), len(beside), controls, len(in_turn), most_runs)


def _of_these_days(master: Sequence[Observation], turn: int, sd: float, sign: float) -> Sequence[Observation]:
    """The master's runs without those that it has left behind: where its runs of this turn are better than the earlier
    ones by more than two standard errors, the host has become better, and the earlier ones would flatter whatever is
    measured now. (Where they are worse, the earlier ones only make the test harder.)"""
    stale: set[str] = set()
    for host in {seen.host for seen in master}:
        now = [seen for seen in master if seen.host == host and seen.at == turn]
        old = [seen for seen in master if seen.host == host and seen.at != turn][-NEIGHBOURS:]
        if now and old:
            lag = turn - statistics.fmean(seen.at for seen in old)
            variance = 1 / len(now) + 1 / len(old) + WANDER * abs(lag)
            risen = statistics.fmean(seen.score for seen in now) - statistics.fmean(
                seen.score for seen in old
            )
            if sign * risen > 2 * sd * math.sqrt(variance):
                stale.add(host)
    return [seen for seen in master if seen.at == turn or seen.host not in stale]


def _enough(so_far: Finding, tally: _Tally, df: float, verdict: Verdict, note: str) -> Finding:
    """The evidence suffices; it must also be of fresh seeds, and the master measured in turn on the same hosts."""
    lacking: list[Want] = ["candidate"] * (FRESH - tally.fresh)
    lacking += ["master"] * (CONTROLS - tally.controls)
    if not lacking:
        return _ended(so_far, tally, df, verdict, note)
    if tally.exhausted:
        return _ended(so_far, tally, df, Verdict.PROVISIONAL, "never measured in turn on the same hosts")
    return replace(so_far, want=tuple(lacking))


def _ended(so_far: Finding, tally: _Tally, df: float, verdict: Verdict, note: str = "") -> Finding:
    if tally.runs == 1 and not note:
        return replace(so_far, verdict=verdict)
    in_turn = f" and {tally.asked} of the master" if tally.asked else ""
    text = f"{so_far.gain:+.4g} ± {student(0.975, df) * so_far.se:.2g} over {tally.runs} runs{in_turn}"
    text += f", evidence {odds(so_far.log_evidence)}, needed {odds(so_far.needed)}"
    return replace(so_far, verdict=verdict, note=f"{text}; {note}" if note else text)


def _apart(tally: _Tally) -> Finding:
    """Candidate and master have not been measured on the same host."""
    if tally.asked < tally.runs + 2 and not tally.exhausted:
        return Finding(("master",))
    if tally.runs < 4 and not tally.exhausted:
        return Finding(("candidate",))
    note = "never measured on a host where the master was: no comparison"
    return Finding((), Verdict.PROVISIONAL, note=note)


def _same_digits(runs: Sequence[Observation]) -> bool:
    lowest, highest = min(seen.score for seen in runs), max(seen.score for seen in runs)
    return highest - lowest <= EQUAL * max(abs(lowest), abs(highest))


def _without_noise(
    criterion: Criterion,
    noise: Noise,
    candidate: Sequence[Observation],
    master: Sequence[Observation],
    turn: int,
) -> Finding:
    """The noise is unknown, or there is none by the task's own word."""
    there = [seen for seen in master if seen.host == candidate[0].host]
    if not there:
        return _apart(_tally(candidate, master, turn, 4))
    level = statistics.fmean(seen.score for seen in there)
    gains = [criterion.sign * (seen.score - level) for seen in candidate]
    gain = min(gains)
    if gain <= criterion.min_effect:
        verdict = Verdict.WORSE if max(gains) < -criterion.min_effect else Verdict.NO_DIFFERENCE
        return Finding((), verdict, gain)
    same = max(gains) - gain <= EQUAL * max(abs(level), abs(gain))
    if criterion.deterministic and noise.state != "known" and same:
        if len(candidate) == 1:
            return Finding(("candidate",), None, gain)
        return Finding((), Verdict.CONFIRMED, gain, note=f"{gain:+.4g}, the same on a second run: no noise")
    lacking: list[Want] = ["candidate"] * (FRESH + 1 - len(candidate))
    if not criterion.deterministic and not any(seen.at == turn for seen in master):
        lacking += ["master"] * FRESH
    if lacking and not criterion.deterministic:
        return Finding(
            tuple(lacking), None, gain
        )  # it may be that scores scatter, and only have not shown it yet
    if criterion.deterministic:
        why = "the task says `deterministic`, yet runs of one program differ"
    elif noise.state == "silent":
        why = "runs of one program are identical, so the noise is unknown (is the seed used? is the metric saturated?)"
        why += "; a task without noise says `metric.deterministic: true`"
    else:
        why = "no program was measured twice, so the noise is unknown"
    return Finding((), Verdict.PROVISIONAL, gain, note=f"{gain:+.4g}, not promoted: {why}")


def _scatter(noise: Noise, candidate: Sequence[Observation]) -> tuple[float, float]:
    """(SD of one measurement, its degrees of freedom) for this comparison: the pooled one, or more if the candidate
    itself scatters more; only its own if that is far more."""
    by_host: dict[str, list[float]] = defaultdict(list)
    for seen in candidate:
        by_host[seen.host].append(seen.score)
    freedom = sum(len(scores) - 1 for scores in by_host.values())
    if freedom < 2:
        return noise.sd, noise.df
    squares = math.fsum(
        (score - statistics.fmean(scores)) ** 2 for scores in by_host.values() for score in scores
    )
    if squares / freedom <= noise.sd**2:
        return noise.sd, noise.df
    if squares / freedom > WILD * noise.sd**2:
        return math.sqrt(squares / freedom), freedom
    return math.sqrt((OWN_SCATTER * noise.sd**2 + squares) / (OWN_SCATTER + freedom)), noise.df


def _runs_for(effect: float, needed: float) -> float:
    """Runs of a candidate, with as many of the master, until a true `effect` in SDs has the evidence that is needed."""
    return 4 * needed / effect**2 if effect else math.inf


def odds(log_ratio: float) -> str:
    """A log likelihood ratio for people: 1200:1, 1:30."""
    exponent = abs(log_ratio)
    if exponent > 700:  # more than a float can say
        return f"1e{exponent / math.log(10):.0f}:1" if log_ratio > 0 else f"1:1e{exponent / math.log(10):.0f}"
    times = f"{math.exp(exponent):.2g}" if exponent > 7 else f"{math.exp(exponent):.0f}"
    return f"{times}:1" if log_ratio >= 0 else f"1:{times}"
