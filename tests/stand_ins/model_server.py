"""A model server in the shape of OpenAI's chat completions that plays scripted answers and scripted faults.

    with ModelServer() as server:                 # plays the SCRIPT: in the prompt, see stand_ins.steps
    with ModelServer(follow(call("bash", command="ls"), say("done"))) as server:
    with ModelServer(by_system({"You are the planner": planner, "You are the worker": worker})) as server:
        … point a client at server.url, then look at server.requests and server.stats

`python -m stand_ins.model_server --port 8901 --log requests.jsonl` runs one from the shell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from stand_ins.answers import Answer
from stand_ins.steps import (
    Call,
    Outcome,
    Request,
    Responder,
    Step,
    Usage,
    by_system,
    call,
    context_overflow,
    follow,
    say,
    scripted,
    together,
)

__all__ = [
    "Call",
    "ModelServer",
    "Request",
    "Responder",
    "Stats",
    "Step",
    "Usage",
    "by_system",
    "call",
    "follow",
    "say",
    "together",
]

LARGEST_REQUEST = 256 * 2**20
WRITE_SIZE = 64 * 2**10  # chunks without a delay between them go out in writes of about this size


@dataclass
class Stats:
    """What the server has done so far."""

    requests: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)


class ModelServer:
    """The server, in a thread of its own while the context is open.

    Args:
        respond: decides what is played; where it is absent or answers None, the script in the prompt is.
            What it raises is sent to the client as an error 400, and raised again when the context closes.
        unix: a path; the server then listens on that socket instead of on a port of 127.0.0.1.
        port: 0 takes a free one.
        models: the names it serves; another one is answered 404. Empty: any name.
        key: the key it asks for; another one is answered 401. Empty: none.
        context: tokens (four bytes of request each); a larger request is answered `context_length_exceeded`.
        streams: False answers in one piece whatever was asked, as some servers do.
        tool_calls: False refuses requests with tools, as a server does whose model cannot call any.
        seed: of the identifiers in answers.
        observe: told of every request when its answer is over.
    """

    def __init__(
        self,
        respond: Responder | None = None,
        *,
        unix: Path | None = None,
        port: int = 0,
        models: Sequence[str] = (),
        key: str = "",
        context: float = math.inf,
        streams: bool = True,
        tool_calls: bool = True,
        seed: int = 0,
        observe: Callable[[Request], None] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.stats = Stats()
        self._respond = respond
        self._unix = unix
        self._port = port
        self._models = tuple(models)
        self._key = key
        self._context = context
        self._streams = streams
        self._tool_calls = tool_calls
        self._seed = seed
        self._observe = observe
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._mistakes: list[BaseException] = []
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """The base URL that clients are configured with, including `/v1`."""
        return "http://localhost/v1" if self._unix else f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        ready = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:
                failed.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="model server", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        self._stop()
        self._thread.join()
        if self._mistakes and error is None:
            raise self._mistakes[0]

    def of_session(self, session: str) -> list[Request]:
        """The chat requests of one of the client's sessions, in order."""
        return [request for request in self.requests if request.session == session and request.kind == "chat"]

    async def _serve(self, ready: threading.Event) -> None:
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.router.add_get("/stats", self._show_stats)
        app.router.add_get("/{prefix:.*}models", self._list_models)
        app.router.add_post("/{prefix:.*}chat/completions", self._chat)
        # A client that goes away cancels its handler: that is how `client left` is known. A timeout of
        # zero would wait for ever.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        stopping = asyncio.Event()
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
        try:
            if self._unix:
                await web.UnixSite(runner, self._unix, backlog=512).start()
            else:
                await web.TCPSite(runner, "127.0.0.1", self._port, backlog=512).start()
                self._port = runner.addresses[0][1]
            ready.set()
            await stopping.wait()
        finally:
            await runner.cleanup()

    async def _show_stats(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self.stats))

    async def _list_models(self, _: web.Request) -> web.Response:
        models = [{"id": name, "object": "model"} for name in self._models or ("scripted",)]
        return web.json_response({"object": "list", "data": models})

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        try:
            raw = await http.read()
            body = json.loads(raw)
            request = self._admit(http, body, raw)
        except (ValueError, AttributeError) as error:
            return error_response(Step(status=400, message=f"not a chat request: {error}"))
        self.stats.in_flight += 1
        self.stats.max_in_flight = max(self.stats.max_in_flight, self.stats.in_flight)
        try:
            request.step = await self._decide(request)
            if request.attempt > request.step.times:
                request.step = request.step.without_faults
            self.stats.statuses[request.step.status] += 1
            return await self._play(http, request, request.step)
        except (asyncio.CancelledError, ConnectionError):
            request.outcome = request.outcome or "client left"
            raise
        finally:
            self.stats.in_flight -= 1
            if self._observe:
                self._observe(request)

    def _admit(self, http: web.Request, body: Mapping[str, Any], raw: bytes) -> Request:
        request = Request(
            number=len(self.requests) + 1,
            kind="chat",
            body=body,
            headers={name.lower(): value for name, value in http.headers.items()},
            attempt=1,
            size=len(raw),
            at=time.monotonic(),
        )
        request.kind = kind_of(request)
        again = (request.session, hash(raw))
        self._attempts[again] += 1
        request.attempt = self._attempts[again]
        self.requests.append(request)
        self.stats.requests += 1
        self.stats.kinds[request.kind] += 1
        return request

    async def _decide(self, request: Request) -> Step:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return Step(status=401, message="Incorrect API key provided", code="invalid_api_key")
        if self._models and request.model not in self._models:
            return Step(
                status=404, message=f"The model `{request.model}` does not exist", code="model_not_found"
            )
        if request.tools and not self._tool_calls:
            return Step(
                status=400, message="This model does not support tool calls", code="invalid_request_error"
            )
        if request.size / 4 > self._context:
            return context_overflow(int(self._context), request.size // 4)
        if request.kind == "title":
            return say("Scripted title")
        if request.kind == "summary":
            return say("## Goal\nScripted summary of the conversation.")
        try:
            decided = self._respond(request) if self._respond else None
            if inspect.isawaitable(decided):
                decided = await decided
        except Exception as error:
            self._mistakes.append(error)
            return Step(status=400, message=f"the responder failed: {error!r}", code="responder_failed")
        return scripted(request) if decided is None else decided

    async def _play(self, http: web.Request, request: Request, step: Step) -> web.StreamResponse:
        # The outcome is noted before the last bytes go out: a client that has them finds it.
        breaks = bool(step.cut or step.stream_error) and step.status == 200
        outcome: Outcome = "broken" if breaks else "answered"
        await pause(step.delay)
        if step.status != 200:
            request.outcome = outcome
            return error_response(step)
        answer = Answer(request, step, random.Random(f"{self._seed}:{request.number}"))
        if not (request.stream and self._streams):
            if step.pings:
                blank = web.StreamResponse(headers={"content-type": "application/json"})
                await blank.prepare(http)
                await ping(blank, b" ", step.pings)
            await pause(step.stall)
            request.outcome = outcome
            if step.stream_error:
                return error_response(replace(step, status=500, message=step.stream_error))
            if step.cut:
                drop(http)
            return web.json_response(answer.whole())
        response = web.StreamResponse(
            headers={"content-type": "text/event-stream", "cache-control": "no-cache"}
        )
        await response.prepare(http)
        deltas = list(answer.deltas())
        middle = (len(deltas) + 1) // 2
        await send(response, map(answer.event, deltas[:middle]), step.chunk_delay)
        while step.endless:  # until the client leaves
            await send(response, map(answer.event, deltas[:middle]), step.chunk_delay)
            await asyncio.sleep(0)
        if step.pings:
            await ping(response, b": ping\n\n", step.pings)
        await pause(step.stall)
        if not breaks:
            await send(response, map(answer.event, deltas[middle:]), step.chunk_delay)
        request.outcome = outcome
        await send(response, answer.ending(), 0)
        if step.cut == "reset":
            drop(http)
        else:
            await response.write_eof()
        return response


def kind_of(request: Request) -> Literal["chat", "title", "summary"]:
    """Tells a session's own requests from OpenCode's housekeeping, by the system prompts of 1.18."""
    if not request.tools and "You are a title generator" in request.system:
        return "title"
    if not request.tools and "context summarization agent" in request.system:
        return "summary"
    return "chat"


def error_response(step: Step) -> web.Response:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if step.status < 500 and step.status != 429 else "server_error"
    error = {"message": step.message or f"scripted error {step.status}", "type": kind, "param": None,
             "code": step.code or None}  # fmt: skip
    headers = {} if step.retry_after is None else {"retry-after": f"{step.retry_after:g}"}
    return web.json_response({"error": error}, status=step.status, headers=headers)


async def send(response: web.StreamResponse, events: Iterable[bytes], delay: float) -> None:
    """Sends events, one by one where there is a delay between them, otherwise in large writes."""
    waiting: list[bytes] = []
    size = 0
    for event in events:
        waiting.append(event)
        size += len(event)
        if delay or size > WRITE_SIZE:
            await response.write(b"".join(waiting))
            waiting, size = [], 0
            await asyncio.sleep(delay)
    if waiting:
        await response.write(b"".join(waiting))


async def ping(response: web.StreamResponse, sign: bytes, seconds: float) -> None:
    """Sends a sign of life again and again, until the client leaves."""
    while True:
        await response.write(sign)
        await asyncio.sleep(seconds)


async def pause(seconds: float) -> None:
    """Waits, for ever if need be; the client's leaving or the server's end cancels it."""
    if seconds == math.inf:
        await asyncio.Event().wait()
    elif seconds:
        await asyncio.sleep(seconds)


def drop(http: web.Request) -> None:
    """Closes the connection in the middle of an answer, once what was written is out."""
    if http.transport is not None:
        http.transport.close()


def main() -> None:
    """Runs a server until it is interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--unix", type=Path, help="listen on this socket instead")
    parser.add_argument(
        "--log", type=Path, help="append every request and its answer here, one JSON line each"
    )
    options = parser.parse_args()

    def log(request: Request) -> None:
        with options.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(request)) + "\n")

    # Ends in good order, with the last answers in the log.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ModelServer(unix=options.unix, port=options.port, observe=log if options.log else None) as server:
        print(f"model server on {options.unix or server.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
