"""Calls to the Hub from a campaign: in threads, and repeated for as long as the Hub does not let them through."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from autolab.errors import LabError
from autolab.execution.executor import Unstarted
from autolab.hub.connection import Denied, Unavailable

Answer = TypeVar("Answer")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
WORTH_SAYING = 2.0  # seconds; a moment's trouble is nobody's business
AWAY_SECONDS = 300.0  # in a row, after which a campaign that ends waits no more for what it has begun


class Patience:
    """Waits with a growing pause, says once why, and says when it is over.

    After `winding_down` nothing waits that has not begun, and what has begun waits for a bounded time.
    """

    def __init__(self, threads: int) -> None:
        self.notice: Callable[[str], None] = lambda text: None
        self.winding_down = asyncio.Event()
        self._waiting: Counter[str] = Counter()  # calls that wait, by what they have met and was told
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hub")

    async def call(self, act: Callable[..., Answer], *words: Any) -> Answer:
        """One call, in a thread: the Hub's client blocks. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: act(*words))

    async def insist(self, act: Callable[..., Answer], *words: Any) -> Answer:
        """A call that is repeated until the Hub lets it through.

        Raises Unstarted if the campaign winds down meanwhile, and LabError for what waiting cannot mend.
        """
        return await self._repeat(act, words, begun=False)

    async def see_through(self, act: Callable[..., Answer], *words: Any) -> Answer:
        """A call for a job that was launched, and so is paid for: as `insist`, and a campaign that winds down gives it
        up only when the Hub has been away for AWAY_SECONDS in a row."""
        return await self._repeat(act, words, begun=True)

    async def _repeat(self, act: Callable[..., Answer], words: tuple[Any, ...], *, begun: bool) -> Answer:
        pause, told, given_up_at = FIRST_PAUSE, "", None
        try:
            while True:
                try:
                    answer = await self.call(act, *words)
                    break
                except (Unavailable, Denied) as problem:
                    if self.winding_down.is_set():
                        given_up_at = given_up_at or time.monotonic() + (AWAY_SECONDS if begun else 0.0)
                        if time.monotonic() >= given_up_at:
                            raise Unstarted(str(problem)) from None
                    if pause >= WORTH_SAYING and problem.what != told:
                        self._forget(told)
                        told = self._tell(problem)
                    if self.winding_down.is_set():
                        await asyncio.sleep(pause)
                    else:
                        await first_of(self.winding_down, seconds=pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except BaseException:
            self._forget(told)
            raise
        if told and self._forget(told):
            self.notice("the Hub lets the campaign go on")
        return answer

    def _tell(self, problem: LabError) -> str:
        """Say a problem unless another call waits for the same one."""
        if not self._waiting[problem.what]:
            self.notice(f"waiting for the Hub: {problem}")
        self._waiting[problem.what] += 1
        return problem.what

    def _forget(self, told: str) -> bool:
        """One call waits no more; whether none does."""
        self._waiting[told] -= 1
        self._waiting = +self._waiting
        return not self._waiting


async def first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait for the first of some events, or for so many seconds."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
