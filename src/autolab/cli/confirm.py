"""`autolab confirm` and `autolab certify`: the judge's steps, asked for by a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.single import run_all
from autolab.cli import options
from autolab.cli.executors import executor_for
from autolab.errors import LabError
from autolab.judging import by_hand
from autolab.judging.by_hand import Outcome
from autolab.lab import Lab, open_lab, resume_campaign
from autolab.ledger.observations import observations
from autolab.ledger.records import Measurement, Promotion, Trial, Verdict
from autolab.ledger.views import cell, write_views

Step = tuple[Measurement, ...] | Outcome


@click.command()
@options.directory
@click.argument("trial")
@click.option(
    "--runs", type=click.IntRange(1, 200), default=12, show_default=True, help="Fresh runs at most."
)
@click.option("--slots", type=click.IntRange(min=1), help="How many at once.")
@options.as_json
def confirm(directory: Path, trial: str, runs: int, slots: int | None, as_json: bool) -> None:
    """Put TRIAL (a number or an id) to the test against the master, and promote it if it holds.

    Its test goes on where it stopped: fresh seeds, in turn with the master. Exit code 1 if it is not promoted.
    """
    root = options.find_root(directory)
    with only_one(root), open_lab(root) as ledger:
        found = ledger.find_trial(trial)
        lab = resume_campaign(root, ledger, ledger.campaign(found.campaign))
        before = len(observations(ledger, found.campaign, found.program or ""))
        outcome = _measure(lab, slots, lambda: by_hand.confirm(lab, found, before + runs))
        write_views(ledger, root)
        fresh = len(observations(ledger, found.campaign, found.program or "")) - before
    _tell(found, outcome, as_json, fresh)
    if not outcome.promoted:
        raise SystemExit(1)


@click.command()
@options.directory
@click.argument("trial", default="master")
@click.option("--slots", type=click.IntRange(min=1), help="How many at once.")
@options.as_json
def certify(directory: Path, trial: str, slots: int | None, as_json: bool) -> None:
    """Look once at the sealed split for TRIAL, which was promoted (default: the master).

    Every look is logged, and a second one only says what the first one saw. Exit code 1 if it is not certified.
    """
    root = options.find_root(directory)
    with only_one(root), open_lab(root) as ledger:
        found = ledger.find_trial(trial)
        lab = resume_campaign(root, ledger, ledger.campaign(found.campaign))
        promotion = _promotion(lab, found)
        outcome = _measure(lab, slots, lambda: by_hand.certify(lab, promotion))
        write_views(ledger, root)
    _tell(found, outcome, as_json)
    if outcome.verdict != "certified":
        raise SystemExit(1)


def _promotion(lab: Lab, trial: Trial) -> Promotion:
    steps = [step for step in lab.ledger.promotions(trial.campaign) if step.trial == trial.number]
    if not steps:
        raise LabError(
            f"trial {trial.id} was never promoted, and every look wears the sealed split out",
            mend="`autolab confirm` first",
        )
    return next(step for step in reversed(steps) if step.kind != "demotion")


def _measure(lab: Lab, slots: int | None, ask: Callable[[], Step]) -> Outcome:
    """Measure what is asked for until there is an outcome."""
    executor = None
    step = ask()
    while not isinstance(step, Outcome):
        if executor is None:
            executor = executor_for(lab, slots)
            executor.notice = lambda text: click.echo(text, err=True)
        done = asyncio.run(run_all(lab, executor, [(measurement, None) for measurement in step]))
        if failed := next((one for one in done if one.score is None), None):
            whose = lab.ledger.trial_id(failed.trial)
            note = (
                f"a run of {whose} ended as {failed.status}: {cell(failed.cause)}; the same command goes on"
            )
            return Outcome(Verdict.PROVISIONAL, note)
        step = ask()
    return step


def _tell(trial: Trial, outcome: Outcome, as_json: bool, fresh: int | None = None) -> None:
    if as_json:
        told = {
            "trial": trial.id,
            "verdict": outcome.verdict,
            "promoted": outcome.promoted,
            "note": outcome.note,
        }
        options.emit(told if fresh is None else {**told, "fresh_runs": fresh})
        return
    click.echo(
        f"{trial.id}: {outcome.verdict}: {cell(outcome.note)}"
        + (", now the master" if outcome.promoted else "")
    )
