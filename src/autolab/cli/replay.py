"""`autolab replay`: the ledger's claim, put to the test."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.single import run_all
from autolab.cli import options
from autolab.cli.executors import executor_for
from autolab.cli.told import score_text
from autolab.errors import LabError
from autolab.execution.executor import Executor
from autolab.judge.noise import Noise
from autolab.judge.promotion import Criterion
from autolab.judge.standing import gain_interval, half_width, level
from autolab.judging.course import criterion, noise_now
from autolab.lab import Lab, open_lab, resume_campaign
from autolab.ledger.masters import steps, unselected
from autolab.ledger.observations import newest_ordinal, observations
from autolab.ledger.records import Observation, Trial
from autolab.ledger.views import cell
from autolab.report.overview.words import counted


@click.command()
@options.directory
@click.argument("trial")
@click.option("--seeds", type=click.IntRange(min=1), help="Measure with this many fresh seeds instead.")
@click.option("--slots", type=click.IntRange(min=1), help="How many at once.")
@options.as_json
def replay(directory: Path, trial: str, seeds: int | None, slots: int | None, as_json: bool) -> None:
    """Measure TRIAL (a number, an id, or `master`) again, from the ledger alone.

    Without --seeds the run is repeated with its own seed at its own pace, and must give the same digits
    on the same kind of machine. With --seeds N, N fresh seeds tell whether the gain was luck. Exit code
    1 if the claim does not hold.
    """
    root = options.find_root(directory)
    with only_one(root), open_lab(root) as ledger:
        found = ledger.find_trial(trial)
        lab = resume_campaign(root, ledger, ledger.campaign(found.campaign))
        executor = executor_for(lab, slots)
        executor.notice = lambda text: click.echo(text, err=True)
        report = _fresh(lab, executor, found, seeds) if seeds else _same(lab, executor, found)
    if as_json:
        options.emit(report)
    else:
        click.echo(report["text"])
    if not report["holds"]:
        raise SystemExit(1)


def _same(lab: Lab, executor: Executor, trial: Trial) -> dict[str, object]:
    """Every scored measurement of the trial again: its seed, its pace."""
    scored = [
        m
        for m in lab.ledger.measurements(trial.number)
        if m.score is not None and m.stage in ("screen", "replicate", "confirm")
    ]
    if not scored:
        raise LabError(f"trial {trial.id} was never scored: {trial.status}", mend="`autolab show` tells why")
    before = next((m for m in scored if m.stage == "confirm"), scored[-1])
    (after,) = asyncio.run(run_all(lab, executor, [(lab.again(before, fresh=None), before.clock)]))
    same, metric = after.score == before.score, lab.task.metric.name
    if after.score is None:
        text = f"{trial.id}: the replay ended as {after.status}: {cell(after.cause)}"
    elif same:
        text = f"{trial.id}: the same digits, {metric} {after.score!r} (seed {after.seed}, {after.tokens} tokens)"
    else:
        change = after.score - (before.score or 0.0)
        text = f"{trial.id}: {metric} {after.score!r} instead of {before.score!r} ({change:+.3g})"
    return {
        "trial": trial.id,
        "holds": same,
        "before": before.score,
        "after": after.score,
        "seed": after.seed,
        "text": text,
    }


def _fresh(lab: Lab, executor: Executor, trial: Trial, count: int) -> dict[str, object]:
    """Fresh seeds: is it still better than the master that it replaced (a simplification: as good), or as good as it
    claimed? By the noise as it is known now."""
    known = len([m for m in lab.ledger.measurements(trial.number) if m.stage.startswith("replay")])
    template = next((m for m in lab.ledger.measurements(trial.number) if m.stage == "screen"), None)
    if template is None:
        raise LabError(
            f"trial {trial.id} was never measured: {trial.status}", mend="`autolab show` tells why"
        )
    wanted = [lab.again(template, fresh=known + k) for k in range(count)]
    done = asyncio.run(run_all(lab, executor, [(m, None) for m in wanted]))
    scores = [m.score for m in done if m.score is not None]
    if len(scores) < count:
        failed = next(m for m in done if m.score is None)
        return {
            "trial": trial.id,
            "holds": False,
            "scores": scores,
            "text": f"{trial.id}: a replay ended as {failed.status}: {cell(failed.cause)}",
        }
    turn = newest_ordinal(lab.ledger, trial.campaign)
    noise = noise_now(lab, turn)
    fresh = [
        Observation(trial.program or "", m.host, m.score, turn, "replay") for m in done if m.score is not None
    ]
    against, kind, name = _reference(lab, trial)
    gain, half = _gain(criterion(lab), noise, fresh, against)
    if kind == "improvement":
        holds = gain > half
    elif kind == "simplification":
        holds = gain + half >= -lab.task.metric.min_effect
    else:
        holds = abs(gain) <= half
    mean, low, high = level(fresh, noise)
    reference, *_ = level(against, noise)
    verb = "confirmed" if holds else "NOT confirmed"
    text = (
        f"{trial.id}: {verb}: {lab.task.metric.name} {score_text(mean, low, high)} over"
        f" {counted(count, 'fresh seed')},"
        f" {gain:+.4g} ± {half:.2g} against {name} ({reference:.5g}); recorded {trial.score or math.nan:.5g}"
    )
    if noise.state != "known":
        text += "; the noise is not known, so this proves little"
    return {
        "trial": trial.id,
        "holds": holds,
        "scores": scores,
        "mean": mean,
        "mean_ci": [low, high],
        "half_width": half,
        "reference": reference,
        "gain": gain,
        "text": text,
    }


def _gain(
    rule: Criterion, noise: Noise, fresh: list[Observation], against: list[Observation]
) -> tuple[float, float]:
    """(gain, half of its 95 % interval): within hosts, or with the hosts' scatter in it if none ran both."""
    gain, se = gain_interval(rule, noise, fresh, against)
    if not math.isfinite(se):
        gain = rule.sign * (level(fresh, noise)[0] - level(against, noise)[0])
        se = noise.total * math.sqrt(1 / len(fresh) + 1 / len(against))
    return gain, half_width(se, noise)


def _reference(lab: Lab, trial: Trial) -> tuple[list[Observation], str, str]:
    """(measurements to compare with, what is claimed, their name): those of the program that a promoted trial replaced,
    with the kind of its promotion; for any other trial its own, which it claims to be as good as."""
    ledger = lab.ledger
    for step in steps(ledger, trial.campaign):
        if step.trial.number == trial.number and step.before is not None and step.kind != "demotion":
            seen = unselected(ledger, step.before)
            seen = seen or observations(ledger, trial.campaign, step.before.program)
            return seen, step.kind, f"trial {ledger.trial_id(step.before.trial)}, which it replaced"
    own = observations(ledger, trial.campaign, trial.program or "")
    if not own:
        raise LabError(f"trial {trial.id} has no score: {trial.status}", mend="`autolab show` tells why")
    return own, "record", "its own record"
