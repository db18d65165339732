"""Many agents who want the same things at once, in processes that can be killed."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from served import edit_rate

from autolab.campaign import agent_trial
from autolab.errors import LabError
from autolab.lab import Lab, attach, begin_campaign, open_lab
from autolab.ledger.records import Status, Trial, TrialState, Verdict
from autolab.search.novelty import claim_hypothesis

PROCESSES = multiprocessing.get_context("fork")
WORDINGS = ("a rate of {} gets further", "{} as the rate, since steps are few", "bolder: the rate becomes {}")


@dataclass(frozen=True)
class Wish:
    """What an agent wants to try: a rate, in its own words."""

    words: str
    rate: str


def wishes(agents: int, ideas: int) -> list[Wish]:
    """What so many agents want who have so few ideas: some share the words too, others only the edit."""
    found = []
    for agent in range(agents):
        rate = f"0.{100 + agent % ideas}"
        found.append(Wish(WORDINGS[agent // ideas % len(WORDINGS)].format(rate), rate))
    return found


def gated_lab(directory: Path) -> Lab:
    """A toy lab with a master, whose gate is on; the toy is there."""
    ledger = open_lab(directory, create=True)
    lab = begin_campaign(
        directory, ledger, name=None, profile="cpu", config={"seed": 0, "window": 4, "novelty": True}
    )
    done = ledger.finish_trial(1, Status.OK, verdict=Verdict.CONFIRMED, score=1.4, interval=(1.3, 1.5))
    ledger.promote(done, score=1.4, interval=(1.3, 1.5), gain=0.0, reason="baseline")
    return lab


def agents_at_once(root: Path, wanted: Sequence[Wish], processes: int, *, hanging: int) -> list[ForkProcess]:
    """Start so many processes that share the wishes and begin at the same moment; the first `hanging` ones open their
    trials and never hand them in."""
    barrier = PROCESSES.Barrier(processes)
    started = []
    for place in range(processes):
        values = (root, wanted[place::processes], place, place < hanging, barrier)
        started.append(PROCESSES.Process(target=_agents, args=values))
        started[-1].start()
    return started


def _agents(root: Path, wanted: Sequence[Wish], place: int, hangs: bool, barrier: Barrier) -> None:
    with open_lab(root) as ledger:
        lab = attach(root, ledger, ledger.campaign())
        barrier.wait()
        opened = [_open(lab, wish, f"{place}-{n}") for n, wish in enumerate(wanted)]
        if hangs:
            PROCESSES.Event().wait()
        for session, trial, path, rate in opened:
            edit_rate(path, rate)
            agent_trial.submit(lab, trial, session=session)


def _open(lab: Lab, wish: Wish, session: str) -> tuple[str, Trial, Path, str]:
    """Open a trial for a wish; for something of one's own if somebody is at that already."""
    try:
        trial, path = _opened(lab, wish.words, session)
        return session, trial, path, wish.rate
    except LabError as refused:
        assert re.search(r"is what trial \S+ is about, which is (open|queued)", str(refused)), refused
    rate = f"0.9{''.join(filter(str.isdigit, session)):>04}"
    trial, path = _opened(lab, f"only I, {session}, thought of {rate}", session)
    return session, trial, path, rate


def _opened(lab: Lab, words: str, session: str) -> tuple[Trial, Path]:
    return agent_trial.open_for_agent(lab, role="worker", agent="a", hypothesis=words, session=session)


def collisions(lab: Lab) -> list[str]:
    """What is claimed twice: words of trials that are under way, edits and programs of those that were accepted."""
    db, found = lab.ledger.rows, []
    for what, question in (
        ("words", "SELECT json_extract(proposal, '$.hypothesis') AS x FROM trial WHERE state != 'done'"),
        ("program", "SELECT code_hash AS x FROM trial WHERE state = 'queued'"),
        ("edit", "SELECT c.edit_hash AS x FROM claim c JOIN trial t ON t.number = c.trial WHERE t.state = 'queued'"),
    ):  # fmt: skip
        rows = db.execute(f"SELECT x, count(*) FROM ({question}) GROUP BY x HAVING count(*) > 1").fetchall()
        found += [f"{what} {row[0]}: {row[1]} times" for row in rows]
    return found


def left_open(lab: Lab) -> list[Trial]:
    """Trials whose agents have gone."""
    return [trial for trial in lab.ledger.undone(lab.campaign.id) if trial.state is TrialState.OPEN]


def is_free(lab: Lab, words: str) -> bool:
    """Whether a hypothesis could be claimed now; the ledger is as it was afterwards."""
    try:
        with lab.ledger.transaction():
            trial = lab.ledger.trial(lab.open_trial(role="worker", agent="a").number)
            refused = claim_hypothesis(lab.ledger, trial, words, time.time() + 60)
            raise _Undo
    except _Undo:
        return refused is None


class _Undo(Exception):
    """Takes a transaction back."""


def wait_until(holds: Callable[[], bool], processes: Sequence[ForkProcess]) -> None:
    """Wait for something that the processes bring about, by looking; not longer than they live."""
    while not holds():
        if not any(process.is_alive() for process in processes):
            assert holds()
            return
        processes[0].join(0.02)
