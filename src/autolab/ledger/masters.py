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
    newest = (chain or last_steps(ledger, campaign, 1)[0])[-1]
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
    return last_steps(ledger, campaign)[0]


def last_steps(ledger: Ledger, campaign: str, count: int | None = None) -> tuple[list[Step], dict[int, str]]:
    """The last `count` changes of a campaign's master, oldest first, all by default; and the state of every trial that
    was ever promoted, as of `states`. A trial's proposal is only read for the changes that are returned."""
    chain = ledger.promotions(campaign)
    known = {step.number: step for step in chain}
    taken_back = {step.replaced for step in chain if step.kind == "demotion"}
    certified = _certified(ledger, campaign, chain)
    heads = _heads(ledger, campaign)
    first = 0 if count is None else max(0, len(chain) - count)
    now: dict[int, str] = {}  # of a trial, by its last promotion
    found, shown = [], {}
    for place, step in enumerate(chain):
        ordinal, verdict = heads[step.trial]
        kind = _kind(step, ordinal, verdict)
        if kind == "demotion":
            state = now.get(step.trial, BASELINE)
        elif kind == "improvement":
            state = Verdict.CERTIFIED if step.number in certified else Verdict.CONFIRMED
            state = Verdict.CERTIFIED if verdict is Verdict.CERTIFIED else state
        else:
            state = kind
        now[step.trial] = state
        told = DEMOTED if step.number in taken_back else str(state)
        if kind != "demotion" and ordinal > 0:
            shown[step.trial] = told
        if place >= first:
            found.append(Step(step, ledger.trial(step.trial), kind, told, known.get(step.replaced or -1)))
    return found, shown


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


def _heads(ledger: Ledger, campaign: str) -> dict[int, tuple[int, Verdict | None]]:
    """(ordinal, verdict) of every trial that was ever promoted, without its proposal, which can be long."""
    rows = ledger.rows.execute(
        "SELECT number, ordinal, verdict FROM trial WHERE number IN (SELECT trial FROM promotion WHERE campaign = ?)",
        (campaign,),
    )
    return {
        row["number"]: (row["ordinal"], Verdict(row["verdict"]) if row["verdict"] else None) for row in rows
    }


def _kind(step: Promotion, ordinal: int, verdict: Verdict | None) -> str:
    """The kind of a promotion; campaigns that were pulled, or begun by an earlier version, do not tell it."""
    if step.kind == "demotion":
        return step.kind
    if ordinal == 0:
        return BASELINE
    return "simplification" if verdict is Verdict.SIMPLIFICATION else step.kind


def _certified(ledger: Ledger, campaign: str, chain: Sequence[Promotion]) -> set[int]:
    """The promotions whose gain is there on the sealed split as well, whenever it was looked at."""
    seen = looks(ledger, campaign)
    if not seen:
        return set()
    known = {step.number: step for step in chain}
    direction = sign(ledger.campaign(campaign))
    gains = {
        step.number: _sealed_gain(direction, step, known.get(step.replaced or -1), seen) for step in chain
    }
    return {number for number, gain in gains.items() if gain is not None and gain > 0}


def _sealed_gain(
    direction: float, step: Promotion, before: Promotion | None, seen: Sequence[SealedLook]
) -> float | None:
    first = {look.trial: look.score for look in reversed(seen) if look.score is not None}
    own, other = first.get(step.trial), first.get(before.trial) if before else None
    return None if own is None or other is None else direction * (own - other)
