"""A trial from an agent's side, on a real ledger, with real workspaces."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from scripted import start
from served import edit_rate, measured_toy

from autolab.campaign import agent_trial
from autolab.campaign.single import settle
from autolab.cli.executors import local_executor
from autolab.errors import LabError
from autolab.lab import Lab, attach, open_lab
from autolab.ledger.agents import add_idea, drop_idea, idea, open_workspaces, rank_idea
from autolab.ledger.records import IdeaState, Status, Trial, TrialState

PROCESSES = 8


@pytest.fixture(scope="module")
def measured_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy lab whose baseline has been measured."""
    return measured_toy(tmp_path_factory.mktemp("agent") / "toy")


@pytest.fixture
def lab(measured_lab: Path, tmp_path: Path) -> Iterator[Lab]:
    """A copy of it."""
    lab = start(shutil.copytree(measured_lab, tmp_path / "toy"))
    yield lab
    lab.ledger.close()


def opened(lab: Lab, session: str = "", **more: object) -> tuple[Trial, Path]:
    known = {"role": "worker", "agent": "worker", "hypothesis": "a higher rate", "session": session, **more}
    return agent_trial.open_for_agent(lab, **known)  # type: ignore[arg-type]


def measured(lab: Lab, trial: Trial) -> Trial:
    """The trial after its measurement."""
    done = asyncio.run(settle(lab, local_executor(lab, 2), trial))
    agent_trial.settle_ideas(lab)
    return done


def test_what_stands_in_the_workspace_is_what_is_measured(lab: Lab) -> None:
    trial, path = opened(lab)
    edit_rate(path, 0.9)
    queued = agent_trial.submit(lab, trial, expected_effect="loss near 1", sources=("2401.00001",))
    assert queued.state is TrialState.QUEUED and not path.exists()
    done = measured(lab, queued)
    assert done.verdict == "confirmed" and done.score == pytest.approx(1.0, abs=0.01)
    assert done.proposal is not None and done.proposal.sources == ("2401.00001",)
    assert done.hypothesis == "a higher rate"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: None, "nothing was changed"),
        (lambda path: edit_rate(path, "("), "train.py"),
        (
            lambda path: (path / "evaluate.py").chmod(0o644) or (path / "evaluate.py").write_text("x"),
            "protected",
        ),
        (lambda path: (path / "helper.py").write_text("x = 1"), "helper.py"),
        (lambda path: (path / "train.py").unlink(), "train.py"),
    ],
)
def test_a_refusal_leaves_the_trial_open_and_says_the_mend(lab: Lab, change: object, reason: str) -> None:
    trial, path = opened(lab)
    change(path)  # type: ignore[operator]
    found = agent_trial.check(lab, trial)
    assert found.refusal is not None and reason in found.refusal[1]
    with pytest.raises(LabError) as refused:
        agent_trial.submit(lab, trial)
    assert reason in str(refused.value) and "submit again" in refused.value.mend
    assert lab.ledger.trial(trial.number).state is TrialState.OPEN


def test_a_refused_trial_can_be_mended_and_submitted(lab: Lab) -> None:
    trial, path = opened(lab)
    edit_rate(path, "(")
    with pytest.raises(LabError):
        agent_trial.submit(lab, trial)
    edit_rate(path, 0.8)
    assert agent_trial.submit(lab, trial).state is TrialState.QUEUED


def test_a_duplicate_is_over_and_names_the_trial_that_it_repeats(lab: Lab) -> None:
    first, path = opened(lab)
    edit_rate(path, 0.9)
    agent_trial.submit(lab, first)
    second, path = opened(lab)
    edit_rate(path, "0.9  # in other words")
    done = agent_trial.submit(lab, second)
    assert done.status is Status.DUPLICATE and first.id in done.note and done.repeats == first.number


