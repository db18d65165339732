"""A model as agents ask it in words: `huggingface_hub.AsyncInferenceClient`, made fit for a thousand of them.

The client knows providers, routes and billing, and builds the request. Three things of it are replaced by a transport
below it, which answers every request with one whole answer:

- it never tries again: the transport asks as the gateway does, see `upstream.ask`;
- it makes typed objects of every piece of a stream and of every answer, at 0.25 ms of CPU a piece (huggingface_hub 2.4;
  28 ms for an answer of 100 pieces), and gives an empty answer where a server does not stream: it gets an empty one to
  make objects of, and the text goes beside it;
- it keeps the response of every stream, and with it the request, until the client is closed.

It would send the user's Hugging Face token to any address that is given without a key, and nothing at all where
HF_HUB_OFFLINE is set, not even to this machine: it is always given a key, and the transport asks nobody but the model.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import httpx2
from aiohttp import ClientSession
from huggingface_hub import AsyncInferenceClient, is_offline_mode, set_async_client_factory
from huggingface_hub.utils._http import default_async_client_factory

from autolab.errors import LabError
from autolab.harness.models import Model
from autolab.harness.throttle import Throttle
from autolab.harness.upstream import Patience, ask
from autolab.harness.usage import Clock, Usage

NO_KEY = "none"  # for servers that ask for none; without it the client would look for the user's token
_THOUGHT = re.compile(
    r"\A.*</think>", re.DOTALL
)  # what some servers leave in the answer of a reasoning model

Message = Mapping[str, str]  # role and content


class InferenceModel:
    """One model, what all agents found out about it, and the turns in which they ask it."""

    def __init__(
        self,
        model: Model,
        http: ClientSession,
        patience: Patience,
        *,
        stream: bool,
        spent: float,
        said: Callable[[str], None],
    ) -> None:
        address = f"{model.base_url}/chat/completions"
        host = httpx2.URL(address).host
        if is_offline_mode() and (host == "huggingface.co" or host.endswith(".huggingface.co")):
            raise LabError(
                "HF_HUB_OFFLINE is set, and this model is on the Hub",
                where=f"--model {model.name}",
                mend="unset HF_HUB_OFFLINE, or name a model that is served here (ollama/…, vllm/…, llamacpp/…)",
            )
        _own_transport()
        self.model, self.http, self.patience, self.said = model, http, patience, said
        self.throttle = Throttle(model.limits, spent)
        self.answered = False  # has it ever given an answer?
        self.silent = 0  # sessions in a row that it did not answer at all
        self.lost = ""  # why it is asked no more; an answer that was under way brings it back
        self._stream = stream
        self._client = AsyncInferenceClient(
            base_url=address, api_key=model.key or NO_KEY, timeout=patience.first_byte_seconds
        )

    async def complete(self, messages: Sequence[Message], usage: Usage, clock: Clock) -> str:
        """What the model answers, counted on `usage`; raises `upstream.ModelFailed`, TimeoutError by `clock`, or
        `throttle.NoDollars`."""
        usage.requests += 1
        call = _Call(self, usage, clock)
        known = _CALL.set(call)
        try:
            await self._client.chat_completion(
                [dict(message) for message in messages],
                model=self.model.id,
                max_tokens=self.model.output,
                # Said here and not as `stream=`: the client is to get the answer in one piece.
                extra_body={"stream": True, "stream_options": {"include_usage": True}}
                if self._stream
                else None,
            )
        finally:
            _CALL.reset(known)
        self.answered, self.silent, self.lost = True, 0, ""
        return _THOUGHT.sub("", call.text)


@dataclass
class _Call:
    at: InferenceModel
    usage: Usage
    clock: Clock
    text: str = ""


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


class _Upstream(httpx2.AsyncBaseTransport):
    """Answers requests of `InferenceModel.complete`."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _CALL.get()
        assert call is not None
        at, usage = call.at, call.usage
        body = await request.aread()
        named = {"User-Agent": request.headers["user-agent"]}

        def retried(reason: str) -> None:
            usage.retries += 1
            at.said(reason)

        answer = await ask(
            at.http, at.model, body, named, at.patience, usage.alive, retried, at.throttle, call.clock
        )
        at.throttle.spent += usage.count(at.model, answer.usage, len(body), answer.size)
        # Some servers cut a character in two halves, one in each piece; a half alone could not be sent back.
        call.text = answer.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return httpx2.Response(200, headers={"Content-Type": "application/json"}, content=b"{}")


@functools.cache
def _own_transport() -> None:
    """Give the clients of agents our transport, and leave those of others as they are."""

    def client() -> httpx2.AsyncClient:
        if _CALL.get() is None:
            return default_async_client_factory()
        return httpx2.AsyncClient(transport=_Upstream(), trust_env=False)

    set_async_client_factory(client)
