"""The scripted model server: it plays what it is told, in the shapes and with the faults of real servers."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from stand_ins.faults import FAULTS, HUGE_WORDS, Misbehaving
from stand_ins.model_server import (
    Call,
    ModelServer,
    Request,
    Step,
    Usage,
    by_system,
    call,
    follow,
    say,
    together,
)

TESTS = Path(__file__).resolve().parent


@dataclass
class Answer:
    """What a client received."""

    status: int
    headers: dict[str, str]
    body: Any  # of an answer in one piece
    events: list[Any]  # of a stream; the last is "[DONE]" if it ended well

    @property
    def text(self) -> str:
        return "".join(delta.get("content") or "" for delta in self._deltas())

    @property
    def reasoning(self) -> str:
        return "".join(delta.get("reasoning_content") or "" for delta in self._deltas())

    @property
    def finish(self) -> str | None:
        choices = [event["choices"][0] for event in self.events if event != "[DONE]" and event.get("choices")]
        return next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None)

    @property
    def usage(self) -> dict[str, Any] | None:
        return next((event["usage"] for event in self.events if event != "[DONE]" and "usage" in event), None)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Names and arguments, put together from their pieces."""
        put_together: dict[int, tuple[str, str]] = {}
        for delta in self._deltas():
            for piece in delta.get("tool_calls", ()):
                name, arguments = put_together.get(piece["index"], ("", ""))
                function = piece["function"]
                put_together[piece["index"]] = (
                    name + function.get("name", ""),
                    arguments + function["arguments"],
                )
        return [put_together[index] for index in sorted(put_together)]

    def _deltas(self) -> list[dict[str, Any]]:
        return [
            event["choices"][0]["delta"]
            for event in self.events
            if event != "[DONE]" and event.get("choices")
        ]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ask(
    server: ModelServer,
    *messages: dict[str, Any] | str,
    stream: bool = True,
    tools: Sequence[str] = ("bash",),
    headers: dict[str, str] | None = None,
    model: str = "scripted",
    timeout: float = 30,
    unix: Path | None = None,
) -> Answer:
    """Sends one chat request and reads the answer to its end."""
    host, port = server.url.removeprefix("http://").removesuffix("/v1"), None
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    if unix:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(unix))
    body = {
        "model": model,
        "stream": stream,
        "messages": [user(one) if isinstance(one, str) else one for one in messages or ("hello",)],
        "tools": [{"type": "function", "function": {"name": name}} for name in tools],
    }
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers or {})
        response = connection.getresponse()
        raw = response.read().decode()
    finally:
        connection.close()
    if response.getheader("content-type") != "text/event-stream":
        return Answer(response.status, dict(response.getheaders()), json.loads(raw), [])
    data = [line.removeprefix("data: ") for line in raw.splitlines() if line]
    events = [one if one == "[DONE]" else json.loads(one) for one in data]
    return Answer(response.status, dict(response.getheaders()), None, events)


def script(*steps: dict[str, Any]) -> str:
    return "Please. SCRIPT: " + json.dumps(steps) + " and no more."


ASSISTANT = {"role": "assistant", "content": "yes"}


def test_each_turn_plays_its_step_of_the_newest_script() -> None:
    prompt = script({"tool": "bash", "args": {"command": "ls"}}, {"text": "done"})
    with ModelServer() as server:
        assert ask(server, prompt).calls == [("bash", '{"command": "ls"}')]
        assert ask(server, prompt, ASSISTANT).text == "done"
        assert ask(server, prompt, ASSISTANT, "go on", ASSISTANT).text == "script exhausted"
        assert ask(server, prompt, ASSISTANT, script({"text": "new"})).text == "new"
        assert ask(server, "no script").text == "ok"


def test_a_repeated_step_is_an_endless_loop() -> None:
    prompt = script({"tool": "bash", "args": {}, "repeat": True}, {"text": "never"})
    with ModelServer() as server:
        assert ask(server, prompt, *[ASSISTANT] * 50).calls == [("bash", "{}")]


