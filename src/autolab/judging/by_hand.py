"""What a person may ask for after a trial has ended: more evidence, or a look at the sealed split.

A trial never changes once it is done; its test goes on. Stopping a sequential test and taking it up again costs no
error: that is what its evidence is valid for.
"""

from __future__ import annotations

from dataclasses import dataclass

from autolab.errors import LabError
from autolab.judge.noise import Noise
from autolab.judge.promotion import ESTIMATES
from autolab.judging.course import (
    CONTRADICTED,
    contradicted,
    criterion,
    examine,
    finished,
    in_turn,
    noise_now,
    promote,
    reported,
    see_master_anew,
)
from autolab.lab import Lab
from autolab.ledger.observations import (
    AGAIN,
    CONTROL,
    after_all,
    decision,
    forget_decision,
    keep_decision,
    looks,
)
from autolab.ledger.records import PROMOTED, Decision, Measurement, Promotion, Status, Trial, Verdict


@dataclass(frozen=True)
class Outcome:
    """What came of it. `promoted`: the trial is master now."""

    verdict: Verdict
    note: str
    promoted: bool = False


def confirm(lab: Lab, trial: Trial, most_runs: int) -> tuple[Measurement, ...] | Outcome:
    """The next measurements for the test of a finished trial against the master, or how it ended.

    `most_runs`: of the trial's program, the earlier ones included. Raises LabError for a trial that cannot be tested.
    """
    if trial.status is not Status.OK:
        raise LabError(f"trial {trial.id} has no score: {trial.status}", mend="`autolab show` tells why")
    if trial.ordinal == 0:
        raise LabError(
            f"trial {trial.id} is the baseline, which every master was measured against",
            mend="`autolab replay master --seeds 3` puts the master to the test",
        )
    with lab.ledger.transaction():
        master = lab.ledger.master(trial.campaign)
        turn = after_all(lab.ledger, trial.campaign)
        noise = noise_now(lab, turn)
        if master.program == trial.program:
            raise LabError(
                f"trial {trial.id} is the master",
                mend="`autolab replay master --seeds 3` puts it to the test",
            )
        made = decision(lab.ledger, trial.number)
        if made is None or made.promotion != master.number:
            found = _test(lab, trial, master, noise, turn, most_runs)
            if not isinstance(found, Decision):
                return found
            made = found
        stage = f"{AGAIN}-confirm"
        estimates = [lab.needed(trial, stage, made.estimates + k) for k in range(ESTIMATES)]
        if waiting := tuple(one for one in estimates if one.status is None):
            return waiting
        if failed := next((one for one in estimates if one.score is None), None):
            forget_decision(lab.ledger, trial.number)
            return Outcome(Verdict.PROVISIONAL, f"a further run ended as {failed.status}: {failed.cause}")
        score, bounds, gain, se, note = reported(lab, trial, master, noise, made, estimates)
        forget_decision(lab.ledger, trial.number)
        if contradicted(lab, noise, gain, se):
            return Outcome(Verdict.PROVISIONAL, f"{note}: {CONTRADICTED}")
        promote(lab, trial, made, score, bounds, gain, f"{note} (asked for by a person)")
        see_master_anew(lab, noise)
        return Outcome(made.verdict, note, promoted=True)


def _test(
    lab: Lab, trial: Trial, master: Promotion, noise: Noise, turn: int, most_runs: int
) -> tuple[Measurement, ...] | Outcome | Decision:
    finding = examine(lab, trial, master, noise, turn=turn, most_runs=most_runs)
    if finding.want:
        stages = AGAIN, f"{AGAIN}-{CONTROL}{trial.ordinal}"
        return in_turn(lab, trial, master, finding.want, *stages)
    assert finding.verdict is not None
    if finding.verdict not in PROMOTED:
        see_master_anew(lab, noise)
        return Outcome(finding.verdict, finding.note or f"{finding.gain:+.4g}, not worth a further run")
    estimates = len(finished(lab, trial, f"{AGAIN}-confirm"))
    made = Decision(trial.number, master.number, finding.verdict, finding.note, estimates)
    keep_decision(lab.ledger, made)
    return made


def certify(lab: Lab, promotion: Promotion) -> tuple[Measurement, ...] | Outcome:
    """The looks at the sealed split that certifying a promotion still needs, or what they showed. One look each.

    Raises LabError if the task has no sealed split, or for the baseline, which replaced nothing.
    """
    if lab.task.metric.sealed is None:
        raise LabError(
            "the task has no sealed split",
            where="task.yaml",
            mend="name what the evaluator reports there as `metric.sealed` (docs/task.md)",
        )
    before = next(
        (p for p in lab.ledger.promotions(promotion.campaign) if p.number == promotion.replaced), None
    )
    if before is None:
        raise LabError(
            "the baseline replaced nothing, so there is no gain to certify", mend="certify a later trial"
        )
    with lab.ledger.transaction():
        scored = {look.trial for look in looks(lab.ledger, promotion.campaign) if look.score is not None}
        missing = [number for number in (promotion.trial, before.trial) if number not in scored]
        asked = [lab.needed(lab.ledger.trial(number), "certify") for number in missing]
        if waiting := tuple(one for one in asked if one.status is None):
            return waiting
        seen = {look.trial: look for look in looks(lab.ledger, promotion.campaign)}
    own, other = seen[promotion.trial], seen[before.trial]
    if own.score is None or other.score is None:
        broken = own if own.score is None else other
        return Outcome(
            Verdict.CONFIRMED, f"not certified: a look at the sealed split ended as {broken.status}"
        )
    gain = criterion(lab).sign * (own.score - other.score)
    if gain <= 0:
        return Outcome(Verdict.CONFIRMED, f"{gain:+.4g} on the sealed split")
    return Outcome(Verdict.CERTIFIED, f"{gain:+.4g} on the sealed split")
