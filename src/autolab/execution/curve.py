"""How a recipe says its training goes, and when that is bad enough to stop it.

A recipe may append lines `<progress 0..1> <value>`, lower is better, to the file that `$AUTOLAB_CURVE` names. What
it writes is a rumour: it can end this run, and gives it nothing.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import math
import os
import stat

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FILE = "curve.txt"
TAIL = 16 << 10  # bytes that are read at most at a time, the newest
LINES = 400  # of them
LINE = 80  # bytes; a longer one is no line of a curve
POINTS = 64  # that are kept, at equal distances at least
ABSURD = 1e100
RUNNING = 2  # points outside, one after the other, that end a run


class Curve:
    """The curve of one run. `band` holds (progress, lowest, highest, worst allowed), in rising progress; empty: any
    curve will do. `points` are the [progress, value] that were kept, in rising progress."""

    def __init__(self, path: str, band: Sequence[Sequence[float]]) -> None:
        self.path, self.band = path, band
        self.points: list[list[float]] = []
        self._read = 0  # bytes of the file, up to the end of a line
        self._outside = 0  # kept points up to the newest that are outside the band, in a row

    def objection(self) -> str | None:
        """Read what is new; why the run should end, or None. A run's end depends on its points, not on how often this
        is called."""
        for point in _points(self._new_lines()):
            if len(self.points) == POINTS or (self.points and point[0] < self.points[-1][0] + 1 / POINTS):
                continue
            self.points.append(point)
            limit = self._limit(point[0])
            outside = limit is not None and point[1] > limit[3]
            self._outside = self._outside + 1 if outside else 0
            if limit is not None and self._outside == RUNNING:
                progress, value = 100 * point[0], point[1]
                had = f"{limit[1]:.4g} to {limit[2]:.4g}"
                return f"stopped at {progress:.0f} % of the budget: {value:.4g} where the master's runs had {had}"
        return None

    def _limit(self, progress: float) -> Sequence[float] | None:
        """What the band says there: of the places before and behind the one that allows more."""
        before = [place for place in self.band if place[0] <= progress][-1:]
        behind = [place for place in self.band if place[0] >= progress][:1]
        return max(before + behind, key=lambda place: place[3]) if before and behind else None

    def _new_lines(self) -> list[bytes]:
        """The last whole lines that were not read yet; none of what is no plain file."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return []
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                return []
            known = self._read if self._read <= info.st_size else 0
            start = max(known, info.st_size - TAIL)
            data = os.pread(descriptor, TAIL, start)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        end = data.rfind(b"\n") + 1
        self._read = start + end
        lines = data[:end].split(b"\n")
        return lines[0 if start == known else 1 :][-LINES:]


def _points(lines: Iterable[bytes]) -> list[list[float]]:
    """[progress, value] of the lines that are points of a curve."""
    found = []
    for line in lines:
        words = line.split() if len(line) <= LINE else []
        if len(words) != 2:
            continue
        try:
            progress, value = map(float, words)
        except ValueError:
            continue
        if 0 <= progress <= 1 and math.isfinite(value) and abs(value) < ABSURD:
            found.append([float(f"{progress:.5f}"), float(f"{value:.6g}")])
    return found