@pytest.mark.parametrize("steps", ['[{"tekst": "x"}]', '[{"tools": [{}]}]', '{"text": "x"}', "[", "[1]"])
def test_a_bad_script_is_an_error_that_names_it(steps: str) -> None:
    with ModelServer() as server:
        answer = ask(server, f"SCRIPT: {steps}")
    assert (answer.status, answer.body["error"]["code"]) == (400, "bad_script")


def test_roles_are_played_by_system_prompt() -> None:
    roles = by_system(
        {"You plan": follow(say("a plan")), "You work": follow(lambda request: say(request.prompt.upper()))}
    )
    with ModelServer(roles) as server:
        assert ask(server, {"role": "system", "content": "You plan."}, "x").text == "a plan"
        assert ask(server, {"role": "system", "content": "You work."}, "try it").text == "TRY IT"
        assert ask(server, {"role": "system", "content": "You idle."}, script({"text": "own"})).text == "own"


def test_a_request_tells_what_a_responder_needs() -> None:
    with ModelServer() as server:
        parts = {
            "role": "user",
            "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        }
        result = {"role": "tool", "tool_call_id": "1", "content": "file.py"}
        system = {"role": "system", "content": "You work."}
        headers = {"X-Session-Id": "child", "X-Parent-Session-Id": "lead"}
        ask(
            server,
            system,
            "old",
            ASSISTANT,
            parts,
            ASSISTANT,
            result,
            tools=("bash", "edit"),
            headers=headers,
        )
        (request,) = server.of_session("child")
    assert (request.system, request.prompt, request.turn) == ("You work.", "one\ntwo", 1)
    assert (request.results, request.tools) == (("file.py",), ("bash", "edit"))
    assert (request.parent_session, request.model, request.stream) == ("lead", "scripted", True)
    assert (request.step, request.outcome) == (say("ok"), "answered")


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    step = Step(
        text="some words\n\n here ",
        reasoning="hm, hm",
        calls=(Call("bash", {"command": "ls"}), Call("read", {"filePath": "ä"})),
        usage=Usage(100, 20, cached=60, reasoning=5),
    )
    with ModelServer(follow(step)) as server:
        stream, whole = ask(server), ask(server, stream=False)
    message = whole.body["choices"][0]["message"]
    calls = [(one["function"]["name"], one["function"]["arguments"]) for one in message["tool_calls"]]
    assert stream.text == message["content"] == step.text
    assert stream.reasoning == message["reasoning_content"] == step.reasoning
    assert stream.calls == calls == [("bash", '{"command": "ls"}'), ("read", json.dumps({"filePath": "ä"}))]
    assert stream.usage and stream.usage == whole.body["usage"]
    assert stream.usage["prompt_tokens_details"] == {"cached_tokens": 60}
    assert stream.finish == whole.body["choices"][0]["finish_reason"] == "tool_calls"
    assert stream.events[-1] == "[DONE]"


def test_steps_can_be_played_together_in_one_turn() -> None:
    both = together(say("now"), call("task", agent="a"), call("task", agent="b"))
    with ModelServer(follow(both)) as server:
        answer = ask(server)
    assert (answer.text, [name for name, _ in answer.calls]) == ("now", ["task", "task"])


def test_a_rate_limit_names_its_delay_and_passes() -> None:
    with ModelServer(follow(say("through", status=429, retry_after=7, times=2))) as server:
        first, second, third = ask(server), ask(server), ask(server)
        other = ask(server, headers={"x-session-id": "another"})
    assert [first.status, second.status, third.status, other.status] == [429, 429, 200, 429]
    assert (first.headers["retry-after"], third.text) == ("7", "through")
    assert dict(server.stats.statuses) == {429: 3, 200: 1}


@pytest.mark.parametrize("status", [500, 503])
def test_server_errors_have_the_shape_of_openai(status: int) -> None:
    with ModelServer(follow(Step(status=status, message="no"))) as server:
        answer = ask(server)
    assert answer.status == status
    assert answer.body == {"error": {"message": "no", "type": "server_error", "param": None, "code": None}}


def test_a_request_beyond_the_context_overflows() -> None:
    with ModelServer(context=1000) as server:
        answer = ask(server, "word " * 2000)
        assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")
        assert "maximum context length is 1000 tokens" in answer.body["error"]["message"]
        assert ask(server, "word").status == 200


def test_wrong_keys_models_and_tools_are_refused() -> None:
    key = {"authorization": "Bearer right"}
    with ModelServer(key="right", models=["small"], tool_calls=False) as server:
        assert ask(server, headers={"authorization": "Bearer wrong"}).status == 401
        assert ask(server, headers=key, model="big").body["error"]["code"] == "model_not_found"
        assert ask(server, headers=key, model="small").status == 400
        assert ask(server, headers=key, model="small", tools=()).status == 200


def test_a_truncated_stream_ends_without_a_finish_reason() -> None:
    words = say("one two three four")
    with ModelServer(by_system({
        "plain": follow(Step(text=words.text, cut="end")),
        "usage": follow(Step(text=words.text, cut="end", usage_before_cut=True)),
    })) as server:  # fmt: skip
        plain = ask(server, {"role": "system", "content": "plain"})
        usage = ask(server, {"role": "system", "content": "usage"})
    assert words.text.startswith(plain.text) and 0 < len(plain.text) < len(words.text)
    assert (plain.finish, plain.usage, plain.events[-1] == "[DONE]") == (None, None, False)
    assert (usage.text, usage.finish, usage.usage is None) == (plain.text, None, False)


@pytest.mark.parametrize("stream", [True, False])
def test_a_lost_connection_breaks_off_the_answer(stream: bool) -> None:
    with (
        ModelServer(follow(Step(text="one two", cut="reset"))) as server,
        pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)),
    ):
        ask(server, stream=stream)
    assert [request.outcome for request in server.requests] == ["broken"]


