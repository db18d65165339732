"""`autolab publish`: this lab's results on a dataset repo of the Hub, once, or again and again beside a campaign."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path

import click

from autolab.campaign.lock import works_on
from autolab.cli import options
from autolab.cli.signals import told_to_stop
from autolab.errors import LabError
from autolab.hub.connection import Unavailable, connect
from autolab.hub.consent import may_push
from autolab.hub.results.card import PAGE
from autolab.hub.results.publish import Pushed, collect, push
from autolab.lab import open_lab
from autolab.ledger.store import Ledger
from autolab.report.figures import pictures
from autolab.report.published import to_publish

PUSH_SECONDS = 600.0
LOOK_SECONDS = 5.0  # how often a waiting publisher looks whether the campaign has ended


@click.command()
@options.directory
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Everybody may read it (default: private).")
@click.option(
    "--every", metavar="TIME", help="Push again as trials finish, such as every 10m, until the campaign ends."
)
@click.option("--dry-run", is_flag=True, help="Say what would be pushed, and push nothing.")
@options.as_json
def publish(
    directory: Path, repo: str, public: bool, every: str | None, dry_run: bool, as_json: bool
) -> None:
    """Push table, masters, patches, report pages, figures and a dataset card to a dataset repo, in one commit.

    The repo is made if there is none; several labs may share one. Other labs read it with `autolab pull`.
    """
    pause = parse_pause(every) if every else None
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        if dry_run:
            files = {
                name: len(content) for name, content in collect(ledger, root, repo, draw(ledger)).items()
            }
            if as_json:
                options.emit({"repo": repo, "files": files})
                return
            for name, size in sorted(files.items()):
                click.echo(f"{size:>9} bytes  {name}")
            click.echo("no secret found, nothing was pushed")
            return
        may_push(repo)

        def once() -> None:
            done = push(
                connect(seconds=PUSH_SECONDS), ledger, root, repo, public=public, figures=draw(ledger)
            )
            if as_json:
                options.emit(dataclasses.asdict(done))
            else:
                click.echo(describe(repo, done))

        if pause is None:
            once()
        else:
            _keep_pushing(ledger, root, once, pause)


def describe(repo: str, done: Pushed) -> str:
    """What a push did, in one line."""
    seen = "only its owner sees it" if done.private else "everybody sees it"
    what = f"pushed {done.new} new trial{'' if done.new == 1 else 's'}" if done.new else "pushed what changed"
    return f"{what if done.changed else 'nothing new'}: {done.rows} in {repo} at {done.commit[:10]}; {seen}"


def draw(ledger: Ledger) -> dict[str, bytes]:
    """The report page of each campaign with a master and, with matplotlib, its pictures, by their paths below
    figures/. Neither names a host."""
    drawn = {}
    root = ledger.path.parent.parent
    for campaign in ledger.campaigns():
        if ledger.newest_promotion(campaign.id) is None:
            continue
        view, page = to_publish(ledger, campaign.id, alive=works_on(root, ledger, campaign.id))
        drawn[f"{campaign.id}/{PAGE}"] = page.encode("utf-8", "replace")
        if importlib.util.find_spec("matplotlib") is not None:
            drawn |= {f"{campaign.id}/{name}": content for name, content in pictures(view).items()}
    return drawn


def parse_pause(text: str) -> int:
    """Seconds in `10m` or `2h`. Raises LabError for anything else, and for less than a minute."""
    match = re.fullmatch(r"([0-9]{1,4})([mh])", text.strip())
    seconds = int(match[1]) * {"m": 60, "h": 3600}[match[2]] if match else 0
    if not 60 <= seconds <= 24 * 3600:
        raise LabError(
            f"{text[:40]!r} is not a time from 1m to 24h", where="--every", mend="such as 10m or 1h"
        )
    return seconds


def _keep_pushing(ledger: Ledger, root: Path, once: Callable[[], None], pause: float) -> None:
    """Push whatever is new, wait, and again, until the campaign has ended or a signal comes; then a last time.

    A problem at the first push ends it at once, unless the Hub is away; a later one is a line, and the next turn
    tries again. Raises LabError if the last push fails.
    """
    pushed, last_said, begun = (0, 0), "", False
    with told_to_stop() as told:
        while True:
            over = told.is_set() or _ended(ledger, root)
            now = _news(ledger)
            try:
                if now != pushed or (over and not begun):
                    once()
                    pushed, last_said, begun = now, "", True
            except LabError as problem:
                if over or not (begun or isinstance(problem, Unavailable)):
                    raise
                if str(problem) != last_said:
                    last_said = str(problem)
                    click.echo(f"autolab: {problem}; the next turn tries again", err=True)
            if over:
                return
            until = time.monotonic() + pause
            while time.monotonic() < until and not told.is_set() and not _ended(ledger, root):
                told.wait(min(LOOK_SECONDS, pause))


def _news(ledger: Ledger) -> tuple[int, int]:
    """What changes whenever this lab has something new to publish: its finished trials and its promotions."""
    promotions = sum(len(ledger.promotions(campaign.id)) for campaign in ledger.campaigns())
    return sum(ledger.count().values()), promotions


def _ended(ledger: Ledger, root: Path) -> bool:
    newest = ledger.campaign()
    return newest.state in ("finished", "stopped") and not works_on(root, ledger, newest.id)
