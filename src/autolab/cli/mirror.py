"""`autolab mirror`: writes what Trackio shows, from the ledger."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from autolab.campaign.lock import works_on
from autolab.cli import options
from autolab.cli.signals import told_to_stop
from autolab.lab import open_lab
from autolab.ledger.store import Ledger
from autolab.report.trackio import Mirror, mirror_directory
from autolab.report.trackio.inbox import problem

PAUSE_SECONDS = 5.0  # between two passes, and at least so many times as long as a pass took:
SHARE = 25
QUIET_SECONDS = 30.0  # after which a pass is due although nothing was recorded: time alone ends stretches


@click.command()
@options.directory
@click.option("--watch", is_flag=True, help="Go on until the campaign ends, at the lowest priority.")
@click.option(
    "--rebuild", is_flag=True, help="Write everything again; what Trackio has already is left alone."
)
@options.as_json
def mirror(directory: Path, watch: bool, rebuild: bool, as_json: bool) -> None:
    """Write what Trackio does not have yet: trials, learning curves, the fleet, alerts.

    Nothing is shown by this; `autolab dashboard` does both.
    """
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        target = Mirror(ledger, mirror_directory(ledger))
        say = _sayer(target, as_json=as_json)
        if not watch:
            say(write_once(target, root, rebuild=rebuild))
            return
        give_way()
        with told_to_stop() as told:
            follow(target, root, told.is_set, told.wait, say, ends=True, rebuild=rebuild)


def follow(
    target: Mirror,
    root: Path,
    stopped: Callable[[], bool],
    wait: Callable[[float], object],
    say: Callable[[int], None],
    *,
    ends: bool,
    rebuild: bool = False,
) -> None:
    """Write what is new again and again until it is stopped, or with `ends` until nobody works on the campaign.

    A directory that cannot be written is one line, and the next pass tries again. Raises LabError if the last pass
    fails.
    """
    said = ""
    while True:
        over = stopped() or (ends and not worked_on(target.ledger, root))
        begun, version = time.monotonic(), target.ledger.changes()
        try:
            written = target.write(alive=worked_on(target.ledger, root), rebuild=rebuild)
            said, rebuild = "", False
            if written:
                say(written)
        except OSError as error:
            found = problem(error, target.directory)
            if over:
                raise found from None
            version = -1  # to be tried again, whether or not anything happens
            if str(found) != said:
                said = str(found)
                click.echo(f"autolab: {found}; the next pass tries again", err=True)
        if over:
            return
        due = begun + QUIET_SECONDS
        wait(max(PAUSE_SECONDS, SHARE * (time.monotonic() - begun)))
        while not stopped() and time.monotonic() < due and target.ledger.changes() == version:
            if ends and not worked_on(target.ledger, root):
                break
            wait(PAUSE_SECONDS)


def worked_on(ledger: Ledger, root: Path) -> bool:
    """Whether somebody is at work on the newest campaign."""
    return works_on(root, ledger, ledger.campaign().id)


def give_way() -> None:
    """Run only when nobody else wants to, from now on."""
    with contextlib.suppress(OSError):
        os.nice(19)


def write_once(target: Mirror, root: Path, *, rebuild: bool = False) -> int:
    """Write what is missing; how many records that were. Raises LabError if the directory cannot be written."""
    try:
        return target.write(alive=worked_on(target.ledger, root), rebuild=rebuild)
    except OSError as error:
        raise problem(error, target.directory) from None


def _sayer(target: Mirror, *, as_json: bool) -> Callable[[int], None]:
    def say(written: int) -> None:
        where = str(target.directory)
        if as_json:
            told = {"records": written, "directory": where, "projects": target.projects()}
            click.echo(
                json.dumps(told, ensure_ascii=False)
            )  # on one line, for --watch says it again and again
        else:
            what = f"wrote {written} records to" if written else "nothing new in"
            click.echo(f"{what} {where}; `autolab dashboard` shows them")

    return say