def test_only_the_session_that_opened_a_trial_may_submit_or_abandon_it(lab: Lab) -> None:
    trial, path = opened(lab, "ses_a")
    edit_rate(path, 0.9)
    with pytest.raises(LabError, match="another agent"):
        agent_trial.submit(lab, trial, session="ses_b")
    with pytest.raises(LabError, match="another agent"):
        agent_trial.abandon(lab, trial, "mine now", session="ses_b")
    assert agent_trial.submit(lab, trial, session="ses_a").state is TrialState.QUEUED


def test_a_session_has_one_open_trial_at_a_time(lab: Lab) -> None:
    trial, _ = opened(lab, "ses_a")
    with pytest.raises(LabError, match=trial.id):
        opened(lab, "ses_a")
    agent_trial.abandon(lab, trial, "no idea", session="ses_a")
    opened(lab, "ses_a")


def test_a_trial_is_found_by_its_session_or_by_where_one_stands(lab: Lab) -> None:
    trial, path = opened(lab, "ses_a")
    opened(lab, "ses_b")
    elsewhere = Path("/")
    assert agent_trial.find_open(lab, session="ses_a", directory=elsewhere).id == trial.id
    assert agent_trial.find_open(lab, session="", directory=path).id == trial.id
    assert agent_trial.workspace_at(path / "deeper" / "gone") == (lab.root, trial.id)
    with pytest.raises(LabError, match="no open trial"):
        agent_trial.find_open(lab, session="ses_c", directory=elsewhere)


def test_a_submitted_trial_cannot_be_submitted_again_or_abandoned(lab: Lab) -> None:
    trial, path = opened(lab)
    edit_rate(path, 0.9)
    agent_trial.submit(lab, trial)
    for verb in (lambda: agent_trial.submit(lab, trial), lambda: agent_trial.abandon(lab, trial, "too late")):
        with pytest.raises(LabError, match="not open"):
            verb()
    assert lab.ledger.trial(trial.number).state is TrialState.QUEUED


def test_a_trial_whose_agent_went_away_is_abandoned_when_its_lease_ends(lab: Lab) -> None:
    made = add_idea(lab.ledger, lab.campaign.id, change="raise the rate")
    trial, path = opened(lab, idea=made.number)
    assert agent_trial.abandon_expired(lab) == []
    (ended,) = agent_trial.abandon_expired(lab, now=time.time() + agent_trial.LEASE_SECONDS + 1)
    assert ended.id == trial.id and "went away" in ended.note and not path.exists()
    assert idea(lab.ledger, made.number).state is IdeaState.OPEN


def test_an_agent_that_is_heard_from_keeps_its_lease(lab: Lab) -> None:
    trial, _ = opened(lab)
    before = open_workspaces(lab.ledger, lab.campaign.id)[0].lease_until
    agent_trial.heard_from(lab, trial)
    assert open_workspaces(lab.ledger, lab.campaign.id)[0].lease_until > before


def test_an_opening_that_was_cut_short_is_made_good(lab: Lab) -> None:
    trial, path = opened(lab)
    (path / "train.py").unlink()
    (path / "evaluate.py").unlink()
    (path / ".git").unlink()
    path.rmdir()
    agent_trial.check(lab, trial)
    assert "RATE = 0.5" in (path / "train.py").read_text()


@pytest.mark.slow
def test_an_idea_is_taken_by_one_trial_and_learns_its_outcome(lab: Lab) -> None:
    good = add_idea(lab.ledger, lab.campaign.id, change="raise the rate", surface="optimizer")
    bad = add_idea(lab.ledger, lab.campaign.id, change="lower the rate")
    better, path = opened(lab, idea=good.number)
    assert better.surface == "optimizer"
    with pytest.raises(LabError, match=f"idea {good.number} is taken by trial {better.id}"):
        opened(lab, idea=good.number)
    edit_rate(path, 0.9)
    worse, other = opened(lab, idea=bad.number)
    edit_rate(other, 0.1)
    for trial in (better, worse):
        measured(lab, agent_trial.submit(lab, trial))
    assert idea(lab.ledger, good.number).state is IdeaState.ADOPTED
    assert idea(lab.ledger, bad.number).state is IdeaState.REFUTED


