"""What a trial changed, as a unified diff: for files and pipes as it is, for a terminal with colours and within its
width."""

from __future__ import annotations

from collections.abc import Iterator

import click

from autolab.cli.fitting import columns, harmless, head

COLORS = {"+": "green", "-": "red", "@": "cyan"}
MOST_ROWS = 6  # of one line, in a terminal
MARK = "↪ "  # begins the further rows of a long line


def for_terminal(diff: str, room: int) -> Iterator[str]:
    """The lines of a diff, coloured; long ones go on in further rows, and very long ones end in how much more there
    is."""
    for line in diff.splitlines():
        bold = line.startswith(("+++", "---"))
        color = None if bold else COLORS.get(line[:1])
        for row in _rows(harmless(line), room):
            yield click.style(row, fg=color, bold=bold or None)


def _rows(line: str, room: int) -> Iterator[str]:
    first = head(line, room)
    yield first
    rest = line[len(first) :]
    for _ in range(MOST_ROWS - 2):
        if not rest:
            return
        part = head(rest, room - len(MARK))
        yield MARK + part
        rest = rest[len(part) :]
    if columns(rest) <= room - len(MARK):
        yield from [MARK + rest] if rest else []
    else:
        yield f"{MARK}… {len(rest):,} more characters"
