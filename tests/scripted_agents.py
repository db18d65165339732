"""Scripted agents for headless campaigns: what a model does that knows the toy task, and a campaign of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scripted import start
from stand_ins.model_server import ModelServer, Request, Responder, Step, call, say
from stand_ins.steps import text_of

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.agents import opencode_harness
from autolab.cli.executors import local_executor
from autolab.harness.desk import AgentEvent
from autolab.harness.opencode.harness import OpenCodeHarness, SessionLimits
from autolab.harness.opencode.seat import Waiting
from autolab.harness.upstream import Patience
from autolab.harness.usage import Allowance
from autolab.lab import Lab
from autolab.ledger.records import Trial

Found = TypeVar("Found")

QUICK = SessionLimits(
    waiting=Waiting(wall=120, silent=40),
    allowance=Allowance(requests=12),
    outage_seconds=1,
    patience=Patience(first_byte_seconds=4, stalled_seconds=3, tries=3),
)


@dataclass
class Headless:
    """A campaign of agents that has ended."""

    lab: Lab
    trials: list[Trial]  # without the baseline
    heard: list[AgentEvent]
    server: ModelServer
    work: CampaignRun
    reason: str


def workspace_of(request: Request) -> str:
    """The folder that OpenCode tells the model it works in."""
    found = re.search(r"Working directory: (\S+)", request.system)
    assert found, request.system[-2000:]
    return found[1]


def trial_of(request: Request) -> int:
    """The number of the trial that the first message of the session names."""
    first = next(m for m in request.messages if m.get("role") == "user")
    found = re.search(r"\b[0-9a-f]{6}-(\d{4})\b", json.dumps(first["content"]))
    assert found, first
    return int(found[1])


def set_rate(value: float) -> Callable[[Request], Step]:
    """An agent that reads train.py, sets RATE, and says why."""

    def respond(request: Request) -> Step:
        path = workspace_of(request) + "/train.py"
        results = [text_of(m) for m in request.messages if m.get("role") == "tool"]
        seen = next((re.search(r"RATE = \S+", text) for text in results if "RATE = " in text), None)
        if seen is None:
            return call("read", filePath=path)
        if seen[0] != f"RATE = {value!r}" and not any("Edit applied" in text for text in results):
            return call("edit", filePath=path, oldString=seen[0], newString=f"RATE = {value!r}")
        return say(
            f"Done.\n\nHYPOTHESIS: a rate of {value} fits better\nSURFACE: optimizer\nSOURCES: 1412.6980"
        )

    return respond


def headless(
    toy: Path,
    respond: Responder,
    *,
    trials: int,
    workers: int = 1,
    slots: int = 2,
    limits: SessionLimits = QUICK,
) -> Headless:
    """Run a campaign with agents on a toy lab to its end."""
    heard: list[AgentEvent] = []

    async def search(harness: OpenCodeHarness, lab: Lab) -> tuple[CampaignRun, str]:
        work = CampaignRun(lab, harness, local_executor(lab, slots), Limits(trials=trials))
        return work, await work.run()

    with ModelServer(respond) as server:
        (work, reason), lab = with_harness(
            toy, server, search, workers=workers, slots=slots, limits=limits, heard=heard.append
        )
    return Headless(lab, list(lab.ledger.sequence(lab.campaign.id))[1:], heard, server, work, reason)


def with_harness(
    toy: Path,
    server: ModelServer,
    use: Callable[[OpenCodeHarness, Lab], Awaitable[Found]],
    *,
    workers: int = 1,
    slots: int = 2,
    limits: SessionLimits = QUICK,
    heard: Callable[[AgentEvent], None] = lambda event: None,
) -> tuple[Found, Lab]:
    """Let `use` work with the agents of a toy lab, whose model a server plays."""
    provider = {"options": {"baseURL": server.url, "apiKey": "the-key"}, "models": {"m": {}}}
    (toy / "opencode.json").write_text(json.dumps({"provider": {"local": provider}}), encoding="utf-8")
    lab = start(toy)
    harness = opencode_harness(lab, "local/m", workers=workers, slots=slots, minutes=1, heard=heard)
    harness.limits = limits

    async def run() -> Found:
        async with harness:
            return await use(harness, lab)

    return asyncio.run(run()), lab