def test_an_open_idea_can_be_ranked_and_dropped_once(lab: Lab) -> None:
    numbers = [add_idea(lab.ledger, lab.campaign.id, change=f"change {n}").number for n in range(3)]
    assert rank_idea(lab.ledger, numbers[2], 1).rank < idea(lab.ledger, numbers[0]).rank
    drop_idea(lab.ledger, numbers[0], "too slow")
    for again in (
        lambda: drop_idea(lab.ledger, numbers[0], "twice"),
        lambda: rank_idea(lab.ledger, numbers[0], 1),
    ):
        with pytest.raises(LabError, match="dropped"):
            again()


def test_a_repair_begins_with_the_failed_edit_on_the_master_and_happens_once(lab: Lab) -> None:
    broken, path = opened(lab)
    recipe = path / "train.py"
    recipe.write_text(recipe.read_text().replace("value = RATE + SHIFT", "value = RATE + SHIFT / 0"))
    failed = measured(lab, agent_trial.submit(lab, broken))
    assert failed.status is Status.CRASH
    better, path = opened(lab)
    edit_rate(path, 0.8)
    promoted = measured(lab, agent_trial.submit(lab, better))
    with pytest.raises(LabError, match="did not fail"):
        opened(lab, start_from=promoted)
    _, path = opened(lab, hypothesis="repair", start_from=failed)
    text = (path / "train.py").read_text()
    assert "RATE = 0.8" in text and "SHIFT / 0" in text
    with pytest.raises(LabError, match="repair of"):
        opened(lab, start_from=failed)


def test_a_stopped_campaign_takes_no_more_trials_but_keeps_the_open_ones(lab: Lab) -> None:
    trial, path = opened(lab)
    edit_rate(path, 0.9)
    lab.ledger.set_campaign(lab.campaign.id, state="stopped")
    with pytest.raises(LabError, match="takes no more"):
        opened(lab)
    assert agent_trial.submit(lab, trial).state is TrialState.QUEUED


def test_an_unknown_surface_and_an_empty_hypothesis_are_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="one of: optimizer, architecture"):
        opened(lab, surface="colours")
    with pytest.raises(LabError, match="hypothesis is empty"):
        opened(lab, hypothesis=" ")
    assert lab.ledger.undone(lab.campaign.id) == []


def _try_some(root: Path, worker: int) -> list[tuple[str, str]]:
    """Open three trials and submit them, in a process of their own: each one's id and workspace."""
    found = []
    with open_lab(root) as ledger:
        mine = attach(root, ledger, ledger.campaign())
        for n in range(3):
            trial, path = opened(mine, f"ses_{worker}", hypothesis=f"{worker} {n}")
            edit_rate(path, f"0.{worker}{n}1")
            found.append((trial.id, str(path)))
            agent_trial.submit(mine, trial, session=f"ses_{worker}")
    return found


def test_many_processes_at_once_never_collide_or_lose_a_row(lab: Lab) -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("fork")) as processes:
        every = [
            pair
            for some in processes.map(_try_some, [lab.root] * PROCESSES, range(PROCESSES))
            for pair in some
        ]
    assert len({name for name, _ in every}) == len({path for _, path in every}) == 3 * PROCESSES
    rows = [trial for trial in lab.ledger.sequence(lab.campaign.id) if trial.ordinal > 0]
    assert {trial.hypothesis for trial in rows} == {f"{w} {n}" for w in range(PROCESSES) for n in range(3)}
    assert [trial.ordinal for trial in rows] == list(range(1, 3 * PROCESSES + 1))
    recipes = {lab.program(trial)["train.py"] for trial in rows if trial.state is TrialState.QUEUED}
    assert len(recipes) == 3 * PROCESSES and list((lab.state / "workspaces").iterdir()) == []
