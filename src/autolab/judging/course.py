"""The course of a trial after it is queued: which measurements it needs, and what becomes of it.

Everything is in the ledger, so `advance` can be called by any process, again and again, after any crash: it looks at
what has been measured and says what comes next. A trial's outcome, a promotion and the master's new standing are one
transaction, judged against the master that is in force at that moment, so a slower writer can never overwrite a
better master.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autolab.judge.noise import Noise, learn
from autolab.judge.promotion import ESTIMATES, MOST_RUNS, Criterion, Finding, Want, decide
from autolab.judge.standing import gain_interval, half_width, in_doubt, level, restate, still_better
from autolab.lab import Lab
from autolab.ledger.masters import compared_by, unselected
from autolab.ledger.observations import (
    CONTROL,
    decision,
    forget_decision,
    keep_decision,
    looks,
    observations,
    scatter_sample,
    scatters,
    set_standing,
    standing,
)
from autolab.ledger.records import (
    PROMOTED,
    Decision,
    Measurement,
    Promotion,
    Status,
    Trial,
    TrialState,
    Verdict,
)
from autolab.program.complexity import simpler

CONTRADICTED = "what was measured after the decision speaks against it"
FAILED_CONTROLS = 3  # of the master for one candidate, after which the comparison is given up

Step = tuple[Measurement, ...] | Trial


def advance(lab: Lab, number: int) -> Step:
    """What comes next for a queued trial: measurements to run, in any order or at once, or the trial as it ended."""
    with lab.ledger.transaction():
        trial = lab.ledger.trial(number)
        if trial.state is TrialState.DONE:
            return trial
        if trial.ordinal == 0:
            return _baseline(lab, trial)
        return _candidate(lab, trial)


def criterion(lab: Lab) -> Criterion:
    """What a promotion needs in this campaign."""
    metric, rule = lab.task.metric, lab.task.promotion
    return Criterion(lab.task.sign, metric.min_effect, metric.deterministic, rule.level, rule.target)


def noise_now(lab: Lab, until: int) -> Noise:
    """The noise as the trial of this ordinal may know it. Where the task says that there is none, and nothing that was
    measured says otherwise, nothing is learned."""
    if lab.task.metric.deterministic and not scatters(lab.ledger, lab.campaign.id, until):
        return Noise("unknown")
    return learn(*scatter_sample(lab.ledger, lab.campaign, until))


# the baseline -----------------------------------------------------------------------------------------


def _baseline(lab: Lab, trial: Trial) -> Step:
    replicates = lab.first_measurements(trial)
    waiting = tuple(measured for measured in replicates if measured.status is None)
    if waiting:
        return waiting
    failed = next((measured for measured in replicates if measured.score is None), None)
    if failed is not None:
        return _failed(lab, trial, failed)
    noise = noise_now(lab, 0)
    seen = observations(lab.ledger, trial.campaign, trial.program or "")
    score, low, high = level(seen, noise)
    alone = learn(seen)
    lab.ledger.set_campaign(trial.campaign, noise_sd=alone.sd)
    done = lab.ledger.finish_trial(
        trial.number,
        Status.OK,
        verdict=Verdict.CONFIRMED,
        score=score,
        interval=(low, high),
        delta=0.0,
        note=f"{len(replicates)} replicates, standard deviation {alone.sd:.4g}" + _reused(lab, trial),
    )
    promoted = lab.ledger.promote(
        done, score=score, interval=(low, high), gain=0.0, reason="baseline", kind="baseline"
    )
    set_standing(lab.ledger, restate(criterion(lab), noise, promoted, unselected(lab.ledger, promoted), None))
    return done


# a candidate ------------------------------------------------------------------------------------------


def _candidate(lab: Lab, trial: Trial) -> Step:
    screened = lab.needed(trial, "screen")
    if screened.status is None:
        return (screened,)
    if screened.score is None:
        return _failed(lab, trial, screened)
    master = lab.ledger.master(trial.campaign)
    plainly = (
        lab.task.metric.deterministic
        and lab.task.gain(screened.score, master.score) <= lab.task.metric.min_effect
    )
    noise = Noise("unknown") if plainly else noise_now(lab, trial.ordinal)
    made = decision(lab.ledger, trial.number)
    if made is None or made.promotion != master.number:
        if doubted := _doubted(lab, trial, master):
            return doubted
        confirms = len(finished(lab, trial, "confirm"))
        finding = examine(lab, trial, master, noise)
        if finding.want:
            return _wanted(lab, trial, master, noise, finding.want)
        if finding.verdict not in PROMOTED:
            return _not_better(lab, trial, noise, finding)
        made = Decision(trial.number, master.number, finding.verdict, finding.note, confirms)
        keep_decision(lab.ledger, made)
    return _settle(lab, trial, master, noise, made)


def _doubted(lab: Lab, trial: Trial, master: Promotion) -> tuple[Measurement, ...]:
    """One more run of a master that what came after its selection speaks against, with every trial until that is
    settled: nothing would beat a lucky master, and so nothing would be measured beside it."""
    seen = standing(lab.ledger, trial.campaign)
    if seen is None or not in_doubt(seen):
        return ()
    control = lab.needed(lab.ledger.trial(master.trial), f"{CONTROL}{trial.ordinal}")
    return (control,) if control.status is None else ()


def examine(
    lab: Lab,
    trial: Trial,
    master: Promotion,
    noise: Noise,
    *,
    turn: int | None = None,
    most_runs: int = MOST_RUNS,
) -> Finding:
    """What the measurements of a trial so far say, against a master. `turn`: when its runs are made, on the campaign's
    clock, if the trial is taken up again."""
    everything = observations(lab.ledger, trial.campaign, trial.program or "")
    smaller = lab.task.metric.min_effect > 0 and simpler(
        lab.ledger.program(trial.program or ""), lab.ledger.program(master.program)
    )
    seen = sorted(everything, key=lambda one: one.stage != "screen")
    against = compared_by(lab.ledger, master)
    return decide(
        criterion(lab), noise, seen, against, trial.ordinal, turn=turn, simpler=smaller, most_runs=most_runs
    )


def _wanted(lab: Lab, trial: Trial, master: Promotion, noise: Noise, wants: Sequence[Want]) -> Step:
    """The next measurements of the candidate, and of the master in turn with it."""
    broken = [one for one in finished(lab, trial, "replicate") if one.score is None]
    if broken:
        return _failed(lab, trial, broken[0])
    stage = f"{CONTROL}{trial.ordinal}"
    failed = [one for one in finished(lab, lab.ledger.trial(master.trial), stage) if one.score is None]
    if "master" in wants and len(failed) >= FAILED_CONTROLS:
        why = f"failed on {len(failed)} fresh seeds: {failed[-1].cause}"
        before = _before(lab, master)
        if before is not None:  # nothing could ever be compared with it
            _step_back(lab, noise, master, before, why, gain=0.0)
            return _candidate(lab, trial)
        finding = Finding((), Verdict.PROVISIONAL, note=f"no comparison: the master itself {why}")
        return _not_better(lab, trial, noise, finding)
    return in_turn(lab, trial, master, wants, "replicate", stage)


def in_turn(
    lab: Lab, trial: Trial, master: Promotion, wants: Sequence[Want], own_stage: str, control_stage: str
) -> tuple[Measurement, ...]:
    """Measurements of a candidate and of the master, as wanted."""
    incumbent = lab.ledger.trial(master.trial)
    own, other = len(finished(lab, trial, own_stage)), len(finished(lab, incumbent, control_stage))
    wanted = []
    for want in wants:
        if want == "candidate":
            wanted.append(lab.needed(trial, own_stage, own))
            own += 1
        else:
            wanted.append(lab.needed(incumbent, control_stage, other))
            other += 1
    return tuple(wanted)


def finished(lab: Lab, trial: Trial, stage: str) -> list[Measurement]:
    """The finished measurements of one stage: each replicate's last attempt."""
    found: list[Measurement] = []
    while True:
        measured = lab.needed(trial, stage, len(found))
        if measured.status is None:
            return found
        found.append(measured)


