"""`autolab serve`: measures what agents submit, until it is stopped or nobody submits any more."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from pathlib import Path

import click

from autolab.campaign.lock import only_one
from autolab.campaign.loop import Limits
from autolab.campaign.serve import Service
from autolab.cli import options
from autolab.cli.begin import earlier_campaign, new_campaign, warnings
from autolab.cli.executors import Place, executor_for, place_options
from autolab.cli.live import Reporter
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.report.overview.words import counted


@click.command()
@options.directory
@click.option(
    "--slots", type=click.IntRange(min=1), help="Measurements at once (default: one a core or GPU)."
)
@click.option(
    "--trials", type=click.IntRange(min=1), help="Take this many trials (a total, beside the baseline)."
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this long.")
@click.option(
    "--max-usd", type=click.FloatRange(min=0, min_open=True), help="Launch no job that could exceed this."
)
@click.option(
    "--patience", type=click.IntRange(min=1), help="Stop after this many trials without a promotion."
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Minutes without an open or queued trial after which it ends; 0: never.",
)
@place_options
@click.option("--json", "as_json", is_flag=True, help="One JSON event a line.")
def serve(
    directory: Path,
    slots: int | None,
    trials: int | None,
    hours: float | None,
    patience: int | None,
    max_usd: float | None,
    idle: float,
    as_json: bool,
    place: Place,
) -> None:
    """Measure what agents submit in this lab; begins a campaign if there is none.

    Ctrl-C lets what is running end; once more cancels it. Nothing is lost either way.
    """
    root = options.find_root(directory)
    for name, value in (("--hours", hours), ("--idle", idle), ("--max-usd", max_usd)):
        if value is not None and not math.isfinite(value):
            raise LabError(f"{name} {value} is no limit", mend="give a number, or leave it out")
    with only_one(root), open_lab(root, create=True) as ledger:
        lab = earlier_campaign(root, ledger, None, place) or new_campaign(
            root,
            ledger,
            profile=None,
            slots=slots,
            place=place,
            max_usd=max_usd,
            harness="agents",
        )
        if not lab.campaign.config.get("novelty"):
            ledger.set_campaign(lab.campaign.id, config={**lab.campaign.config, "novelty": True})
            lab = dataclasses.replace(lab, campaign=ledger.campaign(lab.campaign.id))
        executor = executor_for(lab, slots, place=place, limit_usd=max_usd)
        limits = Limits(trials=trials, hours=hours, max_usd=max_usd, patience=patience)
        width = len(executor.slots)
        reporter = Reporter(lab, limits, json_lines=as_json)
        service = Service(lab, executor, limits, idle or None, reporter.heed)

        async def measure() -> str:
            what = f"{lab.task.name}, {lab.task.metric.name}, {counted(width, 'slot')}"
            first = f"{lab.campaign.id}: {what}; measures what agents submit"
            reporter.begin(first, service.pool.running, width, warnings(lab))
            return await service.run()

        try:
            reason = asyncio.run(measure())
        finally:
            reporter.end()
        if not as_json:
            click.echo(reason)
