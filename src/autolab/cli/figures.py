"""`autolab figures`: pictures of a campaign."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from autolab.cli import options
from autolab.errors import LabError
from autolab.lab import open_lab


@click.command()
@options.directory
@options.campaign
def figures(directory: Path, campaign: str | None) -> None:
    """Draw the staircase of the master as PNG and SVG into results/<campaign>/."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LabError("matplotlib is not installed", mend="pip install 'autolab[figures]'")
    from autolab.report.staircase import draw_staircase

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign).id
        paths = [root / "results" / chosen / f"staircase.{suffix}" for suffix in ("png", "svg")]
        draw_staircase(ledger, chosen, paths)
    for path in paths:
        click.echo(f"wrote {path.relative_to(root)}")