def _settle(lab: Lab, trial: Trial, master: Promotion, noise: Noise, made: Decision) -> Step:
    """The test has ended well: measure what is reported, look at the sealed split, and promote."""
    estimates = [lab.needed(trial, "confirm", made.estimates + k) for k in range(ESTIMATES)]
    sealed = [lab.needed(one, "certify") for one in _to_certify(lab, trial, master)]
    waiting = tuple(measured for measured in (*estimates, *sealed) if measured.status is None)
    if waiting:
        return waiting
    broken = (Status.ILLEGAL, Status.TAMPERED)
    failed = [one for one in estimates if one.score is None]
    failed += [one for one in sealed if one.trial == trial.number and one.status in broken]
    if failed:
        return _failed(lab, trial, failed[0])
    verdict, sealed_note = _certified(lab, trial, master, made.verdict)
    score, bounds, gain, se, note = reported(lab, trial, master, noise, made, estimates)
    if contradicted(lab, noise, gain, se):
        finding = Finding((), Verdict.PROVISIONAL, gain, se, note=f"{note}: {CONTRADICTED}")
        return _not_better(lab, trial, noise, finding)
    done = lab.ledger.finish_trial(
        trial.number,
        Status.OK,
        verdict=verdict,
        score=score,
        interval=bounds,
        delta=gain,
        note=note + sealed_note + _reused(lab, trial),
    )
    promote(lab, done, made, score, bounds, gain, note)
    forget_decision(lab.ledger, trial.number)
    see_master_anew(lab, noise)
    return done


