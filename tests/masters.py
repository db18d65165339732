"""A lab whose master changed in every way there is, for tests of what people and agents are shown of it."""

from __future__ import annotations

from pathlib import Path

from conftest import TASK, write_toy
from scripted import start

from autolab.lab import Lab
from autolab.ledger.observations import log_look, set_standing
from autolab.ledger.records import Measurement, Promotion, Proposal, Standing, Status, Trial, Verdict
from autolab.task import Edit

SEALED = 7.25  # the certified trial's score on the sealed split, like no other number here
CONTROLS = 24


def the_story(directory: Path) -> Lab:
    """0001 is the baseline; 0002 was promoted and certified; 0003 is simpler, promoted for that; 0004 is provisional;
    0005 was promoted by luck and demoted, so that 0003 is master again, with its controls; 0006 is worse."""
    lab = start(write_toy(directory, task=TASK.replace("bounds:", "sealed: sealed_loss, bounds:")))
    first = next(lab.ledger.sequence(lab.campaign.id))
    ended(lab, first, Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    ended(lab, opened(lab, "a larger rate", "0.6"), Verdict.CERTIFIED, 1.3, 0.1)
    looked(lab, 1, SEALED + 0.5)
    looked(lab, 2, SEALED)
    promoted(lab, 2, "improvement", 0.1)
    ended(lab, opened(lab, "no shift", "0.7"), Verdict.SIMPLIFICATION, 1.3, 0.001)
    promoted(lab, 3, "simplification", 0.001)
    ended(lab, opened(lab, "a warmer start", "0.8"), Verdict.PROVISIONAL, 1.29, 0.01)
    ended(lab, opened(lab, "luck", "0.9"), Verdict.CONFIRMED, 1.28, 0.02)
    promoted(lab, 5, "improvement", 0.02)
    name = lab.ledger.trial_id(5)
    reason = f"{name} no longer beats it: -0.01 ± 0.004 over 6 measurements since"
    back = promoted(lab, 3, "demotion", 0.01, reason)
    ended(lab, opened(lab, "the worst", "0.1"), Verdict.WORSE, 1.6, -0.3)
    for n in range(CONTROLS):
        measured(lab, 3, f"control-{6}", 1.3 + 0.0001 * n, n)
    stands(lab, back, score=1.301, runs=26)
    return lab


def opened(lab: Lab, hypothesis: str, rate: str) -> Trial:
    """A trial that sets the rate, queued."""
    ticket = lab.open_trial(role="worker", agent="test", surface="optimizer")
    (line,) = [line for line in ticket.parent_files["train.py"].splitlines() if line.startswith("RATE")]
    edit = Edit(path="train.py", search=line, replace=f"RATE = {rate}")
    return lab.submit(ticket, Proposal(hypothesis, (edit,), surface="optimizer"))


def measured(lab: Lab, number: int, stage: str, score: float, replicate: int = 0) -> Measurement:
    """A finished measurement of a trial."""
    name = lab.task.metric.reported(stage)
    wanted = Measurement(
        f"{lab.ledger.trial_id(number)}-{stage}-{replicate}-1", number, stage, seed=1, eval_seed=2
    )
    return lab.record(
        wanted.replace(
            status=Status.OK, metrics={name: score}, host="here", train_cpu_seconds=1.0, peak_memory_mb=50.0,
            sandbox="bubblewrap", log_excerpt=f"{name} {score}" if stage == "certify" else "",
        )
    )  # fmt: skip


def ended(lab: Lab, trial: Trial, verdict: Verdict, score: float, gain: float) -> Trial:
    """Let a trial end, measured as one with this verdict is."""
    several = ("screen", "confirm", "confirm") if verdict is not Verdict.WORSE else ("screen",)
    for n, stage in enumerate(several):
        measured(lab, trial.number, stage, score + 0.001 * n, n)
    return lab.ledger.finish_trial(
        trial.number, Status.OK, verdict=verdict, score=score, interval=(score - 0.005, score + 0.005), delta=gain
    )  # fmt: skip


def promoted(lab: Lab, number: int, kind: str, gain: float = 0.0, reason: str = "better") -> Promotion:
    """Make a trial the master."""
    trial = lab.ledger.trial(number)
    assert trial.score is not None
    bounds = (trial.score - 0.005, trial.score + 0.005)
    return lab.ledger.promote(
        trial, score=trial.score, interval=bounds, gain=gain, reason=reason, kind=kind
    )  # fmt: skip


def looked(lab: Lab, number: int, score: float, asked_by: str = "promotion") -> None:
    """Log a look at the sealed split."""
    log_look(lab.ledger, lab.campaign.id, measured(lab, number, "certify", score), asked_by)


def stands(
    lab: Lab,
    promotion: Promotion,
    *,
    score: float,
    runs: int,
    gain: float | None = None,
    se: float | None = None,
) -> None:
    """Say how the master stands now."""
    half = None if se is None else 2.09 * se
    seen = Standing(
        lab.campaign.id, promotion.number, score, score - 0.002, score + 0.002, runs, gain, se, half, 0.01, 20
    )
    set_standing(lab.ledger, seen)
