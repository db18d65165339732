"""`autolab kickoff`: the first message of an interactive session."""

from __future__ import annotations

from pathlib import Path

import click

from autolab.cli import options
from autolab.cli.summary import summarise
from autolab.execution.local import discover_slots
from autolab.lab import STATE_DIRECTORY, open_lab
from autolab.pack.templates import render
from autolab.task import load_task


@click.command()
@options.directory
def kickoff(directory: Path) -> None:
    """Print a prompt for an interactive session with the `lab` agent: paste it, or pipe it into OpenCode."""
    root = options.find_root(directory)
    task, status = load_task(root), None
    if (root / STATE_DIRECTORY / "ledger.sqlite").exists():
        with open_lab(root) as ledger:
            if ledger.campaigns():
                status = summarise(ledger, ledger.campaign(), root)
    slots = len(discover_slots(None, task.kind))
    view = {"name": task.name, "metric": task.metric.name, "direction": task.metric.direction}
    text = render("kickoff", task=view, status=status, slots=slots, surfaces=task.surfaces).rstrip()
    if not (root / "scripts" / "trial.py").exists():
        installed = root / ".opencode" / "autolab" / "scripts"
        if not installed.exists():
            click.secho(
                "there are no agents here yet: `autolab init . --opencode` installs them", fg="red", err=True
            )
        text = text.replace("scripts/", f"{installed.relative_to(root)}/")
    click.echo(text)
