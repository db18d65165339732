"""Ctrl-C for commands that go on for long: what is under way ends well."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM, so that what is under way ends well; a second one ends at once."""
    told = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def tell(number: int, frame: object) -> None:
        told.set()
        for again, handler in before.items():
            signal.signal(again, handler)

    for number in before:
        signal.signal(number, tell)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
