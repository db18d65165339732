"""`autolab replay`: the ledger's claim, put to the test."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.single import run_all
from autolab.cli import options
from autolab.cli.executors import executor_for
from autolab.errors import LabError
from autolab.execution.executor import Executor
from autolab.judge.promotion import Z95
from autolab.lab import Lab, open_lab, resume_campaign
from autolab.ledger.records import Trial


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
        m for m in lab.ledger.measurements(trial.number) if m.score is not None and "replay" not in m.stage
    ]
    if not scored:
        raise LabError(f"trial {trial.id} was never scored: {trial.status}", mend="`autolab show` tells why")
    before = next((m for m in scored if m.stage == "confirm"), scored[-1])
    (after,) = asyncio.run(run_all(lab, executor, [(lab.again(before, fresh=None), before.clock)]))
    same, metric = after.score == before.score, lab.task.metric.name
    if after.score is None:
        text = f"{trial.id}: the replay ended as {after.status}: {after.cause}"
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
    """Fresh seeds: is it still better than the master that it replaced, or as good as it claimed?"""
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
            "text": f"{trial.id}: a replay ended as {failed.status}: {failed.cause}",
        }
    mean = statistics.fmean(scores)
    sd = lab.campaign.noise_sd or 0.0
    half = Z95 * sd / math.sqrt(count)
    reference, name = _reference(lab, trial)
    gain = lab.task.gain(mean, reference)
    holds = (
        gain > half
        if trial.verdict == "confirmed" and trial.ordinal > 0
        else abs(mean - reference) <= 2 * half
    )
    verb = "confirmed" if holds else "NOT confirmed"
    text = (
        f"{trial.id}: {verb}: {lab.task.metric.name} {mean:.5g} ± {half:.2g} over {count} fresh seeds,"
        f" {gain:+.4g} against {name} ({reference:.5g}); recorded {trial.score or math.nan:.5g}"
    )
    return {
        "trial": trial.id,
        "holds": holds,
        "scores": scores,
        "mean": mean,
        "half_width": half,
        "reference": reference,
        "gain": gain,
        "text": text,
    }


def _reference(lab: Lab, trial: Trial) -> tuple[float, str]:
    """What a promoted trial replaced; for any other trial, its own recorded score."""
    chain = lab.ledger.promotions(trial.campaign)
    for before, step in itertools.pairwise(chain):
        if step.trial == trial.number:
            return before.score, f"trial {lab.ledger.trial_id(before.trial)}, which it replaced"
    if trial.score is None:
        raise LabError(f"trial {trial.id} has no score: {trial.status}", mend="`autolab show` tells why")
    return trial.score, "its own record"
