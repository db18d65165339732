"""The view of a running campaign in a terminal: drawn on a timer of the campaign's own loop, fed by its events."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.text import Text

from autolab.cli.fitting import harmless
from autolab.cli.in_place import InPlace
from autolab.cli.screen import rows_for_view, view
from autolab.cli.seen import Seen

PERIOD = 0.25  # seconds between two drawings
MOST_LINES = 8  # of ordinary outcomes a second; more are counted in one line


class View:
    """Keeps the lower end of the terminal up to date from `start` to `stop`."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._place = InPlace(sys.stdout)
        self._said: list[tuple[str, Callable[[], str], str]] = []  # word to count it under, line, style
        self._more: Counter[str] = Counter()
        self._room, self._second = MOST_LINES, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._others = contextlib.ExitStack()  # where others write meanwhile
        self._gone: OSError | None = None
        self._told: set[type[Exception]] = set()  # what went wrong before, and was said

    def start(self) -> None:
        """Begin to draw, from within the campaign's loop."""
        loop = asyncio.get_running_loop()
        self._others.enter_context(contextlib.redirect_stderr(_Lines(self.say)))
        self._others.enter_context(contextlib.redirect_stdout(_Lines(self._message)))
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread
            loop.add_signal_handler(signal.SIGCONT, self._place.forget)
        self._timer = loop.call_later(0, self._tick)

    def stop(self) -> None:
        """Take the view away; the log stays."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._others.close()
        with contextlib.suppress(Exception):  # the campaign has ended as it has, whatever can be shown of it
            self._place.draw([*self._log(time.monotonic()), *self._sum()], [])

    def say(self, text: str, style: str = "") -> None:
        """A line for the log, at the next drawing. Raises OSError once the terminal is gone."""
        self._say("", lambda: text, style)

    def outcome(self, word: str, line: Callable[[], str]) -> None:
        """An ordinary outcome for the log, which may only be counted; `line` is asked for if it is written. Raises
        OSError likewise."""
        self._say(word, line, "")

    def _say(self, word: str, line: Callable[[], str], style: str) -> None:
        if self._gone is not None:
            raise self._gone
        self._said.append((word, line, style))

    def _message(self, text: str) -> None:
        """What somebody prints, as of agents at work: there can be as much of it as of outcomes."""
        self.outcome("messages", lambda: text)

    def _tick(self) -> None:
        try:
            seen = self._seen()
            self._place.draw(self._log(time.monotonic()), seen)
        except OSError as error:  # the campaign hears of it when it next says something
            self._gone = error
            return
        except Exception as error:
            self._wrong(error)
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._tick)

    def _seen(self) -> list[Text]:
        """The view; nothing while it cannot be read, as of a ledger that is locked."""
        try:
            width, rows = self._place.size
            return list(view(self._look(), width, rows_for_view(rows)))
        except Exception as error:
            self._wrong(error)
            return []

    def _wrong(self, error: Exception) -> None:
        """Say what went wrong, of each kind once; it is tried again at the next drawing."""
        if type(error) not in self._told:
            self._told.add(type(error))
            text = harmless(" ".join(f"{type(error).__name__}: {error}".split()))
            self._said.append(("", lambda: f"the view cannot be drawn now: {text}", "yellow"))

    def _log(self, now: float) -> list[Text]:
        """The new lines of the log, as they were said. Of what is ordinary the first few of each second are written,
        the rest is counted, and told when the second is over."""
        log: list[Text] = []
        if now - self._second >= 1:
            log += self._sum()
            self._second, self._room = now, MOST_LINES
        said, self._said = self._said, []  # whatever comes of a line, it is not said again
        for word, line, style in said:
            if word and self._room == 0:
                self._more[word] += 1
                continue
            self._room -= bool(word)
            try:
                log.append(Text(line(), style))
            except Exception as error:
                self._wrong(error)
        return log

    def _sum(self) -> list[Text]:
        if not self._more:
            return []
        told = ", ".join(f"{count} {word}" for word, count in self._more.most_common())
        number = sum(self._more.values())
        self._more.clear()
        return [Text(f"{'':<10}{number} more: {told}", "bright_black")]


class _Lines(io.TextIOBase):
    """A standard stream while the view is up: what somebody writes to it goes to the log, line by line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun = ""

    def writable(self) -> bool:
        """Whether it can be written to: it can."""
        return True

    def write(self, text: str) -> int:
        """Pass on every line that is complete."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._say(harmless(line.rpartition("\r")[2]))
        return len(text)
