"""Every collaboration in a real campaign: real measurements, and the proposer without a model as every agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from conftest import TASK, write_toy
from scripted import outcome, start

from autolab.campaign.loop import CampaignRun, Event, Limits
from autolab.cli.executors import local_executor
from autolab.collaboration import Setting
from autolab.collaboration.choosing import collaboration_class, collaborations
from autolab.harness.offline import OfflineHarness
from autolab.lab import Lab
from autolab.ledger.records import TrialState
from autolab.search.population import Population

SURFACES = TASK.replace('"rates"', '"RATE"').replace('"shape"', '"SHIFT, STEPS"')


class Crash(Exception):
    """The campaign's process dies here."""


def run(lab: Lab, name: str, *, dies_after: int | None = None) -> None:
    """Work on a campaign until it has seven trials, or dies when so many have been judged."""
    judged = 0

    def hear(event: Event) -> None:
        nonlocal judged
        judged += event.kind in ("judged", "promoted")
        if judged == dies_after:
            raise Crash

    setting = Setting(lab.task, lab.ledger, lab.campaign.id, seed=0, agents=3)
    work = CampaignRun(
        lab,
        OfflineHarness(lab.task, 0),
        local_executor(lab, 2),
        Limits(trials=7),
        hear,
        collaboration=collaboration_class(name)(setting),
        population=Population(lab.ledger, lab.campaign, lab.task, "auto", 0),
    )
    asyncio.run(work.run())


@pytest.mark.slow
@pytest.mark.parametrize("name", collaborations())
def test_a_campaign_whose_process_died_goes_on_as_if_it_had_not(tmp_path: Path, name: str) -> None:
    whole, parts = (start(write_toy(tmp_path / name, task=SURFACES)) for name in ("whole", "parts"))
    run(whole, name)
    with pytest.raises(Crash):
        run(parts, name, dies_after=3)
    run(parts, name)
    assert outcome(whole) == outcome(parts)
    ended = list(whole.ledger.sequence(whole.campaign.id))
    assert [trial.ordinal for trial in ended] == list(range(8))
    assert all(trial.state is TrialState.DONE for trial in ended)