def reported(
    lab: Lab,
    trial: Trial,
    master: Promotion,
    noise: Noise,
    made: Decision,
    estimates: Sequence[Measurement],
) -> tuple[float, tuple[float, float], float, float, str]:
    """(score, its interval, gain, its standard error, note) of a decision, from what was measured after it."""
    seen = observations(lab.ledger, trial.campaign, trial.program or "")
    after = [one for one in seen if one.stage == estimates[0].stage][-len(estimates) :]
    score, low, high = level(after, noise)
    gain, se = gain_interval(
        criterion(lab), noise, after, unselected(lab.ledger, master) or compared_by(lab.ledger, master)
    )
    note = f"{made.note}; then {gain:+.4g} ± {half_width(se, noise):.2g} on {len(after)} more"
    return score, (low, high), gain, se, note


def contradicted(lab: Lab, noise: Noise, gain: float, se: float) -> bool:
    """Whether what was measured after a decision is plainly a loss."""
    return gain + half_width(se, noise) < -lab.task.metric.min_effect


def promote(
    lab: Lab,
    trial: Trial,
    made: Decision,
    score: float,
    bounds: tuple[float, float],
    gain: float,
    reason: str,
) -> None:
    """Make a trial's program the master."""
    kind = "simplification" if made.verdict is Verdict.SIMPLIFICATION else "improvement"
    lab.ledger.promote(trial, score=score, interval=bounds, gain=gain, reason=reason, kind=kind)


def _to_certify(lab: Lab, trial: Trial, master: Promotion) -> list[Trial]:
    """Whose sealed score is needed: the candidate's, and that of the master it is compared with, once each."""
    if lab.task.metric.sealed is None:
        return []
    known = {look.trial for look in looks(lab.ledger, trial.campaign) if look.score is not None}
    return [trial, *([lab.ledger.trial(master.trial)] if master.trial not in known else [])]


def _certified(lab: Lab, trial: Trial, master: Promotion, verdict: Verdict) -> tuple[Verdict, str]:
    """The verdict after the look at the sealed split: certified if the gain is there as well."""
    if lab.task.metric.sealed is None:
        return verdict, ""
    seen = {look.trial: look for look in looks(lab.ledger, trial.campaign)}
    own, before = seen[trial.number], seen[master.trial]
    if own.score is None or before.score is None:
        broken = own if own.score is None else before
        return verdict, f"; not certified: the look at the sealed split ended as {broken.status}"
    # How much better it is there stays in the log of looks: what agents read must not wear the split out.
    if criterion(lab).sign * (own.score - before.score) <= 0:
        return verdict, "; not certified: no gain on the sealed split"
    return (
        verdict if verdict is Verdict.SIMPLIFICATION else Verdict.CERTIFIED
    ), "; certified on the sealed split"


