"""The master, promotions and prices in words for a terminal: what `status`, `show`, `master` and `lineage` share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autolab.cli.fitting import cut, harmless, width, wrap
from autolab.judge.noise import Noise
from autolab.judge.price import Price, price
from autolab.judge.promotion import Criterion
from autolab.judge.standing import gain_interval, half_width
from autolab.ledger.masters import (
    Master,
    Step,
    is_sealed,
    sealed_gain,
    sign,
    unselected,
    way_back,
)
from autolab.ledger.observations import looks
from autolab.ledger.records import Measurement
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, timestamp
from autolab.report.overview.words import counted

LABEL = 12  # columns that the labels of `show` take
SCORE = 23  # columns that a score with its interval usually takes
Interval = tuple[float, float | None, float | None]  # value, low, high


def score_text(score: float | None, low: float | None, high: float | None) -> str:
    """`2.2214 [2.19, 2.25]`, or a dash: a failed trial has no score. The interval has two digits of its width."""
    if score is None:
        return "-"
    if low is None or high is None or not high > low:
        return f"{score:.5g}"
    places = max(0, 1 - math.floor(math.log10(high - low)))
    whole = math.floor(math.log10(max(abs(score), abs(low), abs(high), 1e-300))) + 1
    digits = max(4, min(15, whole + places))
    return f"{score:.{max(5, digits)}g} [{low:.{digits}g}, {high:.{digits}g}]"


def gain_text(gain: float, low: float | None, high: float | None) -> str:
    """`+0.1905 [0.17, 0.21]`."""
    text = f"{gain:+.4g}"
    return text if low is None or high is None or low == high else f"{text} [{low:.3g}, {high:.3g}]"


def standing_text(seen: Master) -> str:
    """The master's score now, with its interval, state and basis: `2.3894 [2.38, 2.4] certified, from 26 runs`."""
    text = f"{score_text(seen.score, seen.low, seen.high)} {seen.state}"
    return text if seen.runs is None else f"{text}, from {counted(seen.runs, 'run')}"


def noise_text(sd: float | None, df: int | None, deterministic: bool = False) -> str:
    """The noise as it is known now: `0.0012 a run, 14 degrees of freedom`. `deterministic`: the task says that there is
    none, and so it is not measured unless runs differ."""
    if deterministic and not (sd and df):
        return "deterministic: the task says that no run scatters"
    if sd is None or df == 0:
        return "not known: nothing was measured twice"
    if sd == 0:
        return "none seen: runs of one program gave the same digits"
    return f"{sd:.2g} a run" + ("" if df is None else f", {df} degree{'' if df == 1 else 's'} of freedom")


def wrapped(label: str, text: str, indent: int = LABEL) -> list[str]:
    """A labelled text as lines that fit, the further ones indented."""
    lines = wrap(harmless(text), width() - indent) or [""]
    return [f"{'' if place else label:<{indent}}{line}".rstrip() for place, line in enumerate(lines)]


def over_baseline(ledger: Ledger, seen: Master, chain: Sequence[Step]) -> Interval:
    """The master's gain over the baseline, with a 95 % interval where both were measured on one host in this lab."""
    first, campaign = chain[0].promotion, ledger.campaign(seen.promotion.campaign)
    direction = sign(campaign)
    known = seen.noise_sd is not None and seen.noise_sd > 0
    noise = Noise("known" if known else "unknown", seen.noise_sd or 0.0, seen.noise_df or 0)
    ours, theirs = unselected(ledger, seen.promotion), unselected(ledger, first)
    gain, se = gain_interval(Criterion(direction), noise, ours, theirs)
    if not math.isfinite(se):
        return direction * (seen.score - first.score), None, None
    half = half_width(se, noise)
    return gain, gain - half, gain + half


def price_of(ledger: Ledger, step: Step) -> Price | None:
    """What a promoted trial costs beside its score, over the program that it replaced; None for the baseline."""
    if step.before is None:
        return None
    old, new = step.before, step.promotion
    return price(
        ledger.program(old.program), ledger.program(new.program), _runs(ledger, old.trial), _runs(ledger, new.trial)
    )  # fmt: skip


def _runs(ledger: Ledger, trial: int) -> list[Measurement]:
    return [m for m in ledger.measurements(trial) if not m.stage.startswith("replay") and not is_sealed(m)]


def sealed_lines(ledger: Ledger, step: Step) -> list[str]:
    """What the looks at the sealed split say of a promotion: whether it is certified, by how much, and when."""
    seen = [look for look in looks(ledger, step.promotion.campaign) if look.trial == step.trial.number]
    if not seen:
        return []
    when = ", ".join(f"{timestamp(look.at)} ({look.asked_by})" for look in seen)
    gain = sealed_gain(ledger, step)
    if step.before is None:
        said = "looked at"
    elif gain is None:
        said = f"not certified: a look ended as {seen[-1].status}"
    else:
        over = ledger.trial_id(step.before.trial)
        said = f"{'certified' if gain > 0 else 'not certified'}: {gain:+.4g} over {over} on the sealed split"
    return wrapped("sealed", f"{said}, {counted(len(seen), 'look')}: {when}")


def control_lines(measured: Sequence[Measurement]) -> list[str]:
    """The master's measurements in turn with candidates, in one line: `24 controls, mean 1.3021, 1.2987 to 1.3055`."""
    if not measured:
        return []
    scores = [m.score for m in measured if m.score is not None]
    waiting = sum(m.status is None for m in measured)
    failed = len(measured) - len(scores) - waiting
    said = counted(len(measured), "control")
    if scores:
        said += f", mean {math.fsum(scores) / len(scores):.5g}, {min(scores):.5g} to {max(scores):.5g}"
    said += f", {failed} failed" * bool(failed) + f", {waiting} under way" * bool(waiting)
    return wrapped("controls", f"{said}: as the master, in turn with candidates")


def master_lines(ledger: Ledger, seen: Master, chain: Sequence[Step], indent: int = LABEL) -> list[str]:
    """The gains and the noise of the master as it is seen now."""
    first, gains = chain[0].promotion, []
    if seen.gain is not None and seen.over is not None:
        gains.append(f"{gain_text(seen.gain, seen.gain_low, seen.gain_high)} over trial {seen.over.id}")
    if seen.promotion.program != first.program and (seen.over is None or seen.over.number != first.trial):
        gains.append(
            f"{gain_text(*over_baseline(ledger, seen, chain))} over the baseline ({first.score:.5g})"
        )
    lines = [line for gain in gains for line in wrapped("gain", gain, indent)]
    metric = ledger.campaign(seen.promotion.campaign).config["task"]["metric"]
    noise = noise_text(seen.noise_sd, seen.noise_df, bool(metric.get("deterministic")))
    return lines + wrapped("noise", noise, indent)


def step_line(ledger: Ledger, step: Step) -> str:
    """One change of the master, as it was when it was made, and its state now; indented, on one line."""
    if step.kind == "demotion":
        return "  " + shortened(way_back(ledger, step), width() - 2)
    made = step.promotion
    gain = f"{made.gain:+.4g}" if step.before is not None else ""
    score = score_text(made.score, made.score_low, made.score_high)
    head = f"  {step.trial.id}  {score:<{SCORE}}  {gain:<9}  {step.state}  "
    return cut(head + shortened(step.trial.hypothesis, max(0, width() - len(head))), width())


def shortened(text: str, room: int) -> str:
    """Somebody's words on one line of at most `room` columns."""
    return cut(cell(text), room)
