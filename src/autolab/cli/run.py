"""`autolab run`: start or go on with a campaign in this terminal."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli import options
from autolab.cli.begin import default_profile, earlier_campaign, new_campaign, warnings
from autolab.cli.executors import Place, as_before, executor_for, place_options, slot_count
from autolab.cli.fitting import on_a_terminal
from autolab.cli.live import Reporter
from autolab.cli.read import table
from autolab.cli.summary import summarise
from autolab.cli.told import wrapped
from autolab.cli.ways import (
    WITH_A_MODEL,
    Ways,
    collaboration_of,
    first_assignments,
    harness_of,
    population_of,
    way_options,
)
from autolab.errors import LabError
from autolab.execution.executor import Executor
from autolab.lab import STATE_DIRECTORY, Lab, open_lab
from autolab.ledger.masters import states, steps
from autolab.report.overview.words import counted
from autolab.task import load_task

START_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds


@click.command()
@options.directory
@click.option(
    "--trials", type=click.IntRange(min=1), help="Stop after this many trials (a total, beside the baseline)."
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this long.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    help="Its budget, for agents and jobs; remembered.",
)
@click.option(
    "--patience", type=click.IntRange(min=1), help="Stop after this many trials without a promotion."
)
@click.option(
    "--slots", type=click.IntRange(min=1), help="Trials at once (default: one a core or GPU; 4 jobs)."
)
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
@place_options
@click.option("--new", is_flag=True, help="Start a new campaign from the files as they are now.")
@way_options
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
    agent_minutes: float,
    dry_run: bool,
    as_json: bool,
    place: Place,
    ways: Ways,
) -> None:
    """Search on the task in this directory; goes on where the last run stopped.

    Ctrl-C lets what is running end; once more cancels it. Nothing is lost either way.
    """  # fmt: skip
    root = options.find_root(directory)
    for name, value in (("--hours", hours), ("--max-usd", max_usd), ("--agent-minutes", agent_minutes)):
        if value is not None and not math.isfinite(value):
            raise LabError(f"{name} {value} is no limit", mend="give a number, or leave it out")
    if dry_run:
        _show_what_agents_are_told(root, profile, ways, slots, new, place)
        return
    with only_one(root), open_lab(root, create=True) as ledger:
        lab = None if new else earlier_campaign(root, ledger, profile, place)
        if lab is None:
            if ledger.campaigns() and not new:
                place = as_before(ledger.campaigns()[-1].config, place)
            agents_can_work(root, ways)  # before a campaign begins that nobody could propose for
            lab = new_campaign(
                root, ledger, profile=profile, slots=slots, place=place, max_usd=max_usd, seed=seed,
                **ways.remembered({}),
            )  # fmt: skip
        max_usd = max_usd or lab.campaign.config.get("max_usd")
        ways.check(lab.campaign.config)
        config = {**lab.campaign.config, **ways.remembered(lab.campaign.config), "max_usd": max_usd}
        lab = dataclasses.replace(lab, campaign=dataclasses.replace(lab.campaign, config=config))
        executor = _when_the_hub_answers(lambda: executor_for(lab, slots, place=place))
        limits = Limits(trials=trials, hours=hours, max_usd=max_usd, patience=patience)
        reporter = Reporter(lab, limits, json_lines=as_json)
        width = len(executor.slots)
        harness = harness_of(lab, width, agent_minutes, as_json=as_json)
        collaboration, population = collaboration_of(lab, width), population_of(lab)
        # All of it can be had: `autolab run` without a word goes on in this way.
        ledger.set_campaign(lab.campaign.id, config=config)

        async def search() -> tuple[CampaignRun, str]:
            async with harness as proposer:
                work = CampaignRun(
                    lab,
                    proposer,
                    executor,
                    limits,
                    reporter.heed,
                    collaboration,
                    population,
                )
                total = "" if trials is None else f", {trials} trials"
                reporter.begin(
                    f"{lab.campaign.id}: {lab.task.name}, {lab.task.metric.name}, {counted(width, 'slot')}{total}."
                    " Ctrl-C stops after what is running.",
                    work.running,
                    width,
                    warnings(lab),
                )
                return work, await work.run()

        # What is loaded by now stays, and most of what a trial makes is freed without the collector: asked every 700
        # objects, as it is by default, it takes a sixteenth of the time of a campaign of many agents.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            work, reason = asyncio.run(search())
        finally:
            reporter.end()
        if not as_json:
            _conclude(lab, work, reason)


def agents_can_work(root: Path, ways: Ways) -> None:
    """Raises LabError if OpenCode or a model is missing."""
    if ways.harness == "opencode":
        from autolab.harness.opencode.binary import find_opencode

        find_opencode()
    if ways.harness in WITH_A_MODEL:
        from autolab.harness.models import find_models

        find_models(ways.model, root)


def _show_what_agents_are_told(
    root: Path, profile: str | None, ways: Ways, slots: int | None, new: bool, place: Place
) -> None:
    from autolab.cli.agents import dry_run

    chosen = profile or default_profile(root, place)
    workers = ways.agents or 2 * slot_count(root, chosen, place, slots)
    known = (root / STATE_DIRECTORY / "ledger.sqlite").exists() and not new
    with open_lab(root) if known else contextlib.nullcontext() as ledger:
        harness = "opencode" if ways.harness == "opencode" else "chat"
        assigned = first_assignments(
            load_task(root, chosen), dataclasses.replace(ways, harness=harness), workers
        )
        for text in dry_run(root, ledger, chosen, ways.model, harness=harness, assigned=assigned):
            click.echo(text)


def _when_the_hub_answers(make: Callable[[], Executor]) -> Executor:
    """A campaign that goes on waits for a Hub that is away, as it does later on."""
    from autolab.hub.connection import Unavailable

    pause = START_PAUSE
    while True:
        try:
            return make()
        except Unavailable as problem:
            click.echo(f"waiting for the Hub: {problem}", err=True)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _conclude(lab: Lab, work: CampaignRun, reason: str) -> None:
    """The table at the end, and what to do next."""
    last = max(5, shutil.get_terminal_size().lines - 8) if on_a_terminal() else 40
    found = list(lab.ledger.trials(lab.campaign.id, last=last))
    click.echo("\n".join(["", *table(found, states(steps(lab.ledger, lab.campaign.id)))]))
    summary = summarise(lab.ledger, lab.ledger.campaign(lab.campaign.id), lab.root)
    ended = f"{reason}; slots were busy {100 * work.utilisation():.0f} % of the time"
    click.echo("\n".join(["", *wrapped("", ended, 0)]))
    if summary["master"] is not None:
        click.echo("\n".join(wrapped("", summary["headline"], 0)))
        better = summary["master"]["program"] != lab.campaign.baseline
        commands = "autolab show master; autolab report"
        if better:
            commands = "autolab diff master --against baseline; autolab adopt; autolab report"
        click.echo("\n".join(wrapped("next:", commands, 6)))
