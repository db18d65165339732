"""What a session may take of a model, and what it has taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from autolab.harness.models import Model

BYTES_A_TOKEN = 4  # to estimate usage where a server reports none
MOST_TOKENS = 10**7  # of one call


@dataclass(frozen=True)
class Allowance:
    """What one session may ask of the model; one that meets it is ended."""

    requests: int = 60
    tokens: int = 2_000_000


class Clock:
    """The time of one session. It stands still while the session waits for its turn to ask: that is the lab's doing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._limit = asyncio.timeout(None)

    @property
    def over(self) -> bool:
        """Has the time run out?"""
        return self._limit.expired()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the time run. Raises TimeoutError when it is over."""
        async with asyncio.timeout(self.seconds) as self._limit:
            yield

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold the running time."""
        loop = asyncio.get_running_loop()
        end, began = self._limit.when(), loop.time()
        self._limit.reschedule(None)
        try:
            yield
        finally:
            if end is not None:
                self._limit.reschedule(end + loop.time() - began)


@dataclass
class Usage:
    """What a session has used so far, as the lab saw it."""

    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0
    retries: int = 0
    cost_usd: float = 0.0
    in_flight: int = 0
    failure: str = ""  # why the last model call failed for good; empty if it did not
    failure_status: int = 0  # the HTTP status of that failure
    refused: str = ""  # the allowance that was met
    last_sign: float = field(default_factory=time.monotonic)  # of life, from the agent or from the model

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.tokens_in + self.tokens_out

    def alive(self) -> None:
        """Note a sign of life."""
        self.last_sign = time.monotonic()

    def met(self, allowance: Allowance) -> str:
        """The allowance that is used up, in words; empty if there is something left."""
        if self.requests >= allowance.requests:
            return f"{self.requests} model calls"
        return f"{self.tokens} tokens" if self.tokens >= allowance.tokens else ""

    def count(self, model: Model, reported: Mapping[str, Any], bytes_in: int, bytes_out: int) -> float:
        """Add one call: what the server reports, within reason, else an estimate from the bytes. Its dollars."""
        sent, got = (
            told if isinstance(told := reported.get(key), int) else size // BYTES_A_TOKEN
            for key, size in (("prompt_tokens", bytes_in), ("completion_tokens", bytes_out))
        )
        sent, got = min(max(0, sent), MOST_TOKENS), min(max(0, got), MOST_TOKENS)
        self.tokens_in += sent
        self.tokens_out += got
        dollars = model.cost(sent, got)
        self.cost_usd += dollars
        return dollars
