"""The gateway between OpenCode and a model server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector
from stand_ins.model_server import ModelServer, Responder, Step, call, say
from stand_ins.steps import context_overflow

from autolab.harness.models import Model
from autolab.harness.opencode.gateway import Endpoint, Gateway
from autolab.harness.upstream import Patience
from autolab.harness.usage import Allowance

QUICK = Patience(first_byte_seconds=2.0, stalled_seconds=2.0, tries=3, answer_bytes=2000)
ASKED = {"model": "model", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
TOOLS = [{"type": "function", "function": {"name": "edit", "parameters": {}}}]


def through(
    responder: Responder,
    use: Callable[[ClientSession, Gateway], Awaitable[Any]],
    *,
    patience: Patience = QUICK,
    allowance: Allowance | None = None,
) -> tuple[Any, ModelServer, list[str]]:
    """Run `use` with a client of a gateway that stands before a model server."""
    said: list[str] = []

    async def run(url: str, folder: Path) -> Any:
        model = Model("test/m", "m", url, "the-key", usd_in=1.0, usd_out=10.0)
        async with ClientSession() as http:
            gateway = Gateway(Endpoint(model, http, True, said.append), allowance or Allowance(), patience)
            await gateway.start(folder / "model")
            try:
                async with ClientSession(connector=UnixConnector(str(folder / "model"))) as client:
                    return await use(client, gateway)
            finally:
                await gateway.close()

    with ModelServer(responder) as server, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(server.url, Path(folder))), server, said


async def ask(client: ClientSession, **more: Any) -> tuple[int, str]:
    async with client.post("http://gateway/v1/chat/completions", json={**ASKED, **more}) as reply:
        return reply.status, await reply.text()


def spoken(stream: str) -> str:
    """The text of a stream, which must have its end."""
    lines = [line[5:].strip() for line in stream.splitlines() if line.startswith("data:")]
    assert lines[-1] == "[DONE]"
    pieces = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    return "".join(piece["delta"].get("content") or "" for piece in pieces)


async def once(client: ClientSession, gateway: Gateway) -> tuple[int, str, Any]:
    usage = gateway.begin()
    return (*(await ask(client)), usage)


def test_the_key_is_added_and_the_answer_counted() -> None:
    (status, text, usage), server, _ = through(lambda request: say("good day"), once)
    assert status == 200 and spoken(text) == "good day"
    assert server.requests[0].headers["authorization"] == "Bearer the-key"
    assert usage.requests == 1 and usage.tokens_in > 0 and usage.tokens_out == 2
    assert usage.cost_usd == (usage.tokens_in + 10 * usage.tokens_out) / 1e6


@pytest.mark.slow
def test_what_passes_by_itself_is_never_seen_by_the_agent() -> None:
    faults = [
        Step(status=429, retry_after=0.01), Step(status=500), Step(status=503), Step(cut="reset"), Step(cut="end"),
        Step(delay=math.inf), Step(stream_error="overloaded"), say(""),
    ]  # fmt: skip
    for fault in faults:
        fault = Step(**{**vars(fault), "text": fault.text or ("" if fault == say("") else "some words here")})
        first = [fault]
        (status, text, usage), server, said = through(
            lambda request, f=first: f.pop() if f else say("yes"), once
        )  # type: ignore[misc]
        assert (status, spoken(text), usage.retries, usage.failure) == (200, "yes", 1, ""), fault
        assert len(server.requests) == 2 and len(said) == 1


def test_a_server_that_stays_down_is_one_line_after_a_few_tries() -> None:
    (status, text, usage), server, _ = through(lambda request: Step(status=503, message="busy"), once)
    assert status == 400 and "HTTP 503: busy" in text  # 400: the agent does not try again
    assert usage.failure == "HTTP 503: busy" and usage.failure_status == 503 and len(server.requests) == 3


def test_a_refusal_is_passed_on_at_once_and_as_it_was_said() -> None:
    (status, text, usage), server, _ = through(lambda request: context_overflow(1000, 2000), once)
    assert status == 400 and json.loads(text)["error"]["code"] == "context_length_exceeded"
    assert len(server.requests) == 1 and usage.retries == 0


def test_an_answer_without_end_is_cut_and_half_a_tool_call_dropped() -> None:
    (status, text, usage), _, _ = through(lambda request: say("word " * 200_000), once)
    assert status == 200 and 2000 <= len(spoken(text)) < 200_000 and '"finish_reason": "length"' in text
    (_, text, _), _, _ = through(lambda request: call("write", content="x" * 500_000), once)
    assert "tool_calls" not in text and '"finish_reason": "length"' in text
    assert usage.failure == ""


def test_a_session_ends_with_its_allowance() -> None:
    async def use(client: ClientSession, gateway: Gateway) -> tuple[list[int], str, str]:
        usage = gateway.begin()
        found = [(await ask(client))[0] for _ in range(4)]
        met = usage.refused
        gateway.begin()
        return found, met, spoken((await ask(client))[1])

    (statuses, met, next_session), _, _ = through(
        lambda request: say("on"), use, allowance=Allowance(requests=2)
    )
    assert statuses == [200, 200, 400, 400] and met == "2 model calls" and next_session == "on"


def test_a_model_that_cannot_call_tools_is_asked_without_them_from_then_on() -> None:
    def respond(request: Any) -> Step:
        return Step(status=400, message="m does not support tools") if request.tools else say("words")

    async def use(client: ClientSession, gateway: Gateway) -> tuple[str, bool]:
        text = spoken((await ask(client, tools=TOOLS))[1])
        await ask(client, tools=TOOLS)
        return text, gateway.endpoint.tools

    (text, tools), server, said = through(respond, use)
    assert text == "words" and not tools
    assert [bool(request.tools) for request in server.requests] == [True, False, False]
    assert said == ["test/m cannot call tools: agents answer with search/replace blocks instead"]


def test_a_server_that_does_not_stream_is_read_as_well() -> None:
    async def use(client: ClientSession, gateway: Gateway) -> tuple[str, str]:
        whole = (await ask(client, stream=False))[1]
        return json.loads(whole)["choices"][0]["message"]["content"], spoken((await ask(client))[1])

    assert through(lambda request: say("the same"), use)[0] == ("the same", "the same")


def test_garbage_from_the_agent_is_refused_and_costs_nothing() -> None:
    async def use(client: ClientSession, gateway: Gateway) -> tuple[int, int]:
        async with client.post("http://gateway/v1/chat/completions", data=b"{") as reply:
            return reply.status, gateway.usage.requests

    assert through(lambda request: say("x"), use)[0] == (400, 0)


def test_nonsense_of_the_models_server_is_a_failure_of_the_model_and_no_answer() -> None:
    import http.server
    import threading

    bodies = [
        b'{"choices": [null]}',
        b'{"error": {"message": "out of memory"}}',
        b'{"choices": "x"}',
        b"[]",
        b"<html>",
    ]

    class Nonsense(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(bodies[0])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        async def use(client: ClientSession, gateway: Gateway) -> list[tuple[int, bool]]:
            address = f"http://127.0.0.1:{server.server_address[1]}/v1"
            gateway.endpoint.model = Model("test/m", "m", address)
            found = []
            while bodies:
                status, _, usage = await once(client, gateway)
                found.append((status, bool(usage.failure)))
                bodies.pop(0)
            return found

        patience = Patience(first_byte_seconds=2, stalled_seconds=2, tries=1)
        found, _, _ = through(lambda request: say("x"), use, patience=patience)
        server.shutdown()
    assert found == [(400, True)] * 5


def test_a_key_that_the_server_repeats_goes_no_further() -> None:
    def respond(request: Any) -> Step:
        return Step(status=401, message="Incorrect API key provided: Bearer the-key")

    (status, text, usage), _, said = through(respond, once)
    assert status == 401 and "the-key" not in text + usage.failure + "".join(said)
    assert "[key]" in usage.failure