def test_an_error_can_come_in_the_middle_of_a_stream() -> None:
    with ModelServer(follow(say("one two three", stream_error="out of memory"))) as server:
        answer = ask(server)
    assert (answer.status, answer.events[-1]["error"]["message"]) == (200, "out of memory")


@pytest.mark.parametrize("step", [Step(delay=math.inf), say("one two", stall=math.inf)])
def test_a_hanging_answer_lasts_until_the_client_leaves(step: Step) -> None:
    over = threading.Event()
    with ModelServer(follow(step), observe=lambda _: over.set()) as server:
        with pytest.raises(TimeoutError):
            ask(server, timeout=0.5)
        assert over.wait(30)
    assert [request.outcome for request in server.requests] == ["client left"]


def test_the_end_of_the_server_ends_what_hangs() -> None:
    arrived = threading.Event()

    def hang(_: Request) -> Step:
        arrived.set()
        return Step(delay=math.inf)

    failures: list[Exception] = []

    def client(server: ModelServer) -> None:
        try:
            ask(server)
        except (http.client.HTTPException, OSError) as error:
            failures.append(error)

    with ModelServer(hang) as server:
        thread = threading.Thread(target=client, args=(server,))
        thread.start()
        assert arrived.wait(30)
    thread.join(30)
    assert len(failures) == 1


def test_invalid_arguments_and_unknown_tools_are_sent_as_they_are() -> None:
    with ModelServer(follow(Step(calls=(Call("bash", raw='{"command": "ls'), Call("nothing"))))) as server:
        assert ask(server).calls == [("bash", '{"command": "ls'), ("nothing", "{}")]


def test_an_answer_can_be_empty_cut_off_or_without_usage() -> None:
    steps = follow(Step(), say("half an", finish="length"), say("x", reports_usage=False))
    with ModelServer(steps) as server:
        empty, cut_off, silent = (ask(server, "x", *[ASSISTANT] * turn) for turn in range(3))
    assert (empty.text, empty.calls, empty.finish) == ("", [], "stop")
    assert (cut_off.text, cut_off.finish) == ("half an", "length")
    assert (silent.usage, silent.events[-1]) == (None, "[DONE]")


def test_a_huge_answer_comes_through_whole() -> None:
    with ModelServer(follow(say("word " * HUGE_WORDS, words_per_chunk=20))) as server:
        answer = ask(server)
    assert answer.text == "word " * HUGE_WORDS
    assert answer.usage and answer.usage["completion_tokens"] == HUGE_WORDS


