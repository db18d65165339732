"""What a scripted model is asked, and what it plays in answer: requests, steps, and the script in a prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

MARK = "SCRIPT:"
Outcome = Literal["", "answered", "broken", "client left"]


@dataclass(frozen=True)
class Call:
    """One tool call. `raw` is sent verbatim instead of the arguments, for arguments that are not JSON."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = None

    @property
    def encoded(self) -> str:
        """The arguments as they go over the wire."""
        return json.dumps(self.arguments) if self.raw is None else self.raw


@dataclass(frozen=True)
class Usage:
    """The tokens that an answer reports."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Step:
    """One answer of the model: text, tool calls, or a fault of its server.

    Without `usage` the server reports an estimate (four bytes of request, or one word of text, a token).
    Times are in seconds; `math.inf` means never. The faults (status, delay, stall, pings, cut, endless) are played for
    the first `times` sendings of a request, so that a client that retries gets through.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    reasoning: str = ""
    finish: str = ""  # the finish reason, where it should not follow from the calls
    usage: Usage | None = None
    reports_usage: bool = True
    last_tool_result: bool = False  # append the newest tool result to the text
    repeat: bool = False  # in a script: played again for every later turn
    words_per_chunk: int = 1
    chunk_delay: float = 0.0  # between two chunks
    delay: float = 0.0  # before the headers
    stall: float = 0.0  # in the middle of the stream
    pings: float = 0.0  # between signs of life without a word, in place of the rest, for ever
    cut: Literal["", "end", "reset"] = ""  # stops half-way: a body that just ends, or a lost connection
    usage_before_cut: bool = False
    endless: bool = False  # the first half is streamed again and again
    stream_error: str = ""  # an error object in the middle of the stream, then its end
    status: int = 200
    message: str = ""
    code: str = ""
    retry_after: float | None = None
    times: float = math.inf

    @property
    def without_faults(self) -> Step:
        """The same answer from a server in good health."""
        return replace(
            self, delay=0.0, stall=0.0, pings=0.0, cut="", endless=False, stream_error="", status=200
        )


@dataclass
class Request:
    """One chat request as the server saw it."""

    number: int  # of arrival, from 1
    kind: Literal["chat", "title", "summary"]  # the last two are a client's own housekeeping
    body: Mapping[str, Any]
    headers: Mapping[str, str]  # names in lower case
    attempt: int  # how often this very request of this session was sent, from 1
    size: int  # bytes of the body
    at: float  # time.monotonic()
    step: Step | None = None  # what was played
    outcome: Outcome = ""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The conversation."""
        messages: Sequence[Mapping[str, Any]] = self.body.get("messages") or ()
        return messages

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.body.get("stream"))

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools on offer."""
        return tuple(str(tool.get("function", {}).get("name", "")) for tool in self.body.get("tools") or ())

    @property
    def system(self) -> str:
        """The system prompt."""
        return "\n".join(text_of(message) for message in self.messages if message.get("role") == "system")

    @property
    def prompt(self) -> str:
        """The newest user message."""
        at = self._newest_user()
        return text_of(self.messages[at]) if at >= 0 else ""

    @property
    def turn(self) -> int:
        """How many turns the assistant has had since the newest user message."""
        return assistant_turns(self.messages[self._newest_user() + 1 :])

    @property
    def results(self) -> tuple[str, ...]:
        """The tool results since the newest user message, oldest first."""
        since = self.messages[self._newest_user() + 1 :]
        return tuple(text_of(message) for message in since if message.get("role") == "tool")

    @property
    def session(self) -> str:
        """The client's session, where it says (OpenCode does)."""
        return self.headers.get("x-session-id", "")

    @property
    def parent_session(self) -> str:
        """The session that started this one, where the client says."""
        return self.headers.get("x-parent-session-id", "")

    def _newest_user(self) -> int:
        return max(
            (n for n, message in enumerate(self.messages) if message.get("role") == "user"), default=-1
        )


# Decides what to play; None leaves it to the script in the prompt. It is called in the server's thread,
# one request at a time, so it needs no lock and must not block; one that waits is a coroutine function.
Responder = Callable[[Request], Step | Awaitable[Step | None] | None]

MadeStep = Callable[[Request], Step]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whether it is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


