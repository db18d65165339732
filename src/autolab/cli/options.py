"""What several commands share: where the lab is, and how a machine reads the answer."""

from __future__ import annotations

import json
import math
import sys
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
    click.echo(document(value, indent=2))


def document(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: what is not a number is null, and what the output cannot encode is
    escaped."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        value = _numbers(value)
        text = json.dumps(value, indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, default=str, allow_nan=False)
    return text


def _numbers(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return value
