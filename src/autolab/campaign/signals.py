"""How a person or the system ends a campaign from outside: Ctrl-C, SIGTERM, a terminal that is closed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def heeded(drain: Callable[[str], None], draining: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C and SIGTERM drain, and cancel the task that entered when it drains already. A terminal that is closed only
    drains: whoever goes home does not ask for haste. Under nohup nobody hears of that."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        if draining() and task is not None:
            task.cancel()
        else:
            drain("interrupted; once more cancels what is running")

    handlers: dict[int, Callable[[], None]] = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = lambda: drain("the terminal was closed")
    try:
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
