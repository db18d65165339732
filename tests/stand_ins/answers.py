"""An answer of a scripted model in the shapes of OpenAI's chat completions."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from stand_ins.steps import Request, Step, Usage


class Answer:
    """One answer in OpenAI's shapes: whole, or as the events of a stream."""

    def __init__(self, request: Request, step: Step, randomness: random.Random) -> None:
        self.step = step
        self.text = step.text
        if step.last_tool_result:
            self.text += "\n" + (request.results[-1] if request.results else "(no tool result)")
        self.finish = step.finish or ("tool_calls" if step.calls else "stop")
        self.call_ids = [f"call_{randomness.getrandbits(48):012x}" for _ in step.calls]
        self.head = {
            "id": f"chatcmpl-{randomness.getrandbits(40):010x}",
            "object": "chat.completion.chunk" if request.stream else "chat.completion",
            "created": int(time.time()),
            "model": request.model,
        }
        # Every event but the last few is the same around its delta, and an answer may have 200,000 of them.
        around = json.dumps({**self.head, "choices": [{"index": 0, "delta": "?", "finish_reason": None}]})
        self._before, self._after = around.split('"?"')
        words = len(self.text.split()) + len(step.reasoning.split())
        spoken = words + sum(len(one.encoded) // 4 for one in step.calls)
        self.usage = step.usage or Usage(max(1, request.size // 4), max(1, spoken))

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.step.reasoning:
            message["reasoning_content"] = self.step.reasoning
        if self.step.calls:
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": one.tool, "arguments": one.encoded}}
                for one, call_id in zip(self.step.calls, self.call_ids, strict=True)
            ]
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        answer: dict[str, Any] = {**self.head, "choices": [choice]}
        return answer | ({"usage": self._usage()} if self.step.reports_usage else {})

    def deltas(self) -> Iterator[dict[str, Any]]:
        """What the events of a stream add, up to the finish reason."""
        yield {"role": "assistant", "content": ""}
        for piece in pieces(self.step.reasoning, self.step.words_per_chunk):
            yield {"reasoning_content": piece}
        for piece in pieces(self.text, self.step.words_per_chunk):
            yield {"content": piece}
        for index, (one, call_id) in enumerate(zip(self.step.calls, self.call_ids, strict=True)):
            function = {"name": one.tool, "arguments": ""}
            yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
            half = len(one.encoded) // 2
            for part in (one.encoded[:half], one.encoded[half:]):
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}

    def event(self, delta: Mapping[str, Any]) -> bytes:
        """The event that adds something."""
        return f"data: {self._before}{json.dumps(delta)}{self._after}\n\n".encode()

    def ending(self) -> list[bytes]:
        """The last events: why the answer ends and what it cost, or what is left of that by a fault."""
        step = self.step
        usage = encoded({**self.head, "choices": [], "usage": self._usage()})
        if step.stream_error:
            error = {"message": step.stream_error, "type": "server_error", "code": step.code or None}
            return [encoded({"error": error})]
        if step.cut:
            return [usage] if step.usage_before_cut else []
        choice = {"index": 0, "delta": {}, "finish_reason": self.finish}
        finish = encoded({**self.head, "choices": [choice]})
        return [finish, *([usage] if step.reports_usage else []), b"data: [DONE]\n\n"]

    def _usage(self) -> dict[str, Any]:
        usage = self.usage
        return {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }


def pieces(text: str, words: int) -> Iterator[str]:
    """Cuts a text into pieces of so many words; together they are the text again."""
    parts = re.findall(r"\S+\s*|\s+", text)
    for at in range(0, len(parts), words):
        yield "".join(parts[at : at + words])


def encoded(event: Mapping[str, Any]) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"
