"""What several commands share: where the lab is, and how a machine reads the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from autolab.errors import LabError

directory = click.option(
    "-C", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(),
    help="The lab's directory (default: here or above).",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
campaign = click.option("--campaign", help="Another campaign than the newest.")


def find_root(start: Path) -> Path:
    """The nearest directory at or above `start` that is a lab. Raises LabError."""
    start = start.resolve()
    if not start.is_dir():
        raise LabError("there is no such directory", where=str(start), mend="check the path after -C")
    for candidate in (start, *start.parents):
        if (candidate / "task.yaml").is_file() or (candidate / ".autolab" / "ledger.sqlite").is_file():
            return candidate
    raise LabError(
        "there is no task.yaml here or above",
        where=str(start),
        mend="run `autolab init` here, or `cd` to a lab",
    )


def emit(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
