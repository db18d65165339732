"""The one reader of a ledger for all who watch: in a thread of its own, with a connection of its own.

It asks SQLite whether somebody committed, which costs microseconds, and reads what was added only then. A campaign
never waits for it; a ledger that is locked, damaged or gone is something to say, and is tried again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from autolab.errors import LabError
from autolab.ledger.store import Ledger, ledger_problem
from autolab.report.live.aside import Aside
from autolab.report.live.changes import sharing
from autolab.report.overview import Reader, detail
from autolab.report.overview.records import Detail, Overview

AGED_SECONDS = 15.0  # a campaign at work is read again after that: time passes though nothing is written
KEPT = 8  # overviews that a page may hold to be told only what changed since


@dataclass(frozen=True)
class _Open:
    ledger: Ledger
    reader: Reader
    file: tuple[int, int]  # of which file system, which one


class Watcher:
    """What a campaign looks like now; `problem` says why that is not known. For one event loop; close it."""

    def __init__(
        self, open_ledger: Callable[[], Ledger], campaign: str, alive: Callable[[Ledger], bool]
    ) -> None:
        self.problem = ""
        self._open_ledger, self._campaign, self._alive = open_ledger, campaign, alive
        self._held: deque[Overview] = deque(maxlen=KEPT)
        self._aside = Aside("ledger")
        self._looking: asyncio.Future[Overview] | None = None
        self._open: _Open | None = None  # touched by that thread alone

    @property
    def view(self) -> Overview | None:
        """The newest overview; None before the first look that succeeded."""
        return self._held[-1] if self._held else None

    def held(self, now: float | None) -> Overview | None:
        """The overview of this time, if it is still known."""
        return next((view for view in reversed(self._held) if view.now == now), None)

    async def look(self, patience: float | None = None) -> None:
        """See what there is now, or say after so many seconds that it takes long; None waits to the end. One look at a
        time: whoever comes later waits for the one under way."""
        if self._looking is None:
            self._looking = self._aside.call(self._read, self.view)
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=patience)
        if not done:
            self.problem = (
                "the ledger has not answered for a while: another program holds it, or it is very long"
            )
            return
        if self._looking is looking:
            self._looking = None
        try:
            view = looking.result()
        except LabError as problem:
            self.problem = str(problem)
            return
        self.problem = ""
        if view is not self.view:
            self._held.append(view)

    async def detail(self, ordinal: int) -> Detail | None:
        """What an opened row shows; None if there is no such trial. Raises LabError."""
        marks = self.view.marks if self.view else ()
        place = bisect_left(marks, ordinal, key=lambda mark: mark.ordinal)
        if place == len(marks) or marks[place].ordinal != ordinal:
            return None
        return await self._aside.call(self._detail, marks[place].id)

    def close(self) -> None:
        """Let the ledger go."""
        self._aside.close(self._shut)

    # in the thread --------------------------------------------------------------------------------

    def _read(self, view: Overview | None) -> Overview:
        try:
            its = self._opened()
            alive, reader = self._alive(its.ledger), its.reader
            aged = view is None or (alive and time.time() - view.now >= AGED_SECONDS)
            if view is not None and not aged and alive == view.alive and not reader.changed():
                return view
            now = round(time.time(), 3)
            # An overview is known by its time, so no two have the same.
            read = reader.read(now if view is None or now > view.now else view.now + 0.001, alive)
            return read if view is None else sharing(view, read)
        except Exception as error:
            raise self._given_up(error) from None

    def _detail(self, name: str) -> Detail:
        try:
            ledger = self._opened().ledger
            return detail(ledger, ledger.find_trial(name).number)
        except Exception as error:
            raise self._given_up(error) from None

    def _opened(self) -> _Open:
        """The open ledger. Raises LabError if it is gone, or another file in its place."""
        if self._open is None:
            ledger = self._open_ledger()
            status = ledger.path.stat()
            self._open = _Open(ledger, Reader(ledger, self._campaign), (status.st_dev, status.st_ino))
        path = self._open.ledger.path
        try:
            status = path.stat()
        except FileNotFoundError:
            raise LabError("the ledger is gone", where=str(path), mend="put it back") from None
        if (status.st_dev, status.st_ino) != self._open.file:
            raise LabError("another ledger is in its place", where=str(path), mend="reload the page")
        return self._open

    def _given_up(self, error: Exception) -> LabError:
        """What went wrong, in words; the next look opens the ledger anew."""
        path = self._open.ledger.path if self._open else None
        self._shut()
        if isinstance(error, LabError):
            return error
        if path is not None and isinstance(error, sqlite3.Error | OSError):
            return ledger_problem(error, path)
        return LabError(f"{type(error).__name__}: {error}", mend="it is tried again")

    def _shut(self) -> None:
        if self._open is not None:
            self._open.ledger.close()
            self._open = None
