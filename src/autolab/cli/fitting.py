"""Texts that fit a terminal: their width in columns, cut or wrapped to a room; and other people's lines made harmless.

Letters of East Asian scripts and most emoji take two columns, combining marks none.
"""

from __future__ import annotations

import shutil
import sys

from autolab.program.difference import named

WIDTH = 80  # columns, where there is no terminal
NARROWEST, WIDEST = 40, 120  # columns that lines are laid out for, whatever the terminal has
TAB = 4


def width() -> int:
    """Columns that lines may take: the terminal's, within bounds, or 80 for files and pipes."""
    if not on_a_terminal():
        return WIDTH
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))


def on_a_terminal() -> bool:
    """Whether somebody looks at the standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def columns(text: str) -> int:
    """How many columns a line takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, room: int) -> str:
    """A line of at most `room` columns; what was cut off is an ellipsis."""
    if columns(text) <= room:
        return text
    return head(text, max(0, room - 1)) + "…" * (room > 0)


def head(text: str, room: int) -> str:
    """As much of the beginning of a line as `room` columns hold."""
    if text.isascii():
        return text[:room]
    from rich.cells import get_character_cell_size

    taken = 0
    for place, letter in enumerate(text):
        taken += get_character_cell_size(letter)
        if taken > room:
            return text[:place]
    return text


def padded(text: str, room: int) -> str:
    """A text cut or filled with spaces to exactly `room` columns."""
    short = cut(text, room)
    return short + " " * (room - columns(short))


def wrap(text: str, room: int) -> list[str]:
    """A text as lines of at most `room` columns, broken between words where there are any."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and columns(line) + 1 + columns(word) > room:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while columns(line) > room:
            first = head(line, room) or line[0]
            lines.append(first)
            line = line[len(first) :]
    return [*lines, line] if line else lines


def harmless(line: str) -> str:
    """One line of a program or of its output as it may go to a terminal: with its indentation, tabs as spaces, and
    whatever else is not printable named instead of obeyed."""
    return named(line.expandtabs(TAB))
