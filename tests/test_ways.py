"""How a campaign searches is remembered, once it was possible, and what nobody would hear is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_toy
from scripted import search

from autolab.cli.main import cli
from autolab.cli.ways import Ways, first_assignments
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.task import load_task


def test_agents_with_a_model_work_as_a_swarm_from_an_archive_and_are_gated() -> None:
    chat = Ways(harness="chat").remembered({})
    assert (chat["collaboration"], chat["archive"], chat["novelty"]) == ("swarm", "auto", True)
    alone = Ways().remembered({})
    assert (alone["harness"], alone["collaboration"], alone["archive"]) == ("offline", "single", "best")
    assert alone["novelty"] is False


def test_what_was_said_holds_until_another_harness_comes() -> None:
    said = Ways(harness="chat", collaboration="team", model="a/b").remembered({})
    assert Ways(lineage="off").remembered(said) == {**said, "lineage": "off"}
    assert Ways(harness="offline").remembered(said) == Ways().remembered({})


def test_a_campaign_that_agents_were_served_in_goes_on_without_their_gate() -> None:
    assert Ways().remembered({"harness": "agents", "novelty": True}) == Ways().remembered({})


def test_a_model_needs_somebody_who_asks_it() -> None:
    with pytest.raises(LabError, match="without a model"):
        Ways(model="a/b").check({})
    Ways(harness="chat", model="a/b").check({})


def test_a_harness_that_cannot_work_is_not_remembered(toy: Path) -> None:
    lab, _, _ = search(toy, [0.6])
    lab.ledger.close()
    refused = CliRunner().invoke(cli, ["run", "-C", str(toy), "--harness", "chat", "--model", "no/where"])
    assert refused.exit_code != 0
    with open_lab(toy) as ledger:
        assert ledger.campaigns()[-1].config.get("harness", "offline") == "offline"


def test_a_dry_run_knows_what_the_first_agents_are_asked(tmp_path: Path) -> None:
    task = load_task(write_toy(tmp_path / "lab"))
    asked = first_assignments(task, Ways(harness="chat"), 3)
    assert [(one.role, one.surface) for one in asked] == [
        ("specialist", "optimizer"), ("specialist", "architecture"), ("worker", ""),
    ]  # fmt: skip
