"""One answer of a model from a server that may be busy, slow, or break off: read whole, or asked for again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader

from autolab.harness.models import Model
from autolab.harness.throttle import Throttle
from autolab.harness.usage import Clock

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds; the back-off doubles from one to the other
LONGEST_LINE = 4 << 20  # bytes of one server-sent event
LONGEST_REASON = 300  # characters


@dataclass(frozen=True)
class Patience:
    """How long to wait for a model server, and how much to take from it."""

    first_byte_seconds: float = 180.0
    stalled_seconds: float = 60.0  # between two pieces of one answer
    tries: int = 6
    answer_bytes: int = 96_000  # what is longer is cut as if the model had met its own limit
    answer_seconds: float = 900.0  # likewise for what takes longer

    @property
    def request_seconds(self) -> float:
        """For one request in all, whatever trickles in meanwhile."""
        return self.first_byte_seconds + self.answer_seconds


class ModelFailed(Exception):
    """No usable answer. `status` is the HTTP status (503 for a connection that failed), `body` what was said."""

    def __init__(self, reason: str, status: int, body: bytes = b"", retry_after: str = "") -> None:
        super().__init__(reason)
        self.status, self.body, self.retry_after = status, body, retry_after

    def without(self, key: str) -> ModelFailed:
        """The same in short, in case the server repeats the key that it was sent: this ends up in logs and in the
        ledger. What is cut before the key is replaced could end in a part of it."""
        reason, body = str(self), self.body
        if key:
            reason, body = reason.replace(key, "[key]"), body.replace(key.encode(), b"[key]")
        return ModelFailed(reason[:LONGEST_REASON], self.status, body, self.retry_after)

    @property
    def refuses_tools(self) -> bool:
        """Does the server say that this model cannot call tools?"""
        said = f"{self} {self.body.decode(errors='replace')}".lower()
        return (
            self.status in (400, 404, 422, 501) and "tool" in said and ("support" in said or "enable" in said)
        )


@dataclass
class Answer:
    """One whole answer as the pieces of its stream, and what the server says that it used."""

    pieces: list[dict[str, Any]] = field(default_factory=list)
    usage: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0  # bytes of text, reasoning and arguments

    def take(self, piece: dict[str, Any]) -> None:
        """Add a piece of the stream."""
        self.usage = piece["usage"] if isinstance(piece.get("usage"), dict) else self.usage
        if piece.get("choices"):
            self.pieces.append(piece)
            self.size += _size(piece)

    @property
    def finished(self) -> bool:
        """Has the model said that it is done?"""
        return any(choice.get("finish_reason") for piece in self.pieces for choice in piece["choices"])

    @property
    def text(self) -> str:
        """What was said aloud."""
        deltas = (choice.get("delta") or {} for piece in self.pieces for choice in piece["choices"])
        return "".join(said for delta in deltas if isinstance(said := delta.get("content"), str))

    def cut(self) -> Answer:
        """The answer as if the model had met its own limit here; half a tool call is no call, and goes."""
        spoken = [
            p for p in self.pieces if not any((c.get("delta") or {}).get("tool_calls") for c in p["choices"])
        ]
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
        return Answer([*spoken, {**(spoken[0] if spoken else {}), **last}], self.usage, self.size)


async def ask(
    http: ClientSession,
    model: Model,
    body: Mapping[str, Any] | bytes,
    session: Mapping[str, str],
    patience: Patience,
    alive: Callable[[], None],
    retried: Callable[[str], None],
    throttle: Throttle | None = None,
    clock: Clock | None = None,
) -> Answer:
    """One answer to a chat-completions `body`, which bytes hold as JSON; `session` are further headers.

    `alive` is called at every sign of life, `retried` with the reason before each further try; `clock` stands still
    while the request waits for its turn. Raises ModelFailed if it was refused, or if no try gave a whole answer.
    """
    failed = ModelFailed("no try was made", 503)
    for attempt in range(patience.tries):
        if attempt:
            retried(str(failed))
            await _back_off(attempt, failed.retry_after, alive)
        try:
            async with contextlib.AsyncExitStack() as held:
                if throttle is not None:
                    with clock.stopped() if clock is not None else contextlib.nullcontext():
                        await held.enter_async_context(throttle.turn())
                async with asyncio.timeout(patience.request_seconds):
                    answer = await _once(http, model, body, session, patience, alive)
        except ModelFailed as reason:
            failed = reason.without(model.key)
            if throttle is not None and failed.status in RETRIED:
                throttle.pause(_asked(failed.retry_after) or 0.0)
            if failed.status not in RETRIED:
                raise failed from None
            continue
        except (ClientError, OSError, TimeoutError) as error:
            failed = ModelFailed(f"{model.base_url} {_cause(error)}", 503)
            continue
        if answer.size or attempt:  # empty twice is what this model has to say
            return answer
        failed = ModelFailed("the model's answer was empty", 503)
    raise failed


async def _once(
    http: ClientSession,
    model: Model,
    body: Mapping[str, Any] | bytes,
    session: Mapping[str, str],
    patience: Patience,
    alive: Callable[[], None],
) -> Answer:
    headers = {"Content-Type": "application/json", **session}
    headers |= {"Authorization": f"Bearer {model.key}"} if model.key else {}
    timeout = ClientTimeout(total=None, sock_connect=20, sock_read=patience.first_byte_seconds)
    address = f"{model.base_url}/chat/completions"
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    async with http.post(address, data=body, headers=headers, timeout=timeout) as reply:
        alive()
        if reply.status != 200:
            said = await at_most(reply.content, 65_536)
            raise ModelFailed(
                _message(reply.status, said), reply.status, said, reply.headers.get("Retry-After", "")
            )
        if "event-stream" not in reply.headers.get("Content-Type", ""):  # a server that does not stream
            return _from_whole(await at_most(reply.content, LONGEST_LINE), patience)
        return await _read(reply.content, patience, alive)


async def _read(stream: StreamReader, patience: Patience, alive: Callable[[], None]) -> Answer:
    """A stream to its end, or to the cut. Raises ModelFailed if it breaks off before, TimeoutError if the time is over
    before anything was said."""
    answer, until = Answer(), time.monotonic() + patience.answer_seconds
    async for line in _lines(stream, patience.stalled_seconds):
        alive()
        if time.monotonic() > until:
            if not answer.size:
                raise TimeoutError
            return answer.cut()
        if not line.startswith(b"data:"):  # a comment, by which servers keep the connection open
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            break
        answer.take(_json_object(data))
        if answer.size > patience.answer_bytes:
            return answer.cut()
    else:
        if not answer.finished:
            raise ModelFailed("the model's stream broke off", 502)
    return answer


async def at_most(stream: StreamReader, limit: int) -> bytes:
    """A body, or its first `limit` bytes."""
    found = b""
    while len(found) < limit and (chunk := await stream.readany()):
        found += chunk
    return found[:limit]


async def _lines(stream: StreamReader, stalled_seconds: float) -> AsyncIterator[bytes]:
    """Lines of any length up to LONGEST_LINE; aiohttp's own limit for one is far below a large tool call."""
    rest = b""
    while True:
        async with asyncio.timeout(stalled_seconds):  # `wait_for` of Python 3.11 can swallow a cancellation
            chunk = await stream.readany()
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LONGEST_LINE:
            raise ModelFailed("the model's stream holds a line without end", 502)
    if rest:
        yield rest