def test_housekeeping_is_answered_without_the_responder() -> None:
    with ModelServer(follow(call("bash"))) as server:
        title = ask(server, {"role": "system", "content": "You are a title generator."}, "x", tools=())
        summary = ask(
            server, {"role": "system", "content": "You are a context summarization agent."}, tools=()
        )
    assert title.text == "Scripted title"
    assert "summary" in summary.text
    assert dict(server.stats.kinds) == {"title": 1, "summary": 1}


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    with ModelServer(unix=path) as server:
        assert ask(server, unix=path).text == "ok"


def test_64_streams_run_at_once() -> None:
    everyone = asyncio.Barrier(64)

    async def wait_for_all(_: Request) -> Step:
        await everyone.wait()
        return say("word " * 100)

    async def clients(url: str) -> list[str]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one() -> str:
                body = {"model": "m", "stream": True, "messages": [user("go")]}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    return await response.text()

            return await asyncio.gather(*(one() for _ in range(64)))

    with ModelServer(wait_for_all) as server:
        answers = asyncio.run(clients(server.url))
    assert [answer.count('"word "') for answer in answers] == [100] * 64
    assert (server.stats.max_in_flight, server.stats.in_flight) == (64, 0)


def test_a_mistake_in_a_responder_reaches_the_test() -> None:
    def wrong(_: Request) -> Step:
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"), ModelServer(wrong) as server:
        assert ask(server).status == 400


def test_the_same_seed_gives_the_same_identifiers() -> None:
    def identifiers(seed: int) -> list[str]:
        with ModelServer(follow(call("bash")), seed=seed) as server:
            whole = ask(server, stream=False).body
        return [whole["id"], whole["choices"][0]["message"]["tool_calls"][0]["id"]]

    assert identifiers(1) == identifiers(1) != identifiers(2)


def plays(responder: Misbehaving, requests: int) -> list[Step]:
    """What a responder plays to requests that arrive one after another, each in a session of its own."""

    def request(number: int) -> Request:
        body = {"messages": [user("go")], "tools": [{"function": {"name": "glob"}}]}
        return Request(number, "chat", body, {"x-session-id": str(number)}, 1, 400, 0.0)

    async def play() -> list[Step]:
        return [await responder(request(number)) for number in range(requests)]

    return asyncio.run(play())


def test_faults_come_in_the_order_of_the_seed_and_equally_often() -> None:
    honest = say("an answer", calls=(Call("bash", {"command": "ls"}),))
    first, second, other = (Misbehaving(follow(honest), seed=seed, share=1) for seed in (3, 3, 4))
    steps = plays(first, 2 * len(FAULTS))
    assert steps == plays(second, 2 * len(FAULTS)) != plays(other, 2 * len(FAULTS))
    assert first.played == Counter(dict.fromkeys(FAULTS, 2))
    assert honest not in steps


def test_a_share_of_the_answers_is_honest() -> None:
    responder = Misbehaving(follow(say("an answer")), share=0.3)
    steps = plays(responder, 100)
    assert responder.played.total() + steps.count(say("an answer")) >= 100
    assert 15 < responder.played.total() < 45


def test_a_stuck_session_stays_stuck_until_the_next_user_message() -> None:
    responder = Misbehaving(follow(say("an answer")), share=1, faults=["endless loop"])
    with ModelServer(responder) as server:
        turns = [ask(server, "go", *[ASSISTANT] * turn) for turn in range(5)]
        assert [turn.calls for turn in turns] == [[("bash", "{}")]] * 5
        responder._share = 0
        assert ask(server, "go", ASSISTANT, "are you stuck?").text == "an answer"


def test_it_runs_from_the_shell_and_logs_what_it_was_asked(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    path = tmp_path / "model.sock"
    command = [sys.executable, "-m", "stand_ins.model_server", "--unix", str(path), "--log", str(log)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("model server on")
            ask(ModelServer(unix=path), "to the log", unix=path)
        finally:
            process.terminate()
            process.wait(30)
    (line,) = log.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["body"]["messages"] == [user("to the log")]
