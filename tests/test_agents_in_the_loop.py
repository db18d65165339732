"""The loop with agents: judged as they come, so that no slow or failing one holds up the others."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_sealed_toy
from scripted import start

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.cli.kickoff import kickoff
from autolab.cli.run import run as run_command
from autolab.errors import LabError
from autolab.harness import NoProposal, Ticket
from autolab.lab import Lab
from autolab.ledger.agents import add_session, add_workspace
from autolab.ledger.records import AgentSession, Proposal, Status, Trial, Workspace
from autolab.task import Edit


class Agents:
    """The first one is slow: it waits until all the others have been judged. The third one brings nothing."""

    name = "agents"
    ahead: int | None = 3

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.judged: list[int] = []
        self.under_way = self.most_under_way = 0
        self._others_done = asyncio.Event()

    async def consult(self, ticket: Ticket) -> str:
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if ticket.ordinal == 1:
            await self._others_done.wait()
        if ticket.ordinal == 3:
            self.under_way -= 1
            raise NoProposal(
                Status.PROPOSAL_FAILED, "said nothing", Proposal("", (), tokens=7, cost_usd=0.25)
            )
        (line,) = [line for line in ticket.parent_files["train.py"].splitlines() if line.startswith("RATE")]
        value = f"RATE = {0.1 + 0.01 * ticket.ordinal}"
        return Proposal(value, (Edit(path="train.py", search=line, replace=value),))

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        pass

    def tell(self, trial: Trial, noise_sd: float) -> None:
        self.judged.append(trial.ordinal)
        self.under_way -= trial.ordinal != 3
        if len(self.judged) == self.trials - 1:
            self._others_done.set()


def search(lab: Lab, agents: Agents, **limits: object) -> str:
    work = CampaignRun(lab, agents, local_executor(lab, 2), Limits(trials=agents.trials, **limits))  # type: ignore[arg-type]
    return asyncio.run(work.run())


def test_a_slow_agent_holds_up_nobody_and_a_failed_one_is_labelled(toy: Path) -> None:
    lab, agents = start(toy), Agents(6)
    assert search(lab, agents) == "all trials are done"
    assert agents.judged[-1] == 1 and sorted(agents.judged) == [1, 2, 3, 4, 5, 6]
    assert agents.most_under_way <= 3
    third = next(trial for trial in lab.ledger.trials() if trial.ordinal == 3)
    assert (third.status, third.note) == ("proposal_failed", "said nothing")
    assert third.proposal is not None and third.proposal.tokens == 7


@pytest.mark.slow
def test_what_two_trials_want_is_measured_once(tmp_path: Path) -> None:
    class Lucky(Agents):
        async def propose(self, ticket: Ticket) -> Proposal:
            value = f"RATE = {0.75 + 0.05 * ticket.ordinal}"
            return Proposal(value, (Edit(path="train.py", search="RATE = 0.5", replace=value),))

    lab, began = start(write_sealed_toy(tmp_path / "toy")), list[str]()
    work = CampaignRun(lab, Lucky(2), local_executor(lab, 2), Limits(trials=2))
    work.listener = lambda event: began.extend(
        [event.measurement.id] * (event.kind == "started") if event.measurement else []
    )
    assert asyncio.run(work.run()) == "all trials are done"
    assert f"{lab.ledger.trial_id(1)}-certify-0-1" in began and len(began) == len(set(began))


def test_what_failed_sessions_cost_counts_against_the_budget(toy: Path) -> None:
    assert search(start(toy), Agents(6), max_usd=0.2) == "$0.2 are spent"


def test_once_the_money_is_spent_another_run_asks_nobody(toy: Path) -> None:
    lab = start(toy)
    search(lab, Agents(0))
    lab.reserve(role="worker", agent="agents")  # what an earlier run was at
    add_session(
        lab.ledger,
        AgentSession(lab.campaign.id, 2, "worker", "agents", "x/y", cost_usd=0.3, outcome="cancelled"),
    )
    agents = Agents(6)
    assert search(lab, agents, max_usd=0.2) == "$0.2 are spent"
    assert agents.most_under_way == 0 and len(lab.ledger.undone(lab.campaign.id)) == 1


def test_what_ends_while_an_earlier_run_is_read_is_told_once(toy: Path) -> None:
    lab = start(toy)
    search(lab, Agents(0))
    for _ in range(3):  # left open by agents of a chat, to whom `autolab serve` gave workspaces
        trial = lab.reserve(role="worker", agent="person")
        add_workspace(lab.ledger, Workspace(trial.number, str(toy), "session", None, trial.created_at, 0.0))
    agents = Agents(3)
    assert search(lab, agents) == "all trials are done"
    assert sorted(agents.judged) == [1, 2, 3]


def test_an_error_that_a_person_must_mend_ends_the_run_and_keeps_its_trials_open(toy: Path) -> None:
    class Broken(Agents):
        async def propose(self, ticket: Ticket) -> Proposal:
            raise LabError("the model gives no answer", mend="start it")

    lab = start(toy)
    with pytest.raises(LabError, match="no answer"):
        search(lab, Broken(3))
    assert lab.ledger.undone(lab.campaign.id) and not [t for t in lab.ledger.trials() if t.ordinal > 0]
    agents = Agents(3)
    agents._others_done.set()
    assert search(lab, agents) == "all trials are done"
    assert sorted(agents.judged) == [1, 2, 3]


def test_a_dry_run_shows_prompts_and_starts_nothing(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = toy.parent / "opencode"
    binary.write_text("#!/bin/sh\necho 1.18.33\n", encoding="utf-8")
    binary.chmod(0o755)
    monkeypatch.setenv("AUTOLAB_OPENCODE", str(binary))
    words = ["-C", str(toy), "--harness", "opencode", "--model", "ollama/x", "--agents", "3", "--dry-run"]
    shown = CliRunner().invoke(run_command, words)
    assert shown.exit_code == 0, shown.output
    assert "ollama/x at http://127.0.0.1:11434/v1" in shown.output
    assert "specialist: optimizer" in shown.output and "minimize loss" in shown.output
    assert not (toy / ".autolab").exists()


def test_the_first_message_names_the_task_and_the_slots(toy: Path) -> None:
    shown = CliRunner().invoke(kickoff, ["-C", str(toy)])
    assert shown.exit_code == 0 and "loss" in shown.output and "optimizer" in shown.output


def test_a_candidate_that_is_measured_before_the_baseline_waits_for_it(toy: Path) -> None:
    """Four slots: three run the baseline, the fourth is free for a candidate that is quicker."""
    train = (toy / "train.py").read_text(encoding="utf-8")
    slow = train.replace(
        "    seed = int", "    import time; time.sleep(0 if RATE < 0.5 else 2)\n    seed = int"
    )
    (toy / "train.py").write_text(slow, encoding="utf-8")
    lab, agents = start(toy), Agents(2)
    agents._others_done.set()
    executor = local_executor(lab, 2)
    executor.slots = [dataclasses.replace(executor.slots[n % 2], index=n) for n in range(4)]
    assert asyncio.run(CampaignRun(lab, agents, executor, Limits(trials=2)).run()) == "all trials are done"
    assert lab.ledger.master(lab.campaign.id).gain == 0.0 and len(list(lab.ledger.trials())) == 3
