"""`autolab figures`: pictures of a campaign."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import click

from autolab.campaign.lock import works_on
from autolab.cli import options
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.views import replace_bytes
from autolab.report.figures import AXES, pictures
from autolab.report.overview import overview


@click.command()
@options.directory
@options.campaign
@click.option("--x", "axis", type=click.Choice(AXES), default="trials", show_default=True,
              help="What the staircase climbs along.")  # fmt: skip
@options.as_json
def figures(directory: Path, campaign: str | None, axis: str, as_json: bool) -> None:
    """Draw the staircase of the master, the lineage and the slots as PNG and SVG into results/<campaign>/."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LabError("matplotlib is not installed", mend="pip install 'autolab[figures]'")
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign).id
        view = overview(ledger, chosen, now=time.time(), alive=works_on(root, ledger, chosen))
    folder = root / "results" / chosen
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures(view, axis)
    for name, content in drawn.items():
        replace_bytes(folder / name, content)
    paths = [str((folder / name).relative_to(root)) for name in drawn]
    if as_json:
        options.emit({"campaign": chosen, "x": axis, "files": paths})
        return
    for path in paths:
        click.echo(f"wrote {path}")
