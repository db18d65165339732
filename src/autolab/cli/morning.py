"""`autolab morning`: what a campaign brought, for a person who was not there."""

from __future__ import annotations

from pathlib import Path

import click

from autolab.cli import options
from autolab.lab import open_lab
from autolab.report.morning import morning as report
from autolab.report.morning import write_morning


@click.command()
@options.directory
@options.campaign
@click.option("--write", is_flag=True, help="Write it to results/<campaign>/report.md as well.")
def morning(directory: Path, campaign: str | None, write: bool) -> None:
    """What happened, what to look at, what was learned, what it cost."""
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign).id
        click.echo(report(ledger, chosen), nl=False)
        if write:
            click.echo(f"wrote {write_morning(ledger, chosen, root).relative_to(root)}", err=True)
