"""The ways in which real model servers misbehave, and a responder that lets a share of its answers do so."""

from __future__ import annotations

import inspect
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stand_ins.steps import Call, Request, Responder, Step, context_overflow, say, scripted

SLOW_SECONDS = 2.0
RETRY_AFTER_SECONDS = 1.0
HUGE_WORDS = 200_000

# Makes the misbehaving answer from the request and the answer that the model would have given.
Fault = Callable[[Request, Step], Step]


def bad_arguments(request: Request, honest: Step) -> Step:
    """Tool calls whose arguments break off: not JSON."""
    calls = honest.calls or (Call(request.tools[0] if request.tools else "bash"),)
    return replace(honest, calls=tuple(replace(one, raw=one.encoded[:-1]) for one in calls))


def endless_loop(request: Request, _: Step) -> Step:
    """The same harmless tool call, for ever: `Misbehaving` plays it until the next user message."""
    offered = "glob" in request.tools or not request.tools
    return Step(calls=(Call("glob", {"pattern": "*"}) if offered else Call(request.tools[0]),), repeat=True)


def cut_off(_: Request, honest: Step) -> Step:
    """Half of the text, because the model reached its output limit."""
    return Step(text=honest.text[: len(honest.text) // 2], finish="length")


FAULTS: Mapping[str, Fault] = {
    "slow": lambda _, honest: replace(honest, delay=SLOW_SECONDS),
    "timeout": lambda _, honest: replace(honest, delay=math.inf),
    "stalled": lambda _, honest: replace(honest, stall=math.inf),
    "rate limit": lambda _, honest: replace(honest, status=429, retry_after=RETRY_AFTER_SECONDS),
    "server error": lambda _, honest: replace(honest, status=500),
    "unavailable": lambda _, honest: replace(honest, status=503),
    "unauthorized": lambda _, honest: replace(honest, status=401, code="invalid_api_key"),
    "context overflow": lambda request, _: context_overflow(request.size // 5, request.size // 4),
    "truncated": lambda _, honest: replace(honest, cut="end"),
    "truncated after usage": lambda _, honest: replace(honest, cut="end", usage_before_cut=True),
    "lost connection": lambda _, honest: replace(honest, cut="reset"),
    "error in stream": lambda _, honest: replace(honest, stream_error="the engine died"),
    "bad arguments": bad_arguments,
    "unknown tool": lambda _, honest: replace(honest, calls=(Call("no_such_tool", {"path": "train.py"}),)),
    "endless loop": endless_loop,
    "empty": lambda _, honest: Step(),
    "huge": lambda _, honest: say("word " * HUGE_WORDS, words_per_chunk=20),
    "cut off": cut_off,
    "no usage": lambda _, honest: replace(honest, reports_usage=False),
    "reasoning": lambda _, honest: replace(honest, reasoning="Let me think about this. " * 20),
}


class Misbehaving:
    """A responder that plays another one's answers, a share of them with a fault.

    The n-th chat request that arrives draws the n-th card of decks that the seed shuffles, so every fault
    is played equally often, and the same ones in each run whatever the requests say.

    Args:
        respond: gives the honest answers; absent, the script in the prompt does.
        share: of the requests that meet a fault.
        faults: names from FAULTS.

    `played` counts the faults.
    """

    def __init__(
        self,
        respond: Responder | None = None,
        *,
        seed: int = 0,
        share: float = 0.3,
        faults: Sequence[str] = tuple(FAULTS),
    ) -> None:
        self.played: Counter[str] = Counter()
        self._respond = respond
        self._random = random.Random(seed)
        self._share = share
        self._faults = [(name, FAULTS[name]) for name in faults]
        self._deck: list[tuple[str, Fault]] = []
        self._stuck: dict[tuple[str, str], Step] = {}

    async def __call__(self, request: Request) -> Step:
        fault = self._draw()
        talk = (request.session, request.prompt)
        if talk in self._stuck:
            return self._stuck[talk]
        honest = self._respond(request) if self._respond else None
        if inspect.isawaitable(honest):
            honest = await honest
        honest = honest or scripted(request)
        if fault is None:
            return honest
        name, make = fault
        self.played[name] += 1
        step = make(request, honest)
        if step.repeat:
            self._stuck[talk] = step
        return step

    def _draw(self) -> tuple[str, Fault] | None:
        if self._random.random() >= self._share:
            return None
        if not self._deck:
            self._deck = list(self._faults)
            self._random.shuffle(self._deck)
        return self._deck.pop()
