"""`autolab report`: a campaign as a page to read, written once or served while it runs."""

from __future__ import annotations

import dataclasses
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autolab.campaign.lock import works_on
from autolab.cli import options
from autolab.cli.control import PAUSED, RESUMED, STOPPING, steer_campaign
from autolab.lab import open_lab
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell
from autolab.report.overview import overview

if TYPE_CHECKING:
    from autolab.report.live import Lab

PORT = 8437
NICE = 10  # whoever is at work on the campaign comes first


@click.command()
@options.directory
@options.campaign
@click.option("--live", is_flag=True, help="Serve the page on this machine, and keep it up to date.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
              help="Where to serve it; 0 is any free one.")  # fmt: skip
@options.as_json
def report(directory: Path, campaign: str | None, live: bool, port: int, as_json: bool) -> None:
    """Write the page of a campaign to results/<campaign>/report.html; with --live, serve it on 127.0.0.1.

    The file needs nothing but a browser, and no network.
    """
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign).id
        if not live:
            _write(ledger, chosen, root, as_json)
            return
    _serve(root, chosen, port, as_json)


def _write(ledger: Ledger, campaign: str, root: Path, as_json: bool) -> None:
    from autolab.report.page import write_page

    view = overview(ledger, campaign, now=time.time(), alive=works_on(root, ledger, campaign))
    if as_json:
        options.emit(dataclasses.asdict(view))
        return
    path = write_page(ledger, view, root)
    click.echo(cell(view.headline.sentence))
    click.echo(f"wrote {path.relative_to(root)}")


def _serve(root: Path, campaign: str, port: int, as_json: bool) -> None:
    from autolab.report.live import serve

    def ready(address: str) -> None:
        if as_json:
            options.emit({"campaign": campaign, "address": address})
        else:
            click.echo(f"{campaign}: {address} (Ctrl-C ends it; the campaign goes on)")

    os.nice(NICE)
    serve(served(root, campaign), port, ready)


def served(root: Path, campaign: str) -> Lab:
    """A campaign as it is served: what is read, and what its page may do."""
    from autolab.report.live import Lab

    asked = {"pause": PAUSED, "resume": RESUMED, "stop": STOPPING}
    actions = {name: partial(steer_campaign, root, *told, only=campaign) for name, told in asked.items()}
    return Lab(partial(open_lab, root), campaign, lambda ledger: works_on(root, ledger, campaign), actions)
