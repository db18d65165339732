"""`autolab run`: start or go on with a campaign in this terminal."""

from __future__ import annotations

import asyncio
import contextlib
import math
from pathlib import Path
from typing import Any

import click

from autolab.campaign.lock import only_one
from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli import options
from autolab.cli.executors import local_executor
from autolab.cli.live import Reporter
from autolab.cli.read import promoted, summarise, table
from autolab.errors import LabError
from autolab.execution.local import discover_slots, visible_gpus
from autolab.execution.sandbox import available
from autolab.harness.offline import OfflineHarness
from autolab.lab import (
    STATE_DIRECTORY,
    Lab,
    begin_campaign,
    current_key,
    open_lab,
    read_files,
    resume_campaign,
)
from autolab.ledger.records import TrialState
from autolab.ledger.store import Ledger
from autolab.program.hashing import program_id
from autolab.task import load_task


@click.command()
@options.directory
@click.option(
    "--trials", type=click.IntRange(min=1), help="Stop after this many trials (a total, beside the baseline)."
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this long.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Stop when this much is spent.")
@click.option(
    "--patience", type=click.IntRange(min=1), help="Stop after this many trials without a promotion."
)
@click.option("--slots", type=click.IntRange(min=1), help="Trials at once (default: one a core or GPU).")
@click.option(
    "--profile", help="Profile of task.yaml (default: gpu where there is one and the task has it, else cpu)."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of a new campaign: the same seed, the same search.",
)
@click.option("--new", is_flag=True, help="Start a new campaign from the files as they are now.")
@click.option(
    "--harness",
    "harness_name",
    type=click.Choice(["offline", "opencode"]),
    help="Who proposes (default: as this campaign last ran; offline for a new one).",
)
@click.option("--model", help="PROVIDER/MODEL for agents (default: AUTOLAB_MODEL, or your OpenCode's).")
@click.option("--agents", type=click.IntRange(1, 256), help="Agents at work at once (default: two a slot).")
@click.option(
    "--agent-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=15,
    show_default=True,
    help="For one agent's session.",
)
@click.option("--dry-run", is_flag=True, help="Show what agents would be told; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON event a line.")
def run(
    directory: Path,
    trials: int | None,
    hours: float | None,
    max_usd: float | None,
    patience: int | None,
    slots: int | None,
    profile: str | None,
    seed: int,
    new: bool,
    harness_name: str | None,
    model: str | None,
    agents: int | None,
    agent_minutes: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search on the task in this directory; goes on where the last run stopped.

    Ctrl-C lets what is running end; once more cancels it. Nothing is lost either way.
    """  # fmt: skip
    root = options.find_root(directory)
    for name, value in (("--hours", hours), ("--max-usd", max_usd)):
        if value is not None and not math.isfinite(value):
            raise LabError(f"{name} {value} is no limit", mend="give a number, or leave it out")
    if dry_run:
        _show_what_agents_are_told(root, profile, model, agents, slots, new)
        return
    with only_one(root), open_lab(root, create=True) as ledger:
        lab = None if new else _earlier(root, ledger, profile)
        if lab is None:
            chosen = profile or _profile(root)
            width = len(discover_slots(slots, load_task(root, chosen).kind))
            config: dict[str, Any] = {"seed": seed, "window": 2 * width + 1}
            if harness_name == "opencode":
                _agents_can_work(root, model)  # before a campaign begins that nobody could propose for
            lab = begin_campaign(root, ledger, name=None, profile=chosen, config=config)
        chosen_harness = harness_name or lab.campaign.config.get("harness", "offline")
        _remember(lab, harness=chosen_harness)
        executor = local_executor(lab, slots)
        limits = Limits(trials=trials, hours=hours, max_usd=max_usd, patience=patience)
        reporter = Reporter(lab, limits, json_lines=as_json)
        harness: Any
        if chosen_harness == "opencode":
            from autolab.cli.agents import check_agents, opencode_harness, show_agent

            workers = agents or 2 * len(executor.slots)
            check_agents(workers)
            harness = opencode_harness(
                lab,
                model,
                workers=workers,
                slots=len(executor.slots),
                minutes=agent_minutes,
                heard=lambda event: show_agent(event, as_json=as_json),
            )
        else:
            harness = contextlib.nullcontext(OfflineHarness(lab.task, lab.campaign.config["seed"]))

        async def search() -> tuple[CampaignRun, str]:
            async with harness as proposer:
                work = CampaignRun(lab, proposer, executor, limits, reporter.heed)
                reporter.begin(work, _warnings(lab))
                return work, await work.run()

        try:
            work, reason = asyncio.run(search())
        finally:
            reporter.end()
        if not as_json:
            _conclude(lab, work, reason)


def _agents_can_work(root: Path, model: str | None) -> None:
    """Raises LabError if OpenCode or a model is missing."""
    from autolab.harness.opencode.binary import find_opencode
    from autolab.harness.opencode.models import find_model

    find_opencode()
    find_model(model, root)


def _show_what_agents_are_told(
    root: Path, profile: str | None, model: str | None, agents: int | None, slots: int | None, new: bool
) -> None:
    from autolab.cli.agents import dry_run

    chosen = profile or _profile(root)
    workers = agents or 2 * len(discover_slots(slots, load_task(root, chosen).kind))
    known = (root / STATE_DIRECTORY / "ledger.sqlite").exists() and not new
    with open_lab(root) if known else contextlib.nullcontext() as ledger:
        for text in dry_run(root, ledger, chosen, model, workers):
            click.echo(text)


def _remember(lab: Lab, *, harness: str) -> None:
    """So that `autolab run` without a word goes on as before."""
    if lab.campaign.config.get("harness") != harness:
        lab.ledger.set_campaign(lab.campaign.id, config={**lab.campaign.config, "harness": harness})


def _earlier(root: Path, ledger: Ledger, profile: str | None) -> Lab | None:
    """The newest campaign, if it can be gone on with; None when a new one should begin. Raises LabError."""
    campaigns = ledger.campaigns()
    if not campaigns:
        return None
    campaign = campaigns[-1]
    first = next(ledger.sequence(campaign.id), None)
    if first is None or (first.state is TrialState.DONE and not ledger.promotions(campaign.id)):
        return None  # its baseline failed; there is nothing to go on with
    if profile is not None and profile != campaign.config["task"]["profile"]:
        raise LabError(
            f"{campaign.id} runs with profile {campaign.config['task']['profile']!r}, not {profile!r}",
            where=str(root),
            mend="`autolab run --new --profile …` starts a new campaign",
        )
    lab = resume_campaign(root, ledger, campaign)
    if current_key(root, lab.task.profile) != campaign.key:
        raise LabError(
            f"the task, its evaluator, its data or this machine changed since {campaign.id} began, so new scores"
            " would not compare with its own",
            where=str(root),
            mend="`autolab run --new` starts a new campaign; or undo the change",
        )
    return lab


def _profile(root: Path) -> str:
    """`gpu` where there is one and the task has such a profile."""
    task = load_task(root)
    return "gpu" if "gpu" in task.profiles and visible_gpus() else "cpu"


def _warnings(lab: Lab) -> list[str]:
    found = []
    text = _edited_since(lab)
    if text:
        found.append(text)
    mode, reason = available()
    if mode == "none":
        found.append(f"NO SANDBOX: {reason}. Trials can read your files and the network.")
    if lab.task.self_reported:
        found.append(
            "SELF-REPORTED: task.yaml has no evaluate command, so the score is whatever the recipe prints."
        )
    return found


def _edited_since(lab: Lab) -> str | None:
    """What a person changed in the working tree that this campaign will not look at."""
    known = [step.program for step in lab.ledger.promotions(lab.campaign.id)] + [lab.campaign.baseline]
    now = load_task(lab.root, lab.task.profile)
    if program_id(read_files(lab.root, lab.task.editable)) not in known:
        changed = ", ".join(lab.task.editable)
    elif (now.moves, now.surfaces) != (lab.task.moves, lab.task.surfaces):
        changed = "task.yaml"
    else:
        return None
    return (
        f"{changed} changed since {lab.campaign.id} began, which goes on from its own copy: `autolab submit` tries"
        " yours, `autolab run --new` starts from it."
    )


def _conclude(lab: Lab, work: CampaignRun, reason: str) -> None:
    """The table at the end, and what to do next."""
    found = list(lab.ledger.trials(lab.campaign.id, last=40))
    click.echo("\n" + table(found))
    summary = summarise(lab.ledger, lab.ledger.campaign(lab.campaign.id), lab.root)
    click.echo(f"\n{reason}; slots were busy {100 * work.utilisation():.0f} % of the time")
    master = summary["master"]
    if master is not None:
        click.echo(
            f"{summary['metric']} {summary['baseline_score']:.5g} -> {master['score']:.5g}"
            f" [{master['score_low']:.4g}, {master['score_high']:.4g}], {promoted(master['promotions'])},"
            f" {summary['trials']} trials"
        )
        click.echo("next: autolab show master   autolab diff master --against baseline   autolab adopt")
