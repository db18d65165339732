"""Keeps the requests to one model within its limits, and all of them away from a server that asks for a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from autolab.harness.models import ModelLimits


class Throttle:
    """Turns to ask one model. A minute's requests are spread over the minute: no server likes them all at once."""

    def __init__(self, limits: ModelLimits) -> None:
        self._apart = 60.0 / limits.requests_per_minute  # seconds between two requests; 0 without a limit
        self._places = asyncio.Semaphore(limits.in_flight) if limits.in_flight else None
        self._next = 0.0  # monotonic seconds: when the next request may go out
        self._paused = 0.0  # monotonic seconds: before this, none goes out

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place and for the time of one request; hold the place while it lasts."""
        if self._places is None:
            await self._until_due()
            yield
            return
        async with self._places:
            await self._until_due()
            yield

    async def _until_due(self) -> None:
        due = max(self._next, time.monotonic())
        self._next = due + self._apart
        while (left := max(due, self._paused) - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def pause(self, seconds: float) -> None:
        """The server asks to be left alone; whoever is late for it waits as well."""
        self._paused = max(self._paused, time.monotonic() + seconds)
