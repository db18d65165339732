"""Keeps the requests to one model within its limits, and all of them away from a server that asks for a pause."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from autolab.harness.models import ModelLimits


class NoDollars(Exception):
    """What a person allows for a model is spent."""


class Throttle:
    """Turns to ask one model. A minute's requests are spread over the minute: no server likes them all at once."""

    def __init__(self, limits: ModelLimits, spent: float = 0.0) -> None:
        """`spent`: dollars, by earlier runs."""
        self.spent, self._usd = spent, limits.usd
        self._apart = 60.0 / limits.requests_per_minute  # seconds between two requests; 0 without a limit
        self._places = asyncio.Semaphore(limits.in_flight) if limits.in_flight else None
        self._line = asyncio.Lock()
        self._next = 0.0  # monotonic seconds: when the next request may go out

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place and for the time of one request; hold the place while it lasts. Raises NoDollars: what
        there was may have been spent by those who were before in the line."""
        async with self._places or contextlib.nullcontext():
            await self._until_due()
            yield

    @property
    def dry(self) -> bool:
        """Are the model's dollars spent?"""
        return self.spent >= self._usd

    async def _until_due(self) -> None:
        async with self._line:
            self._next = max(self._next, time.monotonic())
            while not self.dry and (left := self._next - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if self.dry:  # the rest of the line hears of it at once
                raise NoDollars
            self._next += self._apart

    def pause(self, seconds: float) -> None:
        """The server asks to be left alone. Whoever waits already waits on, and then in turn: no server likes all of
        them at once after it, either."""
        self._next = max(self._next, time.monotonic() + seconds)
