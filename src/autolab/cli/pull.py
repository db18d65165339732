"""`autolab pull`: other labs' trials into this ledger."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from autolab.cli import options
from autolab.hub.connection import connect
from autolab.hub.results.pull import pull as pull_trials
from autolab.lab import open_lab

PULL_SECONDS = 600.0


@click.command()
@options.directory
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--revision", help="A commit, a branch or a tag (default: the newest).")
@options.as_json
def pull(directory: Path, repo: str, revision: str | None, as_json: bool) -> None:
    """Add the trials that other labs published in REPO to the ledger and the table.

    Your own campaigns, their masters and what agents are shown stay as they are. `autolab trials --campaign` and
    `autolab show` read what came.
    """
    root = options.find_root(directory)
    with open_lab(root, create=True) as ledger:
        done = pull_trials(connect(seconds=PULL_SECONDS), ledger, root, repo, revision)
    if as_json:
        options.emit(dataclasses.asdict(done))
        return
    trials = f"{done.new} new trial{'' if done.new == 1 else 's'}"
    of = f" of {done.labs} lab{'' if done.labs == 1 else 's'}" if done.new else ""
    click.echo(f"{trials}{of}, {done.known} known ({repo} at {done.commit[:10]})")
