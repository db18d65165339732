"""HF Jobs: what hardware costs, launch within a budget, look, read logs, cancel.

A job gets no token and no secret. Its log is written by the code that ran in it, can be cut short without
an error, and is for people; no number is ever taken from it.
"""

from __future__ import annotations

import itertools
import math
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.connection import Unavailable, explained
from autolab.hub.leaks import find_leaks, redact
from autolab.hub.untrusted import clean, marked, one_line
from autolab.ledger.views import timestamp

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

IMAGE = "python:3.12"
OURS = {"made-by": "autolab"}
LAUNCH_LABEL = "launch"
TERMINAL = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
SHOWN_JOBS, RECENT = 15, 100
LOG_LIMIT = 3_300
LONGEST = 24 * 3600  # seconds; a longer time is more likely a typing error
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PER_MINUTE = {"second": 60.0, "minute": 1.0, "hour": 1 / 60}


@dataclass(frozen=True)
class Flavor:
    """A sort of machine and its price."""

    name: str
    cpu: str
    memory: str
    accelerator: str
    usd_per_minute: float

    def cost(self, seconds: float) -> float:
        """USD for so many seconds; every minute that was begun is paid for."""
        return self.usd_per_minute * math.ceil(seconds / 60)


@dataclass(frozen=True)
class Job:
    """What the Hub says of a job. It has no exit code; `cost_usd` is ours: running time times price."""

    id: str
    stage: str
    message: str
    flavor: str
    labels: dict[str, str]
    command: str
    created_at: str
    running_seconds: float
    cost_usd: float | None


def hardware(api: HfApi) -> list[Flavor]:
    """Every flavor with its price, cheapest first."""
    with explained("the list of hardware"):
        rows = api.list_jobs_hardware()
    flavors = []
    for row in rows:
        if row.unit_label not in _PER_MINUTE:
            raise LabError(
                f"prices by the {row.unit_label!r}", where=row.name, mend="a newer Autolab may know it"
            )
        gpu = row.accelerator
        text = f"{gpu.quantity}x {gpu.model} {gpu.vram}" if gpu else ""
        price = row.unit_cost_usd * _PER_MINUTE[row.unit_label]
        flavors.append(Flavor(row.name, row.cpu, row.ram, text, price))
    return sorted(flavors, key=lambda flavor: (flavor.usd_per_minute, flavor.name))


def find_flavor(flavors: Sequence[Flavor], name: str) -> Flavor:
    """A flavor by its name. Raises LabError that names those there are."""
    for flavor in flavors:
        if flavor.name == name:
            return flavor
    known = ", ".join(flavor.name for flavor in flavors[:12])
    raise LabError(f"unknown flavor {name!r}", mend=f"one of: {known}")


def parse_duration(text: str) -> int:
    """Seconds in `90s`, `10m`, `1.5h`. Raises LabError for anything else: a number alone could be minutes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = math.ceil(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not 1 <= seconds <= LONGEST:
        raise LabError(
            f"{text!r} is not a time from 1s to 24h", where="--timeout", mend="such as 90s, 10m or 2h"
        )
    return seconds


def launch(
    api: HfApi,
    owner: str,
    command: Sequence[str],
    *,
    flavor: str,
    timeout: str,
    max_usd: float,
    image: str = IMAGE,
    labels: Mapping[str, str] | None = None,
) -> tuple[Job, float]:
    """Launch a job if the whole of its time costs at most `max_usd`; gives the job and that cost.

    Raises LabError before anything is launched for: an unknown flavor, a cost above the limit, a token in
    the command. When the answer to the launch is lost, the job is looked for by its label: nothing is
    ever launched twice.
    """
    if not command:
        raise LabError("there is no command", mend='launch … -- python -c "print(1)"')
    seconds = parse_duration(timeout)
    leaks = find_leaks("the command", "\n".join(command))
    if leaks:
        raise LabError(f"holds a secret ({leaks[0].kind})", where="the command", mend="a job gets no tokens")
    if not max_usd > 0 or not math.isfinite(max_usd):
        raise LabError("is not an amount", where="--max-usd", mend="such as 0.50")
    chosen = find_flavor(hardware(api), flavor)
    cost = chosen.cost(seconds)
    if cost > max_usd:
        affordable = int(max_usd / chosen.usd_per_minute)
        raise LabError(
            f"{flavor} for {timeout} can cost ${cost:.2f}, and --max-usd is ${max_usd:.2f}",
            mend=f"--timeout {affordable}m or less, or a cheaper flavor"
            if affordable
            else "a cheaper flavor",
        )
    ticket = uuid.uuid4().hex
    named = {**{name: label(value) for name, value in (labels or {}).items() if value}, **OURS}
    try:
        with explained(f"a job of {owner}"):
            info = api.run_job(
                image=image,
                command=list(command),
                flavor=flavor,
                timeout=seconds,
                labels={**named, LAUNCH_LABEL: ticket},
                namespace=owner,
            )
    except Unavailable as problem:
        return _job(_launched(api, owner, ticket, problem), [chosen]), cost
    return _job(info, [chosen]), cost


def status(api: HfApi, owner: str, job: str) -> Job:
    """One job. Raises LabError if there is none of that id."""
    flavors = hardware(api)
    with explained(f"job {job}"):
        return _job(api.inspect_job(job_id=_job_id(job), namespace=owner), flavors)


def recent(api: HfApi, owner: str, labels: Mapping[str, str] | None = None) -> list[Job]:
    """The jobs that Autolab launched, newest first, 100 at most."""
    flavors = hardware(api)
    wanted = {**OURS, **{name: label(value) for name, value in (labels or {}).items() if value}}
    with explained(f"the jobs of {owner}"):
        found = itertools.islice(api.list_jobs(namespace=owner, labels=wanted), RECENT)
        return [_job(info, flavors) for info in found]


def logs(api: HfApi, owner: str, job: str, tail: int = 50) -> list[str]:
    """The last lines of a job's log as far as the Hub has them; a running job takes five seconds to answer."""
    if not 1 <= tail <= 10_000:
        raise LabError("is not from 1 to 10000", where="--tail", mend="such as 50")
    with explained(f"the log of job {job}"):
        return list(api.fetch_job_logs(job_id=_job_id(job), namespace=owner, tail=tail))


