"""The master as it is seen now, and the way to it, for whoever shows them: never a bare best.

A trial and a promotion say what was known when they were written. What is believed now is the standing, which moves
with every measurement of the master, and the state: a gain that was luck is `demoted`, and a look at the sealed split
by hand can certify a promotion later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolab.ledger.observations import CONTROL, looks, observations, standing
from autolab.ledger.records import (
    Campaign,
    Measurement,
    Observation,
    Promotion,
    SealedLook,
    Trial,
    Verdict,
)
from autolab.ledger.store import Ledger

BASELINE, DEMOTED = "baseline", "demoted"  # states that are no verdicts


@dataclass(frozen=True)
class Step:
    """One change of the master. `kind`: baseline, improvement, simplification, or demotion (back to an earlier master).
    `state`: baseline, confirmed, certified or simplification; demoted if that was taken back. `before`: the promotion
    that it replaced."""

    promotion: Promotion
    trial: Trial
    kind: str
    state: str
    before: Promotion | None


@dataclass(frozen=True)
class Master:
    """A campaign's master as it is seen now. `score`, with its 95 % interval, is the mean of `runs` measurements that
    had no part in its selection; `runs` is None if only its promotion is known, as of other labs' campaigns. `gain` is
    over the trial `over` that it replaced, with a 95 % interval if there is one; None for a baseline. `noise_sd` is of
    one run, in the metric's unit, from `noise_df` degrees of freedom."""

    promotion: Promotion
    trial: Trial
    state: str
    score: float
    low: float
    high: float
    runs: int | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    over: Trial | None
    noise_sd: float | None
    noise_df: int | None


def master_now(ledger: Ledger, campaign: str, chain: Sequence[Step] | None = None) -> Master:
    """The master and what is believed of it. `chain` saves reading it again. Raises LabError before the baseline."""
    promotion = ledger.master(campaign)
    newest = (chain or steps(ledger, campaign))[-1]
    seen = standing(ledger, campaign)
    climbed = newest.kind in ("improvement", "simplification")
    over = ledger.trial(newest.before.trial) if newest.before is not None and climbed else None
    if seen is None or seen.promotion != promotion.number:
        return Master(
            promotion, newest.trial, newest.state, promotion.score, promotion.score_low, promotion.score_high, None,
            promotion.gain if over else None, None, None, over, ledger.campaign(campaign).noise_sd, None,
        )  # fmt: skip
    low = high = None
    if seen.gain is not None and seen.gain_half is not None:
        low, high = seen.gain - seen.gain_half, seen.gain + seen.gain_half
    return Master(
        promotion, newest.trial, newest.state, seen.score, seen.low, seen.high, seen.runs,
        seen.gain if over else None, low, high, over, seen.noise_sd, seen.noise_df,
    )  # fmt: skip


def steps(ledger: Ledger, campaign: str) -> list[Step]:
    """Every change of a campaign's master, oldest first."""
    chain = ledger.promotions(campaign)
    known = {step.number: step for step in chain}
    taken_back = {step.replaced for step in chain if step.kind == "demotion"}
    certified = _certified(ledger, ledger.campaign(campaign), chain)
    states: dict[int, str] = {}  # of a trial, by its last promotion
    found = []
    for step in chain:
        trial = ledger.trial(step.trial)
        kind = _kind(step, trial)
        if kind == "demotion":
            state = states.get(step.trial, BASELINE)
        elif kind == "improvement":
            state = Verdict.CERTIFIED if step.number in certified else Verdict.CONFIRMED
            state = Verdict.CERTIFIED if trial.verdict is Verdict.CERTIFIED else state
        else:
            state = kind
        states[step.trial] = state
        shown = DEMOTED if step.number in taken_back else str(state)
        found.append(Step(step, trial, kind, shown, known.get(step.replaced or -1)))
    return found


def states(chain: Sequence[Step]) -> dict[int, str]:
    """The state of every trial that was ever promoted, by its number; the baseline is none of them."""
    found: dict[int, str] = {}
    for step in chain:
        if step.kind != "demotion" and step.trial.ordinal > 0:
            found[step.trial.number] = step.state
    return found


