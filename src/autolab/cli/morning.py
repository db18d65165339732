"""`autolab morning`: what a campaign brought, for a person who was not there."""

from __future__ import annotations

import time
from pathlib import Path

import click

from autolab.campaign.lock import works_on
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
        now, alive = time.time(), works_on(root, ledger, chosen)
        if not write:
            click.echo(report(ledger, chosen, now=now, alive=alive), nl=False)
            return
        path = write_morning(ledger, chosen, root, now=now, alive=alive)
        click.echo(path.read_text(encoding="utf-8"), nl=False)  # what was written, not what is there by now
        click.echo(f"wrote {path.relative_to(root)}", err=True)
