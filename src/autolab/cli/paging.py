"""How commands that read print what they found: at once, or in a pager when it is longer than the screen."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from autolab.cli.fitting import on_a_terminal


def tell(lines: Sequence[str]) -> None:
    """Print lines; in a terminal with fewer rows, through $PAGER (`less` by default, `PAGER=cat` for none)."""
    text = writable("\n".join(lines))
    rows = shutil.get_terminal_size().lines
    if not on_a_terminal() or len(text.splitlines()) < rows:
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
        return
    click.echo_via_pager(text, color=_colours())


def writable(text: str) -> str:
    """A text without what the standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _colours() -> bool | None:
    """Whether colours go to the pager; None: click knows best what `less` was told."""
    if os.environ.get("NO_COLOR"):
        return False
    words = shlex.split(os.environ.get("PAGER", "")) or ["less"]
    plain = Path(words[0]).stem == "less" or os.environ.get("TERM") in ("dumb", "emacs")
    return None if plain else True
