"""Every collaboration, whatever it is like: it never stalls, no trial is lost, and a resumed campaign goes on."""

from __future__ import annotations

import asyncio
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from collaborating import Play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autolab import collaboration
from autolab.collaboration import Assignment
from autolab.collaboration.choosing import collaboration_class, collaborations
from autolab.errors import LabError
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Status, TrialState

NAMES = collaborations()
FAILURES = [Status.CRASH, Status.OOM, Status.NAN, Status.PROPOSAL_FAILED, Status.TIMEOUT, Status.INFRA_ERROR]
_folders = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("plays")


def test_every_module_of_the_folder_is_a_collaboration_of_its_own_name() -> None:
    assert set(NAMES) == {"single", "subagents", "team", "swarm", "hierarchy", "routed"}
    for name in NAMES:
        assert importlib.import_module(f"{collaboration.__name__}.{name}").Collaborators.name == name


def test_an_unknown_name_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"no collaboration 'crowd' \(one of: .*swarm") as caught:
        collaboration_class("crowd")
    assert "\n" not in str(caught.value)


outcomes = st.one_of(
    st.tuples(st.just(Status.OK), st.floats(5, 15), st.booleans()),
    st.tuples(st.sampled_from(FAILURES), st.none(), st.just(False)),
)
steps = st.lists(st.tuples(st.integers(0, 99), outcomes), min_size=1, max_size=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    agents=st.integers(1, 9), window=st.integers(1, 12), steps=steps, surfaces=st.booleans(), killed=st.integers(0, 39)
)  # fmt: skip
def test_whatever_comes_of_trials_it_goes_on_and_so_does_a_resumed_campaign(
    folder: Path,
    name: str,
    agents: int,
    window: int,
    steps: list[tuple[int, tuple[Status, float | None, bool]]],
    surfaces: bool,
    killed: int,
) -> None:
    known = {} if surfaces else {"surfaces": "{}"}
    play = Play(folder / str(next(_folders)), name, agents=agents, **known)  # type: ignore[arg-type]
    for step, (pick, (status, score, promoted)) in enumerate(steps):
        opened = play.fill(window)
        asyncio.run(all_proposed(play, opened))
        waiting = play.under_way()
        play.end(waiting[pick % len(waiting)], score, status, promoted=promoted)
        following = play.collaboration.assign()
        assert following is not None or play.under_way()
        if step == killed % len(steps):
            assert play.again().assign() == following
            assert play.again(by_number=True).assign() == following
    for number in play.under_way():
        play.end(number, 9.0)
    assert play.collaboration.assign() is not None, "nothing is under way, so there is something to do"
    trials = [trial for trial in play.ledger.sequence(play.campaign) if trial.ordinal > 0]
    assert all(trial.state is TrialState.DONE and trial.status is not None for trial in trials)
    assert [trial.number for trial in trials] == list(play.asked)
    play.ledger.close()


async def all_proposed(play: Play, numbers: list[int]) -> None:
    await asyncio.gather(*(play.bring(number) for number in numbers))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sixty_four_at_once_get_a_trial_and_a_proposal_each(tmp_path: Path, name: str) -> None:
    agents = 192 if name == "team" else 64  # three agents are one team
    play = Play(tmp_path, name, agents=agents)
    opened = play.fill(64)
    assert len(opened) == 64
    brought = play.propose(*opened)
    assert all(brought) and len({one.edits for one in brought if one}) == 64
    for number in reversed(opened):
        play.end(number, 10.0 - number % 3)
    following = play.collaboration.assign()
    assert following is not None and play.again(by_number=True).assign() == following


class AtOnce(Play):
    """Agents without a model: they answer at once."""

    async def ask(self, ticket: Ticket) -> Proposal:
        """A proposal by rule."""
        self.tickets.append(ticket)
        return self.rule(ticket)

    async def consult(self, ticket: Ticket) -> str:
        """No words."""
        return ""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_where_agents_answer_at_once(tmp_path: Path, name: str) -> None:
    """Whatever waits lets slots go first, and the same seed would not give the same campaign any more."""
    play = AtOnce(tmp_path, name, agents=4)
    for step in range(30):
        number = play.open()
        assert number is not None
        with pytest.raises(StopIteration):
            play.bring(number).send(None)
        play.end(number, 10.0 - step % 7)
    assert len(play.tickets) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_trials_of_others_are_none_of_its_business(tmp_path: Path, name: str) -> None:
    play = Play(tmp_path, name)
    before = play.collaboration.assign()
    stranger = play.ledger.open_trial(
        play.campaign, role="person", agent="", surface="", parent_program=None, parent_trial=play.baseline
    )
    play.collaboration.tell(play.ledger.finish_trial(stranger.number, Status.CRASH))
    assert play.collaboration.assign() == before
    if name not in ("single", "swarm"):  # for these all trials are alike
        play.collaboration.opened(stranger, Assignment(round="another:3", part="draft"))
        assert play.collaboration.assign() == before


@pytest.mark.parametrize("name", [name for name in NAMES if name != "team"])
def test_a_campaign_that_changed_its_collaboration_still_gets_its_open_trials_proposed(
    tmp_path: Path, name: str
) -> None:
    play = Play(tmp_path, name)
    number = play.open()
    assert number is not None
    play.asked[number] = Assignment(round="another:3", part="draft")
    (proposal,) = play.propose(number)
    assert proposal is not None and len(play.tickets) == 1
