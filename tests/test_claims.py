"""Two agents never do the same at the same time, and what a killed one had claimed becomes free again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from claiming import agents_at_once, collisions, gated_lab, is_free, left_open, wait_until, wishes

from autolab.campaign import agent_trial
from autolab.errors import LabError
from autolab.lab import Lab
from autolab.ledger.agents import open_workspaces
from autolab.ledger.claims import renew_claim
from autolab.ledger.records import Status, Trial

WORDS = "warm the rate up over a tenth of the steps"


@pytest.fixture
def lab(toy: Path) -> Iterator[Lab]:
    lab = gated_lab(toy)
    yield lab
    lab.ledger.close()


def opened(lab: Lab, words: str = WORDS, **more: object) -> Trial:
    known = {"role": "worker", "agent": "a", "hypothesis": words, **more}
    return agent_trial.open_for_agent(lab, **known)[0]  # type: ignore[arg-type]


def test_a_hypothesis_is_claimed_when_its_trial_is_opened(lab: Lab) -> None:
    first = opened(lab)
    with pytest.raises(LabError, match=f"is what trial {first.id} is about, which is open"):
        opened(lab, "Over a tenth of the steps: warm the rate up!")
    assert len(lab.ledger.undone(lab.campaign.id)) == 1
    opened(lab, "cool the rate down at the end")


def test_the_same_words_on_two_surfaces_are_two_things(lab: Lab) -> None:
    opened(lab, surface="optimizer")
    opened(lab, surface="architecture")
    with pytest.raises(LabError, match="is about"):
        opened(lab, surface="optimizer")


def test_what_was_given_up_is_free_again(lab: Lab) -> None:
    agent_trial.abandon(lab, opened(lab), "no idea")
    opened(lab)


def test_a_claim_ends_with_its_lease_and_goes_on_while_its_agent_is_heard_from(lab: Lab) -> None:
    first = opened(lab)
    agent_trial.heard_from(lab, first)
    with pytest.raises(LabError, match="is about"):
        opened(lab)
    renew_claim(lab.ledger, first.number, time.time() - 1)
    opened(lab)


def test_agents_of_many_processes_never_claim_the_same_and_killed_ones_let_go(lab: Lab) -> None:
    processes = agents_at_once(lab.root, wishes(24, 8), 6, hanging=2)
    try:
        wait_until(
            lambda: len(left_open(lab)) == 8 and not any(p.is_alive() for p in processes[2:]), processes
        )
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [-9, -9, 0, 0, 0, 0]
    assert collisions(lab) == [] and lab.ledger.damage() is None
    ended = [trial for trial in lab.ledger.trials(lab.campaign.id) if trial.ordinal > 0]
    assert all(t.status is Status.DUPLICATE and lab.ledger.trial_id(t.repeats or 0) in t.note for t in ended)
    gone = left_open(lab)
    assert len(gone) == 8 == len(open_workspaces(lab.ledger, lab.campaign.id))
    assert not any(is_free(lab, trial.hypothesis) for trial in gone)
    later = time.time() + agent_trial.LEASE_SECONDS
    assert len(agent_trial.abandon_expired(lab, now=later + 1)) == 8
    assert all(is_free(lab, trial.hypothesis) for trial in gone)