def cancel(api: HfApi, owner: str, job: str) -> Job:
    """Cancel a job that Autolab launched. Raises LabError for anybody else's."""
    found = status(api, owner, job)
    if any(found.labels.get(name) != value for name, value in OURS.items()):
        raise LabError("was not launched by Autolab", where=f"job {job}", mend=f"`hf jobs cancel {job}`")
    if found.stage not in TERMINAL:
        with explained(f"job {job}"):
            api.cancel_job(job_id=found.id, namespace=owner)
    return status(api, owner, job)


def label(text: str) -> str:
    """The text as the Hub lets a label be: letters, digits, `-` and `_`, at most 100 characters."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)[:100]


# what a model gets to see ---------------------------------------------------------------------------


def show_hardware(flavors: Sequence[Flavor]) -> str:
    """One line for each flavor."""
    return "\n".join(
        f"{flavor.name:<16} ${flavor.usd_per_minute * 60:>6.2f}/h  ${flavor.usd_per_minute:.4f}/min  "
        f"{flavor.cpu}, {flavor.memory}{', ' + flavor.accelerator if flavor.accelerator else ''}"
        for flavor in flavors
    )


def show_job(job: Job) -> str:
    """One line for a job."""
    cost = f"${job.cost_usd:.4f}" if job.cost_usd is not None else "cost unknown"
    shown = {name: value for name, value in job.labels.items() if name not in (*OURS, LAUNCH_LABEL, "name")}
    labels = " ".join(f"{name}={value}" for name, value in sorted(shown.items()))
    parts = [job.id, job.stage, job.flavor, f"{job.running_seconds:.0f} s", cost, job.created_at, labels,
             one_line(job.message, 100), one_line(job.command, 80)]  # fmt: skip
    return "  ".join(part for part in parts if part)


def show_log(job: str, lines: Sequence[str]) -> str:
    """The end of a log, marked as untrusted, without anything that looks like a token."""
    if not lines:
        return ""
    text = clean(redact("\n".join(lines)))
    if len(text) > LOG_LIMIT:
        text = "… " + text[-LOG_LIMIT:]
    return marked(f"log of job {job}", text)


def _launched(api: HfApi, owner: str, ticket: str, problem: Unavailable) -> JobInfo:
    """The job whose launch was not answered, if the Hub has it. Raises the problem if it has not."""
    for pause in (0.0, 1.0, 3.0):
        time.sleep(pause)
        try:
            with explained(f"the jobs of {owner}"):
                for info in api.list_jobs(namespace=owner, labels={LAUNCH_LABEL: ticket}):
                    return info
        except Unavailable:
            raise LabError(
                "the launch was not answered, so it is unknown whether a job runs",
                where=str(problem.where),
                mend="`scripts/jobs.py status` before you launch again",
            ) from None
    raise problem


def _job(info: JobInfo, flavors: Sequence[Flavor]) -> Job:
    seconds = float((info.durations.running_secs if info.durations else None) or 0)
    prices = {flavor.name: flavor for flavor in flavors}
    flavor = str(info.flavor or "")
    return Job(
        id=str(info.id),
        stage=_stage(info),
        message=str(info.status.message or ""),
        flavor=flavor,
        labels={str(name): str(value) for name, value in (info.labels or {}).items()},
        command=redact(" ".join(info.command or [])),
        created_at=timestamp(info.created_at.timestamp()) if info.created_at else "",
        running_seconds=seconds,
        cost_usd=prices[flavor].cost(seconds) if flavor in prices else None,
    )


def _stage(info: JobInfo) -> str:
    stage: Any = info.status.stage
    return str(getattr(stage, "value", stage))


def _job_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{24}", text):
        raise LabError(f"{text[:40]!r} is not the id of a job", mend="`scripts/jobs.py status` prints them")
    return text
