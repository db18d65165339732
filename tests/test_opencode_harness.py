"""Headless agents: real OpenCode in a sandbox, a scripted model, a real campaign on the toy task."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from open_code import needs_opencode
from scripted_agents import QUICK, headless, set_rate, trial_of, with_harness, workspace_of
from stand_ins.model_server import ModelServer, Request, Step, call, say
from stand_ins.steps import text_of
from strays import left_over

from autolab.errors import LabError
from autolab.harness.opencode.harness import OpenCodeHarness
from autolab.lab import Lab
from autolab.ledger.agents import cost_by_role, sessions

pytestmark = needs_opencode


def test_agents_propose_and_the_lab_measures_judges_and_counts(toy: Path) -> None:
    values = {2: 0.7, 3: 0.2, 4: 0.2}
    done = headless(toy, lambda r: set_rate(values[trial_of(r)])(r), trials=3)
    lab, trials = done.lab, done.trials
    assert [(t.status, t.verdict) for t in trials[:2]] == [("ok", "confirmed"), ("ok", "worse")]
    assert trials[2].status == "duplicate" and trials[1].id in trials[2].note
    assert trials[0].hypothesis == "a rate of 0.7 fits better"
    assert trials[0].proposal is not None and trials[0].proposal.sources == ("1412.6980",)
    assert trials[0].proposal.tokens > 0
    assert [t.role for t in trials] == ["worker"] * 3
    found = sessions(lab.ledger, lab.campaign.id)
    assert [s.outcome for s in found] == ["answered", "answered", "no_answer"]
    assert sum(int(str(row["sessions"])) for row in cost_by_role(lab.ledger, lab.campaign.id)) == 3
    assert any(event.kind == "tool" and event.text == "edit train.py" for event in done.heard)
    assert all(r.headers["authorization"] == "Bearer the-key" for r in done.server.requests)
    assert left_over(toy) == {}


def test_what_agents_do_wrong_ends_one_trial_and_is_labelled(toy: Path) -> None:
    """One campaign, two agents, every trial another misdeed."""
    asked: dict[int, int] = {}

    def agent(request: Request) -> Step:
        trial = trial_of(request)
        first = sum(m.get("role") == "user" for m in request.messages) == 1
        folder = workspace_of(request)
        if trial == 2:  # never stops calling tools
            return call("glob", pattern="*")
        if trial == 3:  # forgets to say why, and mends it when told
            step = set_rate(0.6)(request)
            return say("All done!") if step.text and first else step
        if trial == 4:  # changes nothing, and again when told
            return say("HYPOTHESIS: it is perfect as it is")
        if trial == 5:  # tries all that it must not: each is refused, and the trial goes on
            asked[5] = asked.get(5, 0) + 1
            other = (
                folder.replace("/seats/0/", "/seats/x/")
                .replace("/seats/1/", "/seats/0/")
                .replace("/x/", "/1/")
            )
            forbidden = [
                call("edit", filePath=f"{folder}/evaluate.py", oldString="crash", newString="ok"),
                call("write", filePath=f"{other}/train.py", content="RATE = 0.9"),
                call("bash", command="rm -rf .", description="clean"),
                call("task", description="w", prompt="edit", subagent_type="worker"),
                call("read", filePath=f"{folder}/../../../ledger.sqlite"),
            ]
            return forbidden[asked[5] - 1] if asked[5] <= len(forbidden) else set_rate(0.55)(request)
        return set_rate(0.65)(request)

    done = headless(toy, agent, trials=5, workers=2)
    labels = {t.number: (t.status, t.note) for t in done.trials}
    assert labels[2][0] == "proposal_failed" and "endless: no proposal within 12 model calls" in labels[2][1]
    assert labels[3][0] == labels[5][0] == labels[6][0] == "ok", labels
    assert labels[4] == ("proposal_failed", "nothing was changed")
    feedback = [r for r in done.server.requests if trial_of(r) == 3 and "HYPOTHESIS: line" in r.prompt]
    assert feedback, "the reason was not fed back"
    last = [r for r in done.server.requests if trial_of(r) == 5][-1]
    results = [text_of(m) for m in last.messages if m.get("role") == "tool"]
    said = ("rule which prevents you", "unavailable tool", "not available")
    assert [any(word in text for word in said) for text in results[:5]] == [True] * 5, results[:5]
    assert not {"bash", "task"} & set(last.tools)
    assert not any("SQLite format" in text for text in results)


def test_a_server_that_dies_under_an_agent_is_replaced_and_the_trial_goes_on(toy: Path) -> None:
    killed: list[int] = []

    def agent(request: Request) -> Step:
        if not killed:
            servers = [pid for pid, words in left_over(toy).items() if "serve" in words]
            killed.extend(servers)
            for pid in servers:
                os.kill(pid, signal.SIGKILL)
            return Step(delay=math.inf)
        return set_rate(0.7)(request)

    done = headless(toy, agent, trials=1)
    assert killed and done.trials[0].verdict == "confirmed"
    assert [s.outcome for s in sessions(done.lab.ledger, done.lab.campaign.id)] == ["died", "answered"]


def test_a_model_without_tools_answers_with_blocks(toy: Path) -> None:
    block = "HYPOTHESIS: higher\ntrain.py\n<<<<<<< SEARCH\nRATE = 0.5\n=======\nRATE = 0.7\n>>>>>>> REPLACE"

    def model(request: Request) -> Step:
        if request.tools:
            return Step(status=400, message="m does not support tools")
        return say(block if "RATE = 0.5" in request.prompt else "I cannot see any file.")

    done = headless(toy, model, trials=1)
    assert done.trials[0].verdict == "confirmed"
    assert len(done.server.requests) == 3  # refused, asked without tools, asked with the files in the prompt


def test_an_agent_is_consulted_in_words_and_what_it_edits_goes_no_further(toy: Path) -> None:
    """It answers the first question after it edited a file, and never ends with the second."""

    def agent(request: Request) -> Step:
        if "What now?" not in request.prompt:
            return call("glob", pattern="*")
        return set_rate(0.7)(request)

    async def use(harness: OpenCodeHarness, lab: Lab) -> list[str]:
        opened = lab.open_trial(role="reviewer", agent="opencode")
        asked = [replace(opened, goal=goal) for goal in ("What now?", "What then?")]
        return [await harness.consult(ticket) for ticket in asked]

    with ModelServer(agent) as server:
        (words, nothing), lab = with_harness(toy, server, use)
    assert "HYPOTHESIS: a rate of 0.7 fits better" in words and nothing == ""
    found = sessions(lab.ledger, lab.campaign.id)
    assert [(s.role, s.outcome) for s in found] == [("reviewer", "answered"), ("reviewer", "no_answer")]


def test_a_model_that_never_answers_stops_the_campaign_in_one_line_and_loses_no_trial(toy: Path) -> None:
    with pytest.raises(
        LabError, match=r"local/m at http.*the model gives no answer: .*bad key.*check its server"
    ):
        headless(toy, lambda request: Step(status=401, message="bad key"), trials=3)
    done = headless(toy, set_rate(0.7), trials=1, limits=QUICK)
    assert [t.verdict for t in done.trials if t.verdict] == ["confirmed"]