# ends -------------------------------------------------------------------------------------------------


def _not_better(lab: Lab, trial: Trial, noise: Noise, finding: Finding) -> Trial:
    """End a trial that is not promoted. Its score is of the fresh runs, if there are any: the first one chose them."""
    seen = observations(lab.ledger, trial.campaign, trial.program or "")
    fresh = [one for one in seen if one.stage != "screen"] or seen
    score, low, high = level(fresh, noise)
    forget_decision(lab.ledger, trial.number)
    done = lab.ledger.finish_trial(
        trial.number,
        Status.OK,
        verdict=finding.verdict,
        score=score,
        interval=(low, high),
        delta=finding.gain,
        note=finding.note + _reused(lab, trial),
    )
    if lab.ledger.attempts(_first_control(lab, trial)):
        see_master_anew(lab, noise)
    return done


def _first_control(lab: Lab, trial: Trial) -> str:
    """What the first measurement of the master for this trial is called, without the number of the attempt."""
    master = lab.ledger.master(trial.campaign)
    return f"{lab.ledger.trial_id(master.trial)}-{CONTROL}{trial.ordinal}-0"


def _reused(lab: Lab, trial: Trial) -> str:
    """A word on measurements that were not made for this trial: they are the same evidence once more."""
    reused = [m.cached_from for m in lab.ledger.measurements(trial.number) if m.cached_from]
    return f" (no new evidence: {', '.join(reused)} from the cache)" if reused else ""


def _failed(lab: Lab, trial: Trial, measured: Measurement) -> Trial:
    assert measured.status is not None
    cause = measured.cause if measured.stage == "screen" else f"on a fresh seed: {measured.cause}"
    if measured.stage == "certify":
        cause = "on the sealed split"  # its cause may hold a score, and agents read this
    forget_decision(lab.ledger, trial.number)
    return lab.ledger.finish_trial(trial.number, measured.status, note=cause)


# the master, seen anew --------------------------------------------------------------------------------


def see_master_anew(lab: Lab, noise: Noise) -> None:
    """Estimate the master from all that is known now; demote it if it no longer beats what it replaced."""
    master = lab.ledger.master(lab.campaign.id)
    before = _before(lab, master)
    earlier = unselected(lab.ledger, before) if before else None
    now = restate(criterion(lab), noise, master, unselected(lab.ledger, master), earlier)
    slack = lab.task.metric.min_effect if master.kind == "simplification" else 0.0
    if before is not None and not still_better(now, slack):
        gain, se = now.gain or 0.0, now.gain_se or 0.0
        why = f"no longer beats it: {gain:+.4g} ± {half_width(se, noise):.2g} over {now.runs} measurements since"
        _step_back(lab, noise, master, before, why, gain=-gain)
    else:
        set_standing(lab.ledger, now)


def _before(lab: Lab, master: Promotion) -> Promotion | None:
    """What a master replaced when it was promoted; a demotion that brought it back does not count."""
    chain = {step.number: step for step in lab.ledger.promotions(master.campaign)}
    origin = next(
        step for step in reversed(chain.values()) if step.trial == master.trial and step.kind != "demotion"
    )
    return chain.get(origin.replaced or -1)


def _step_back(lab: Lab, noise: Noise, master: Promotion, before: Promotion, why: str, gain: float) -> None:
    """Make what a master replaced the master again."""
    again = restate(criterion(lab), noise, before, unselected(lab.ledger, before), None)
    back = lab.ledger.promote(
        lab.ledger.trial(before.trial),
        score=again.score,
        interval=(again.low, again.high),
        gain=gain,
        reason=f"{lab.ledger.trial_id(master.trial)} {why}",
        kind="demotion",
    )
    set_standing(lab.ledger, dataclasses.replace(again, promotion=back.number))
