"""Launches a job within its limits, and never twice.

The launch is the one call that cannot be repeated: a lost answer may stand for a job that runs and costs. So every
launch has a label of its own, and a launch without an answer is looked for by it.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.connection import Unavailable, explained
from autolab.hub.jobs.flavors import Flavor, check_amount, find_flavor, hardware, parse_duration
from autolab.hub.jobs.listing import LAUNCH_LABEL, MOST_LABEL, OURS, Job, as_labels, job_of, most_label
from autolab.hub.jobs.spending import DAY, committed
from autolab.hub.leaks import find_leaks

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

IMAGE = "python:3.12"
LOOK_PAUSES = (0.0, 1.0, 3.0)  # seconds before each look for a launch that was not answered: lists may lag


def launch(
    api: HfApi,
    owner: str,
    command: Sequence[str],
    *,
    flavor: str,
    timeout: str,
    max_usd: float,
    lock: Path,
    budget_usd: float | None = None,
    image: str = IMAGE,
    labels: Mapping[str, str] | None = None,
) -> tuple[Job, float]:
    """Launch a job if the whole of its time costs at most `max_usd`; gives the job and that cost.

    With `budget_usd`, the jobs that Autolab launched for `owner` in the last 24 hours, those that have not
    ended at their most, and this one may cost that much together; `lock` is a file by which the launches of
    this machine wait for one another, so that no two of them spend the same rest.

    Raises LabError before anything is launched for: an unknown flavor, a cost above a limit, a token in
    the command.
    """
    if not command:
        raise LabError("there is no command", mend='launch … -- python -c "print(1)"')
    seconds = parse_duration(timeout)
    leaks = find_leaks("the command", "\n".join([*command, image]))
    if leaks:
        raise LabError(f"holds a secret ({leaks[0].kind})", where="the command", mend="a job gets no tokens")
    check_amount(max_usd, "--max-usd")
    if budget_usd is not None:
        check_amount(budget_usd, "--budget-usd")
    flavors = hardware(api)
    chosen = find_flavor(flavors, flavor)
    cost = chosen.cost(seconds)
    said = f"{flavor} for {timeout} can cost {_usd(cost)}"
    _check(chosen, flavors[0], cost, max_usd, f"{said}, and --max-usd is {_usd(max_usd)}")
    with _one_at_a_time(lock):
        if budget_usd is not None:
            spent = committed(api, owner, flavors, time.time() - DAY)
            said += f", Autolab's jobs of the last 24 hours come to {_usd(spent)}"
            said += f", and --budget-usd is {_usd(budget_usd)}"
            _check(chosen, flavors[0], cost, budget_usd - spent, said)
        info = launch_once(
            api, owner, uuid.uuid4().hex, as_labels(labels or {}), most_usd=cost,
            image=image, command=list(command), flavor=flavor, timeout=seconds,
        )  # fmt: skip
    return job_of(info, [chosen]), cost


def launch_once(
    api: HfApi, owner: str, ticket: str, labels: Mapping[str, str], *, most_usd: float, **spec: Any
) -> JobInfo:
    """Launch the job that `run_job(**spec)` describes, known by `ticket`, which no other launch may have.

    When the answer is lost, or is an error after which the job may run all the same, the job is looked for by
    its ticket. Raises Unavailable if it was not found, or the Hub cannot be asked: then `launched` tells later
    whether it was heard. Raises LabError if the Hub refused.
    """
    named = {
        "name": labels.get("measurement") or labels.get("trial", "autolab"),
        **labels,
        **OURS,
        LAUNCH_LABEL: ticket,
        MOST_LABEL: most_label(most_usd),
    }
    try:
        with explained(f"a job of {owner}"):
            return api.run_job(labels=named, namespace=owner, **spec)
    except Unavailable as problem:
        return _look_for(api, owner, ticket, problem)


def launched(api: HfApi, owner: str, ticket: str) -> list[JobInfo]:
    """The jobs that carry a ticket, the oldest first; more than one only if the Hub carried a launch out late.
    Raises LabError."""
    with explained(f"the jobs of {owner}"):
        found = api.list_jobs(namespace=owner, labels={LAUNCH_LABEL: ticket})
        return sorted(found, key=lambda info: str(info.created_at))


def _look_for(api: HfApi, owner: str, ticket: str, problem: Unavailable) -> JobInfo:
    """The job of a launch that was not answered, if the Hub has it. Raises Unavailable if it has not."""
    for pause in LOOK_PAUSES:
        time.sleep(pause)
        try:
            found = launched(api, owner, ticket)
        except Unavailable:
            raise Unavailable(
                "the launch was not answered, so it is unknown whether a job runs",
                where=str(problem.where),
                mend="look at the list of jobs before you launch again",
            ) from None
        if found:
            return found[0]
    raise Unavailable(
        f"{problem.what}, and no job was launched",
        where=str(problem.where),
        mend="look at the list of jobs, then launch again",
    )


def _check(chosen: Flavor, cheapest: Flavor, cost: float, left: float, said: str) -> None:
    """Raises LabError if a cost is more than what is left, to the millionth of a dollar."""
    if round(cost * 1e6) <= round(left * 1e6):
        return
    minutes = int(left / chosen.usd_per_minute + 1e-6)
    if minutes > 0:
        mend = f"--timeout {minutes}m or less, or a cheaper flavor"
    elif left >= cheapest.usd_per_minute:
        mend = "a cheaper flavor"
    else:
        mend = "nothing is so cheap: cancel a job that nobody waits for, or ask whoever set the limit"
    raise LabError(said, mend=mend)


def _usd(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 0.1 else f"${amount:.4f}"


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
