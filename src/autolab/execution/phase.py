"""One phase of a measurement: run a command to its end or to a limit, and leave nothing of it alive.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import math
import os
import select
import time

from . import process_tree
from .limits import LOG_LIMIT, MB, Limits, Progress, over_limit, over_time
from .outcome import Outcome, Stopped

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from .run_log import Log
else:
    import _signal as signal  # what `signal` is made of; that also builds enums, for longer than we may take


_FIRST_CHECK = 0.05  # seconds; a look at every process costs a recipe of milliseconds a tenth of its time


class Ending:
    """How a phase ended. `verdict` is None if it ended by itself, else (status, cause)."""

    def __init__(self) -> None:
        self.verdict: tuple[str, str] | None = None
        self.status = 0  # wait status of the main process
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_memory = 0


class Signals:
    """Exits of children, requests to stop, and the lab's lifeline, as descriptors to poll."""

    def __init__(self, lifeline: bool) -> None:
        self.stop = False
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        self.poll = select.poll()
        self.poll.register(self.reader, select.POLLIN)
        self._children_only = select.poll()
        self._children_only.register(self.reader, select.POLLIN)
        if lifeline:
            # Only its end matters; a full pipe must not wake us for ever, so do not ask for POLLIN.
            self.poll.register(0, 0)

    def _on_stop(self, *_: object) -> None:
        self.stop = True

    def wait(self, seconds: float) -> list[int]:
        """Descriptors that are ready, after `seconds` at most. Raises Stopped."""
        ready = [descriptor for descriptor, _ in self.poll.poll(max(0, math.ceil(seconds * 1000)))]
        if self.reader in ready:
            self._drain()
        if self.stop or 0 in ready:
            raise Stopped
        return ready

    def forget(self, descriptor: int) -> None:
        """Wait for this descriptor no more."""
        try:  # noqa: SIM105  (contextlib takes a millisecond to import)
            self.poll.unregister(descriptor)
        except KeyError:
            pass

    def wait_for_child(self, seconds: float) -> None:
        """Return when a child exits, at the latest after `seconds`; deaf to requests to stop."""
        if self._children_only.poll(math.ceil(seconds * 1000)):
            self._drain()

    def _drain(self) -> None:
        try:
            while os.read(self.reader, 4096):
                pass
        except BlockingIOError:
            pass


def run_phase(
    argv: list[str],
    *,
    env: dict[str, str],
    cwd: str,
    limits: Limits,
    rlimits: dict[int, int],
    cpus: list[int] | None,
    log: Log,
    signals: Signals,
    keep: tuple[int, ...] = (),
    dies_with_us: bool = True,
    once_started: Callable[[], object] | None = None,
) -> Ending:
    """Run a command to its end or to a limit; every process that it started is dead on return.

    `once_started` is called while the command starts up; for the rest see process_tree.spawn. Raises
    Stopped (everything is dead then, too).
    """

    def start(output: int) -> int:
        return process_tree.spawn(
            argv,
            env=env,
            cwd=cwd,
            output=output,
            limits=rlimits,
            cpus=cpus,
            keep=keep,
            dies_with_us=dies_with_us,
        )

    tree = process_tree.ProcessTree(len(cpus) if cpus else os.cpu_count() or 1)
    return follow(start, tree, limits, log, signals, once_started)


def follow(
    start: Callable[[int], int],
    tree: process_tree.ProcessTree,
    limits: Limits,
    log: Log,
    signals: Signals,
    once_started: Callable[[], object] | None = None,
) -> Ending:
    """Have `start(output)` begin a process that writes to that descriptor, and is the root of `tree`; see it to its
    end or to a limit, and everything of it dead.

    Raises Stopped (everything is dead then, too).
    """
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        began = time.monotonic()
        try:
            pid = start(writer)
        finally:
            os.close(writer)
        if once_started is not None:
            once_started()
        return _follow_to_its_end(pid, tree, limits, log, signals, reader, began)
    finally:
        os.close(reader)


def _follow_to_its_end(
    pid: int,
    tree: process_tree.ProcessTree,
    limits: Limits,
    log: Log,
    signals: Signals,
    reader: int,
    began: float,
) -> Ending:
    ending = Ending()
    signals.poll.register(reader, select.POLLIN)
    try:
        ending.verdict = _watch(pid, tree, limits, log, reader, signals, began)
        ending.seconds = time.monotonic() - began
    finally:
        signals.forget(reader)
        dead = tree.kill(signals.wait_for_child, at_once=ending.verdict is not None or pid not in tree.exits)
    if not dead:
        raise Outcome("infra_error", "a process of the trial could not be killed")
    while _read_some(reader, log):
        pass
    ending.status = tree.exits[pid]
    ending.cpu_seconds = tree.cpu_seconds
    ending.peak_memory = tree.peak_memory
    return ending


def _watch(
    pid: int,
    tree: process_tree.ProcessTree,
    limits: Limits,
    log: Log,
    reader: int,
    signals: Signals,
    began: float,
) -> tuple[str, str] | None:
    """Wait until the main process ends (None) or a limit is met: (status, cause)."""
    deadline = began + limits.wall
    flood = log.total + LOG_LIMIT
    next_check = began + _FIRST_CHECK
    progress = Progress(began)
    while True:
        now = time.monotonic()
        ready = signals.wait(min(next_check, deadline) - now)
        if reader in ready:
            if not _read_some(reader, log):
                signals.forget(reader)  # it would be ready for ever
            if log.total > flood:
                return "crash", f"log flood: more than {LOG_LIMIT // MB} MB of output"
        tree.reap()
        if pid in tree.exits:
            return None
        now = time.monotonic()
        if now >= deadline:
            return over_time(tree, limits)
        if now >= next_check:
            # Quick at first, so that a run that goes wrong at once costs little.
            next_check = now + min(0.1, max(0.02, 0.3 * (now - began)))
            verdict = over_limit(tree, limits, progress, log.total, now)
            if verdict is not None:
                return verdict


def _read_some(reader: int, log: Log) -> bool:
    """Read what is there. False at the end of the output."""
    try:
        data = os.read(reader, MB)
    except BlockingIOError:
        return False
    log.feed(data)
    return bool(data)
