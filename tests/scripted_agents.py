"""Scripted agents for headless campaigns: what a model does that knows the toy task, and a campaign of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripted import start
from stand_ins.model_server import ModelServer, Request, Responder, Step, call, say
from stand_ins.steps import text_of

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.agents import opencode_harness
from autolab.cli.executors import local_executor
from autolab.harness.opencode.gateway import Allowance
from autolab.harness.opencode.harness import AgentEvent, SessionLimits
from autolab.harness.opencode.seat import Waiting
from autolab.harness.opencode.upstream import Patience
from autolab.lab import Lab
from autolab.ledger.records import Trial

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
    with ModelServer(respond) as server:
        provider = {"options": {"baseURL": server.url, "apiKey": "the-key"}, "models": {"m": {}}}
        (toy / "opencode.json").write_text(json.dumps({"provider": {"local": provider}}), encoding="utf-8")
        lab = start(toy)
        executor = local_executor(lab, slots)
        harness = opencode_harness(
            lab, "local/m", workers=workers, slots=slots, minutes=1, heard=heard.append
        )
        harness.limits = limits
        work = CampaignRun(lab, harness, executor, Limits(trials=trials))

        async def run() -> str:
            async with harness:
                return await work.run()

        reason = asyncio.run(run())
    return Headless(lab, list(lab.ledger.sequence(lab.campaign.id))[1:], heard, server, work, reason)
