"""A thread beside the event loop that does one thing after another."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """One thread, so that what belongs to a thread (a connection of SQLite) can live in it. It never keeps a process
    from ending: a call that a lock holds up ends with the process."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, work: Callable[..., Result], *arguments: Any) -> asyncio.Future[Result]:
        """What `work` returns or raises, once its turn has come."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def settle(value: Result | None, error: Exception | None) -> None:
            if answer.done():
                return  # whoever asked has gone
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, failed = None, None
            try:
                value = work(*arguments)
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop may have ended
                loop.call_soon_threadsafe(settle, value, failed)

        self._calls.put(run)
        return answer

    def close(self, last: Callable[[], None]) -> None:
        """Do one last thing when its turn comes, and end; does not wait for it."""
        self._calls.put(last)
        self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
