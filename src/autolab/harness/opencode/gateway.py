"""Between OpenCode and the model: the one place that knows the key, counts tokens and waits for a busy server.

Every seat has a gateway of its own on a unix socket, so its sandbox needs no network and holds no secret, and
whatever an agent does there is counted on its own trial. An answer is read to its end before any of it is
passed on: a stream that broke off is asked for again, one that never ends is cut, and OpenCode, which gives up
after 75 seconds of errors, does not notice a busy server at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from autolab.harness.models import Model
from autolab.harness.throttle import Throttle
from autolab.harness.upstream import Answer, ModelFailed, Patience, ask, whole
from autolab.harness.usage import Allowance, Usage

FINAL = (400, 401, 403, 404, 413)  # OpenCode does not try these again; all else was tried often enough here
LARGEST_REQUEST = 16 << 20
AT_ONCE = 4  # model calls of one session


@dataclass
class Endpoint:
    """A model as all seats see it: what one of them finds out about it holds for the others."""

    model: Model
    http: ClientSession
    tools: bool
    said: Callable[[str], None]
    throttle: Throttle | None = None
    answered: bool = False  # has it ever given an answer?


class Gateway:
    """An OpenAI-compatible server on a unix socket for one seat."""

    def __init__(self, endpoint: Endpoint, allowance: Allowance, patience: Patience) -> None:
        self.endpoint, self.allowance, self.patience = endpoint, allowance, patience
        self.usage = Usage()
        self._runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        """Serve on `socket`."""
        application = web.Application(client_max_size=LARGEST_REQUEST)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.5, handler_cancellation=True
        )
        await self._runner.setup()
        socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(socket)).start()

    async def close(self) -> None:
        """End what is under way and remove the socket."""
        if self._runner is not None:
            await self._runner.cleanup()

    def begin(self) -> Usage:
        """Count from zero for a new session, and return the counter."""
        self.usage = Usage()
        return self.usage

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": self.endpoint.model.id, "object": "model"}]}
        )

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        usage = self.usage
        usage.alive()
        if usage.in_flight >= AT_ONCE:
            return _refusal(429, f"at most {AT_ONCE} model calls at once")
        try:
            body = await request.json()
        except ValueError:
            return _refusal(400, "the request is no JSON")
        usage.refused = usage.refused or usage.met(self.allowance)
        if usage.refused:
            return _refusal(400, f"the lab ended this session: {usage.refused}")
        usage.requests += 1
        usage.in_flight += 1
        try:
            answer = await self._ask(body, _session(request), usage)
        except ModelFailed as failed:
            usage.failure, usage.failure_status = str(failed), failed.status
            if failed.status in FINAL:
                return _refusal(failed.status, str(failed), failed.body)
            return _refusal(400, str(failed))
        finally:
            usage.in_flight -= 1
        usage.failure = ""
        usage.alive()
        self.endpoint.answered = True
        bytes_in = 0 if "prompt_tokens" in answer.usage else len(json.dumps(body.get("messages")))
        usage.count(self.endpoint.model, answer.usage, bytes_in, answer.size)
        return await _pass_on(request, answer) if body.get("stream") else web.json_response(whole(answer))

    async def _ask(self, body: Mapping[str, Any], session: Mapping[str, str], usage: Usage) -> Answer:
        at = self.endpoint

        def retried(reason: str) -> None:
            usage.retries += 1
            at.said(reason)

        async def answer() -> Answer:
            sent = self._outgoing(body)
            return await ask(
                at.http, at.model, sent, session, self.patience, usage.alive, retried, at.throttle
            )

        try:
            return await answer()
        except ModelFailed as failed:
            if not body.get("tools") or not failed.refuses_tools:
                raise
            if at.tools:
                at.said(
                    f"{at.model.name} cannot call tools: agents answer with search/replace blocks instead"
                )
            at.tools = False
            return await answer()

    def _outgoing(self, body: Mapping[str, Any]) -> dict[str, Any]:
        dropped = () if self.endpoint.tools else ("tools", "tool_choice", "parallel_tool_calls")
        sent = {key: value for key, value in body.items() if key not in dropped}
        return {
            **sent,
            "model": self.endpoint.model.id,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def _session(request: web.Request) -> dict[str, str]:
    """The header by which servers find the cache of a conversation again; nothing else is passed on."""
    name = "x-session-id"
    return {name: request.headers[name]} if name in request.headers else {}


async def _pass_on(request: web.Request, answer: Answer) -> web.StreamResponse:
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await reply.prepare(request)
    last = {"choices": [], "usage": dict(answer.usage)}
    for piece in [*answer.pieces, last] if answer.usage else answer.pieces:
        await reply.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
    await reply.write(b"data: [DONE]\n\n")
    return reply


def _refusal(status: int, reason: str, body: bytes = b"") -> web.Response:
    """An error as OpenAI's servers word it; what the model's own server said goes through (context overflow)."""
    try:
        said = json.loads(body) if body else None
    except ValueError:
        said = None
    return web.json_response(said or {"error": {"message": reason, "type": "autolab"}}, status=status)
