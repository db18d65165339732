"""`autolab submit`: a person's (or a script's) own change, on the same contract as an agent's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.single import settle
from autolab.cli import options
from autolab.cli.executors import executor_for
from autolab.cli.told import score_text
from autolab.errors import LabError
from autolab.lab import PERSON, begin_campaign, open_lab, read_files, resume_campaign
from autolab.ledger.records import Proposal, TrialState, Verdict
from autolab.ledger.views import cell, write_views
from autolab.task import Edit, load_task


@click.command()
@options.directory
@click.option("--hypothesis", required=True, help="What the change should do, in a sentence.")
@click.option("--surface", default="", help="The part of the recipe that it works on.")
@click.option(
    "--from",
    "source",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory with the edited files (default: the lab itself).",
)
@click.option(
    "--edits",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help='Instead: a JSON file (or -) with [{"path", "search", "replace"}].',
)
@options.as_json
def submit(
    directory: Path, hypothesis: str, surface: str, source: Path | None, edits: Path | None, as_json: bool
) -> None:
    """Measure your own change of the recipe as a trial, and promote it if it is better."""
    root = options.find_root(directory)
    given = _read_edits(edits) if edits else None
    with only_one(root), open_lab(root, create=True) as ledger, asyncio.Runner() as runner:
        lab = (
            resume_campaign(root, ledger, ledger.campaign())
            if ledger.campaigns()
            else begin_campaign(
                root, ledger, name=None, profile="cpu", config={"seed": 0, "window": 5, "harness": "offline"}
            )
        )
        load_task(root, lab.task.profile)
        executor = executor_for(lab, 1)
        executor.notice = lambda text: click.echo(text, err=True)
        first = next(ledger.sequence(lab.campaign.id))
        baseline = runner.run(settle(lab, executor, first))
        if not ledger.promotions(lab.campaign.id):
            raise LabError(
                f"the baseline failed: {baseline.status}: {baseline.note}",
                where=str(root),
                mend="mend the recipe, then `autolab run --new`",
            )
        mine = {} if given is not None else read_files((source or root).resolve(), lab.task.editable)
        ticket = lab.open_trial(role=PERSON, agent="submit")
        changes = _changes(dict(ticket.parent_files), mine) if given is None else given
        trial = lab.submit(ticket, Proposal(hypothesis=hypothesis, edits=changes, surface=surface))
        if trial.repeats is not None and ledger.trial(trial.repeats).state is TrialState.QUEUED:
            trial = ledger.trial(trial.repeats)  # an earlier `submit` of the same change was interrupted
        trial = runner.run(settle(lab, executor, trial))
        write_views(ledger, root)
        if as_json:
            options.emit(
                {
                    "trial": trial.id,
                    "status": trial.status,
                    "verdict": trial.verdict,
                    "score": trial.score,
                    "delta": trial.delta,
                    "note": trial.note,
                }
            )
            return
        outcome = " ".join(str(part) for part in (trial.status, trial.verdict) if part)
        click.echo(
            f"{trial.id}  {outcome}  {score_text(trial.score, trial.score_low, trial.score_high)}  {cell(trial.note)}"
        )
        if trial.verdict is Verdict.PROVISIONAL:
            click.echo(f"better so far, not shown: `autolab confirm {trial.id}` measures on")


def _changes(parent: dict[str, str], mine: dict[str, str]) -> tuple[Edit, ...]:
    """Whole-file edits for every editable file that differs from the parent."""
    return tuple(
        Edit(path=name, search=parent[name], replace=mine[name])
        for name in mine
        if mine[name] != parent[name]
    )


def _read_edits(path: Path) -> tuple[Edit, ...]:
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            return tuple(Edit.model_validate(edit) for edit in json.load(file))
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(
            f"is not a list of edits: {reason}",
            where=str(path),
            mend='[{"path": "train.py", "search": "…", "replace": "…"}]',
        ) from None