def assistant_turns(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many of the messages are the assistant's."""
    return sum(message.get("role") == "assistant" for message in messages)


def say(text: str, **more: Any) -> Step:
    """A final answer."""
    return Step(text=text, **more)


def call(tool: str, **arguments: Any) -> Step:
    """A turn with one tool call."""
    return Step(calls=(Call(tool, arguments),))


def together(*steps: Step) -> Step:
    """One turn with the texts and the tool calls of several steps: parallel calls."""
    calls = tuple(one for step in steps for one in step.calls)
    return Step(text="".join(step.text for step in steps), calls=calls)


def context_overflow(limit: int, wanted: int) -> Step:
    """The answer to a request that does not fit into the context, as OpenAI and vLLM word it."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in "
        f"{wanted} tokens. Please reduce the length of the messages."
    )
    return Step(status=400, message=message, code="context_length_exceeded")


def follow(*steps: Step | MadeStep) -> Responder:
    """A responder that plays the n-th step on the n-th turn; a function makes its step from the request.

    A turn is an assistant's message since the newest user message.
    """

    return lambda request: step_at(steps, request.turn, request)


def by_system(roles: Mapping[str, Responder]) -> Responder:
    """A responder that lets the first role speak whose phrase is in the system prompt; None if none is."""

    def respond(request: Request) -> Step | Awaitable[Step | None] | None:
        system = request.system
        for phrase, role in roles.items():
            if phrase in system:
                return role(request)
        return None

    return respond


def scripted(request: Request) -> Step:
    """Plays the newest script in the conversation's user messages; says "ok" where there is none.

    A script is `SCRIPT:` and a JSON list of steps (see `step_from_json`). Step n is played on the n-th
    turn after its message, so any number of sessions and subagents run at once without any state here.
    """
    for at in range(len(request.messages) - 1, -1, -1):
        message = request.messages[at]
        if message.get("role") == "user" and MARK in (text := text_of(message)):
            try:
                steps = steps_from_json(text[text.index(MARK) + len(MARK) :])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                return Step(status=400, message=f"bad script: {error!r}", code="bad_script")
            return step_at(steps, assistant_turns(request.messages[at + 1 :]), request)
    return say("ok")


def step_at(steps: Sequence[Step | MadeStep], turn: int, request: Request) -> Step:
    """The step for a turn: the one of its number, or an earlier one that repeats, or a word that there is none."""
    repeated = next((step for step in steps[:turn] if isinstance(step, Step) and step.repeat), None)
    if repeated is not None:
        return repeated
    step = steps[turn] if turn < len(steps) else say("script exhausted")
    return step if isinstance(step, Step) else step(request)


def steps_from_json(text: str) -> list[Step]:
    """The steps of the JSON list at the start of a text; what follows it is ignored. ValueError if bad."""
    loaded, _ = json.JSONDecoder().raw_decode(text.lstrip())
    if not isinstance(loaded, list):
        raise ValueError("a script is a list of steps")
    return [step_from_json(step) for step in loaded]


def step_from_json(given: Mapping[str, Any]) -> Step:
    """A step as a script writes it; ValueError at a key that no step has.

    Keys: `tool` and `args` (or `raw_args`, sent verbatim) for one call, `tools` for a list of such calls,
    `usage` {"prompt_tokens", "completion_tokens"} or null to report none, `cut` as true or its name,
    and all other fields of `Step` by name.
    """
    more = dict(given)
    calls = more.pop("tools", None) or []
    if "tool" in more:
        calls = [{key: more.pop(key) for key in ("tool", "args", "raw_args") if key in more}, *calls]
    step: dict[str, Any] = {
        "calls": tuple(Call(one["tool"], one.get("args", {}), one.get("raw_args")) for one in calls)
    }
    if "usage" in more:
        usage = more.pop("usage")
        step["reports_usage"] = usage is not None
        step["usage"] = usage and Usage(usage.get("prompt_tokens", 100), usage.get("completion_tokens", 10))
    if more.get("cut") is True:
        more["cut"] = "end"
    known = {one.name for one in fields(Step)} - {"calls", "reports_usage"}
    if unknown := sorted(set(more) - known):
        raise ValueError(f"a step has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return Step(**step, **more)
