"""`autolab dashboard`: learning curves, the fleet and alerts in Trackio, here or on a private Space."""

from __future__ import annotations

import re
from pathlib import Path

import click

from autolab.cli import options
from autolab.cli.mirror import follow, give_way, write_once
from autolab.cli.signals import told_to_stop
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.report.trackio import Mirror, mirror_directory


@click.command()
@options.directory
@click.option(
    "--space", metavar="OWNER/NAME", help="Copy the mirror to this private Space instead; makes it."
)
def dashboard(directory: Path, space: str | None) -> None:
    """Show learning curves, the fleet and alerts in Trackio on 127.0.0.1, up to date until Ctrl-C.

    Needs no account and no network. With --space, what there is now is copied to a Space that only you see.
    """
    from autolab.report.trackio import viewer

    root = options.find_root(directory)
    viewer.need_trackio()
    if space is not None:
        _check(space)
    with open_lab(root) as ledger:
        target = Mirror(ledger, mirror_directory(ledger))
        write_once(target, root)
        if space is not None:
            click.echo(f"copying to {space}; a new Space takes minutes to start", err=True)
            click.echo(
                f"{viewer.sync(target.directory, space, target.every_project())}; only its owner sees it"
            )
            return
        give_way()
        trials, fleet = target.projects()
        with told_to_stop() as told, viewer.shown(target.directory) as (url, process):
            click.echo(f"trials  {viewer.address(url, trials)}")
            click.echo(f"fleet   {viewer.address(url, fleet)}")
            click.echo("Ctrl-C ends it")
            follow(
                target,
                root,
                lambda: told.is_set() or process.poll() is not None,
                told.wait,
                lambda _: None,
                ends=False,
            )
            if not told.is_set():
                raise LabError("Trackio ended", where=str(target.directory), mend=f"see {viewer.LOG} there")


def _check(space: str) -> None:
    from autolab.hub.connection import connect, need_token
    from autolab.hub.consent import may_push

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", space, re.ASCII):
        raise LabError(f"{space[:60]!r} is not the name of a Space", where="--space", mend="OWNER/NAME")
    may_push(space)
    connect()
    need_token()