def outcome(trial: Trial, known: Mapping[int, str]) -> str:
    """What to call a trial's outcome now: its state if it was promoted, else its verdict, its status, or its place."""
    return known.get(trial.number) or str(trial.verdict or trial.status or trial.state)


def stood(trial: Trial, known: Mapping[int, str]) -> bool:
    """Whether a trial was promoted, and that was not taken back."""
    return known.get(trial.number, DEMOTED) != DEMOTED


def way_back(ledger: Ledger, step: Step) -> str:
    """A demotion in words: `ab12-0007 -> ab12-0003: no longer beats it: -0.002 ± 0.001 over 6 measurements since`."""
    assert step.before is not None
    name = ledger.trial_id(step.before.trial)
    return f"{name} -> {step.trial.id}: {step.promotion.reason.removeprefix(f'{name} ')}"


def compared_by(ledger: Ledger, promotion: Promotion) -> list[Observation]:
    """What a master is compared by: everything but the screening run that first singled it out."""
    seen = observations(ledger, promotion.campaign, promotion.program)
    return [one for one in seen if one.stage != "screen" or one.at == 0]


def unselected(ledger: Ledger, promotion: Promotion) -> list[Observation]:
    """Measurements of a promoted program that had no part in its selection: its controls, and the newest two of those
    that were made after a decision (earlier ones are of a decision that came to nothing, and were tested again)."""
    seen = observations(ledger, promotion.campaign, promotion.program)
    reported = [one for one in seen if one.stage.endswith("confirm")]
    newest = reported[-1].stage if reported else ""
    counted = [one for one in reported if one.stage == newest][-2:]
    return [one for one in seen if CONTROL in one.stage or one.at == 0 or one in counted]


def is_control(measurement: Measurement) -> bool:
    """Whether a program was measured as the master, in turn with some candidate."""
    return CONTROL in measurement.stage


def is_sealed(measurement: Measurement) -> bool:
    """Whether it is a look at the sealed split: agents learn what came of it, never its score."""
    return "certify" in measurement.stage


def sign(campaign: Campaign) -> float:
    """+1 if a higher score is better in a campaign, -1 if a lower one is."""
    task = campaign.config["task"]
    return 1.0 if task.get("objective") != "wallclock" and task["metric"]["direction"] == "maximize" else -1.0


def sealed_gain(ledger: Ledger, step: Step) -> float | None:
    """How much better a promoted trial is on the sealed split than what it replaced (positive is better), by the first
    look at each; None if one of the two was not looked at, or failed there."""
    campaign = step.promotion.campaign
    return _sealed_gain(sign(ledger.campaign(campaign)), step.promotion, step.before, looks(ledger, campaign))


def _kind(step: Promotion, trial: Trial) -> str:
    """The kind of a promotion; campaigns that were pulled, or begun by an earlier version, do not tell it."""
    if step.kind == "demotion":
        return step.kind
    if trial.ordinal == 0:
        return BASELINE
    return "simplification" if trial.verdict is Verdict.SIMPLIFICATION else step.kind


def _certified(ledger: Ledger, campaign: Campaign, chain: Sequence[Promotion]) -> set[int]:
    """The promotions whose gain is there on the sealed split as well, whenever it was looked at."""
    seen = looks(ledger, campaign.id)
    known = {step.number: step for step in chain}
    gains = {
        step.number: _sealed_gain(sign(campaign), step, known.get(step.replaced or -1), seen)
        for step in (chain if seen else ())
    }
    return {number for number, gain in gains.items() if gain is not None and gain > 0}


def _sealed_gain(
    direction: float, step: Promotion, before: Promotion | None, seen: Sequence[SealedLook]
) -> float | None:
    first = {look.trial: look.score for look in reversed(seen) if look.score is not None}
    own, other = first.get(step.trial), first.get(before.trial) if before else None
    return None if own is None or other is None else direction * (own - other)
