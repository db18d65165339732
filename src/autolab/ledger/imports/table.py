"""Tables as people's agents write them: tabs, commas or spaces, quoted cells, rows that are cut off."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
from autolab.ledger.imports.imported import Problem
from autolab.ledger.views import cell

FEW = 9  # columns; in a table of more, spaces are never taken for the end of a cell


@dataclass(frozen=True)
class Row:
    """One line of a table, by column."""

    line: int
    cells: tuple[str, ...]
    header: tuple[str, ...]

    def at(self, column: int) -> str:
        """The cell of a column by its place; "" if the row ends before it, or if the place is negative."""
        return cell(self.cells[column]) if 0 <= column < len(self.cells) else ""

    def get(self, *names: str) -> str:
        """The cell of the first of these columns that the table has; of equal names the first."""
        return self.at(column(self.header, *names))

    def ends_at(self, column: int) -> bool:
        """Whether the row is cut off in this cell: what it holds may be half of what was meant."""
        return len(self.cells) == column + 1 < len(self.header)


@dataclass(frozen=True)
class Table:
    """The rows under a header. Lines that are no rows of it are problems."""

    header: tuple[str, ...]  # in lower case
    tabular: bool  # its cells end with tabs or commas, not just with spaces
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]

    @property
    def length(self) -> int:
        """Lines under the header that are not empty."""
        return len(self.rows) + len(self.problems)


def column(header: Sequence[str], *names: str) -> int:
    """The place of the first of these names that the header has; -1 if it has none."""
    return next((header.index(name) for name in names if name in header), -1)


def chosen(header: Sequence[str], metric: str, *, where: Path) -> int:
    """The column of the metric that was asked for. Raises LabError if there is none."""
    found = column(header, metric.strip().lower())
    if found < 0:
        raise LabError(
            f"has no column {metric!r}", where=str(where), mend="--metric with one of: " + ", ".join(header)
        )
    return found


def table_of(text: str) -> Table:
    """The first line that is not empty is the header. A last column of a row takes what is left over in it.

    Two lines that say exactly the same were written twice: the second is a problem, not one more measurement.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    first = lines[0][1]
    delimiter = next((mark for mark in "\t," if mark in first), " ")
    header = tuple(_name(name) for name in _cells(first, delimiter, 0))
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, line in lines[1:]:
        cells = _cells(line, delimiter, len(header))
        if _name(cells[0]) == header[0] and tuple(_name(name) for name in cells) == header:
            problems.append(Problem(number, "is the header again"))
        elif len(cells) < 2:
            problems.append(Problem(number, f"is no row of this table: {quoted(line)}"))
        elif cells in seen:
            problems.append(Problem(number, f"says the same as line {seen[cells]}, and is not counted again"))
        else:
            seen[cells] = number
            rows.append(Row(number, cells, header))
    return Table(header, delimiter != " ", tuple(rows), tuple(problems))


def quoted(text: str) -> str:
    """Somebody's text, short enough for a message."""
    text = cell(text)
    return f'"{text[:57]}…"' if len(text) > 60 else f'"{text}"'


def _name(text: str) -> str:
    return cell(text).strip("#*`\"' ").lower()


def _cells(line: str, delimiter: str, columns: int) -> tuple[str, ...]:
    """The cells of a line. With `columns`, there are at most as many: what is left over joins the last one."""
    if delimiter == " " or (delimiter == "\t" and "\t" not in line and 0 < columns <= FEW):
        return tuple(line.split(None, columns - 1))
    cells = line.split(delimiter)
    if '"' in line and line.count('"') % 2 == 0 and len(line) < csv.field_size_limit():
        cells = next(csv.reader([line.replace("\r", " ")], delimiter=delimiter))
    if 0 < columns < len(cells):
        cells = [*cells[: columns - 1], " ".join(cells[columns - 1 :])]
    return tuple(text.strip() for text in cells)
