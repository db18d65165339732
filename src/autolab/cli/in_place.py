"""A few lines at the lower end of a terminal that are drawn anew in place, while a log scrolls above them.

The terminal is left as it is: no mode stays set and the cursor is not hidden, so that there is nothing to mend after an
interrupt, a suspension or a kill. That, and lines that are folded when the terminal is made narrower, is why this is
not `rich.live`, which hides the cursor and counts the rows as they were.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

UP, CLEAR_LINE, CLEAR_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"
UNFOLDED, FOLDED = (
    "\x1b[?7l",
    "\x1b[?7h",
)  # what the terminal takes for wider than we do is cut off, not folded


class InPlace:
    """Writes to one terminal."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        self._drawn: list[int] = []  # columns of each line that stands there now

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows) that lines may fill: the last column stays free, so that no line is folded."""
        columns, rows = shutil.get_terminal_size()
        return max(8, columns - 1), rows

    def draw(self, log: Sequence[Text], view: Sequence[Text]) -> None:
        """Put new lines of the log above the view, and the view in place of the last one. Raises OSError when the
        terminal is gone."""
        width, _ = self.size
        rows = sum(max(1, -(-drawn // (width + 1))) for drawn in self._drawn)
        lines = "".join(f"\r{line}{CLEAR_LINE}\n" for line in self._lines([*log, *view], width))
        text = f"{UP.format(rows) if rows else ''}{UNFOLDED}{lines}{FOLDED}{CLEAR_BELOW}"
        self._drawn = [min(line.cell_len, width) for line in view]
        encoding = self._file.encoding or "utf-8"
        self._file.write(text.encode(encoding, "replace").decode(encoding))
        self._file.flush()

    def forget(self) -> None:
        """Leave what stands there: somebody else wrote below it."""
        self._drawn = []

    def _lines(self, lines: Sequence[Text], width: int) -> list[str]:
        if not lines:
            return []
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line, width=width, no_wrap=True, overflow="ellipsis", crop=True)
        return captured.get().split("\n")[: len(lines)]