async def _back_off(attempt: int, retry_after: str, alive: Callable[[], None]) -> None:
    """Wait as the server asked, else twice as long each time; always a bit longer, so that many who were refused at
    once do not come back at once. Waiting is no silence of the agent's."""
    asked = _asked(retry_after)
    seconds = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) if asked is None else asked
    seconds *= random.uniform(1.0, 1.5)
    while seconds > 0:
        alive()
        await asyncio.sleep(min(seconds, 5.0))
        seconds -= 5.0


def _asked(retry_after: str) -> float | None:
    """The seconds of a Retry-After header, within reason; None for a date or for none."""
    try:
        return min(max(float(retry_after), 0.0), 4 * LONGEST_WAIT)
    except ValueError:
        return None


def _from_whole(raw: bytes, patience: Patience) -> Answer:
    """The answer of a server that does not stream, as a stream of one piece. Raises ModelFailed."""
    reply = _json_object(raw)
    answer = Answer(usage=reply["usage"] if isinstance(reply.get("usage"), dict) else {})
    for choice in reply.get("choices") or []:
        message = choice.get("message")
        delta = dict(message) if isinstance(message, dict) else {}
        calls = delta.get("tool_calls") or []
        delta["tool_calls"] = [{**call, "index": place} for place, call in enumerate(calls)]
        head: dict[str, Any] = {
            key: reply[key] for key in ("id", "object", "created", "model") if key in reply
        }
        answer.take({**head, "choices": [{**choice, "delta": delta}]})
    return answer.cut() if answer.size > patience.answer_bytes else answer


def whole(answer: Answer) -> dict[str, Any]:
    """An answer as one object, as a server sends it that does not stream."""
    finish = "stop"
    calls: dict[int, dict[str, Any]] = {}
    for choice in (choice for piece in answer.pieces for choice in piece["choices"]):
        delta = choice.get("delta") or {}
        finish = choice.get("finish_reason") or finish
        for call in delta.get("tool_calls") or []:
            known = calls.setdefault(
                call.get("index", 0), {"type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["id"] = call.get("id") or known.get("id", "call")
            for key in ("name", "arguments"):
                known["function"][key] += (call.get("function") or {}).get(key) or ""
    message = {
        "role": "assistant",
        "content": answer.text,
        **({"tool_calls": list(calls.values())} if calls else {}),
    }
    return {
        "id": "answer", "object": "chat.completion", "created": int(time.time()), "usage": dict(answer.usage),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }  # fmt: skip


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode())  # bytes would be searched for their encoding, at a fifth of the cost
    except (ValueError, RecursionError):
        raise ModelFailed("the model's server sent broken JSON", 502) from None
    if not isinstance(found, dict):
        raise ModelFailed("the model's server sent no JSON object", 502)
    if found.get("error"):
        raise ModelFailed(f"the model's server broke off: {found['error']}", 502)
    choices = found.get("choices") or []
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        raise ModelFailed("the model's server sent an answer of an unknown shape", 502)
    return found


def _is_choice(choice: Any) -> bool:
    """A piece of an answer whose parts are what they are called."""
    if not isinstance(choice, dict):
        return False
    spoken = choice.get("delta") or choice.get("message") or {}
    calls = spoken.get("tool_calls") or [] if isinstance(spoken, dict) else None
    return isinstance(calls, list) and all(
        isinstance(call, dict) and isinstance(call.get("function") or {}, dict) for call in calls
    )


def _size(piece: Mapping[str, Any]) -> int:
    """Bytes of what the model said in one piece of its stream."""
    total = 0
    for choice in piece["choices"]:
        delta = choice.get("delta") or {}
        texts = [delta.get("content"), delta.get("reasoning_content"), delta.get("reasoning")]
        for call in delta.get("tool_calls") or []:
            function = call.get("function") or {}
            texts += [function.get("name"), function.get("arguments")]
        total += sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))
    return total


def _message(status: int, said: bytes) -> str:
    """What an error reply says, in one line."""
    text = said.decode(errors="replace")
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        text = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, RecursionError):
        pass
    return f"HTTP {status}: {' '.join(text.split())}"


def _cause(error: BaseException) -> str:
    return "did not answer in time" if isinstance(error, TimeoutError) else f"cannot be reached: {error}"
