"""HF Jobs as they are: look, list, read logs, cancel; what each has cost and can still cost.

A job gets no token and no secret. Its log is written by the code that ran in it, can be cut short without
an error, and is for people; no number is ever taken from it.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.connection import Unavailable, explained
from autolab.hub.jobs.flavors import Flavor, hardware
from autolab.hub.leaks import redact
from autolab.hub.untrusted import clean, marked, one_line
from autolab.ledger.views import timestamp

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

OURS = {"made-by": "autolab"}
LAUNCH_LABEL = "launch"
MOST_LABEL = "most-usd-micro"  # what the whole of its time costs, in millionths of a dollar
UNFINISHED = ("SCHEDULING", "RUNNING")
TERMINAL = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
MOST_LISTED = 1000
DEFAULT_SECONDS = 30 * 60  # the Hub's time limit for a job that was launched without one
LOG_LIMIT = 3_300


@dataclass(frozen=True)
class Job:
    """What the Hub says of a job. It has no exit code; the costs are ours: time times price.

    `cost_usd` is up to now, `most_usd` what it comes to at its time limit, or the cost once it has ended;
    both are None where the price is unknown.
    """

    id: str
    stage: str
    message: str
    flavor: str
    labels: dict[str, str]
    command: str
    created_at: str
    running_seconds: float
    cost_usd: float | None
    most_usd: float | None

    @property
    def ended(self) -> bool:
        """Whether it will cost no more."""
        return self.stage in TERMINAL


@dataclass(frozen=True)
class Listing:
    """Jobs, newest first; `more` says that there are others which were not read."""

    jobs: list[Job]
    more: bool


def status(api: HfApi, owner: str, job: str) -> Job:
    """One job. Raises LabError if there is none of that id."""
    name = _job_id(job)
    flavors = prices(api)
    with explained(f"job {job}"):
        return job_of(api.inspect_job(job_id=name, namespace=owner), flavors)


def prices(api: HfApi) -> list[Flavor]:
    """All hardware, or none where the Hub does not tell: to look and to cancel must not depend on prices."""
    try:
        return hardware(api)
    except LabError:
        return []


def listed(
    api: HfApi,
    owner: str,
    labels: Mapping[str, str] | None = None,
    *,
    stages: Sequence[str] = (),
    since: float = 0.0,
    flavors: Sequence[Flavor] | None = None,
) -> Listing:
    """The jobs that Autolab launched, the newest 1000 at most: with these labels, in one of these stages, made
    at or after `since` (seconds since 1970). Priced by `flavors`, or else by what the Hub asks now."""
    flavors = hardware(api) if flavors is None else flavors
    wanted = {**OURS, **as_labels(labels or {})}
    with explained(f"the jobs of {owner}"):
        rows = api.list_jobs(namespace=owner, labels=wanted, status=list(stages) or None)
        found = list(itertools.islice(rows, MOST_LISTED + 1))
    read = found[:MOST_LISTED]
    in_time = [info for info in read if not info.created_at or info.created_at.timestamp() >= since]
    return Listing([job_of(info, flavors) for info in in_time], len(found) > len(read) == len(in_time))


def logs(api: HfApi, owner: str, job: str, tail: int = 50) -> list[str]:
    """The last lines of a job's log as far as the Hub has them; a running job takes five seconds to answer."""
    if not 1 <= tail <= 10_000:
        raise LabError("is not from 1 to 10000", where="--tail", mend="such as 50")
    name = _job_id(job)
    with explained(f"the log of job {name}"):
        return list(api.fetch_job_logs(job_id=name, namespace=owner, tail=tail))


def cancel(api: HfApi, owner: str, job: str, *, lab: str = "", spare_measurements: bool = False) -> Job:
    """Cancel a job that Autolab launched. Raises LabError for anybody else's, and for another lab's than `lab`.

    The Hub may take a moment: the job that comes back may not have ended yet. `spare_measurements` leaves a
    campaign's own jobs alone: a campaign pays for its measurements again.
    """
    found = status(api, owner, job)
    where = f"job {job}"
    if any(found.labels.get(name) != value for name, value in OURS.items()):
        raise LabError("was not launched by Autolab", where=where, mend=f"`hf jobs cancel {job}`")
    if lab and found.labels.get("lab", lab) != lab:
        raise LabError(
            "was launched by another lab", where=where, mend=f"ask there, or `hf jobs cancel {job}`"
        )
    if spare_measurements and "measurement" in found.labels:
        raise LabError(
            "is a campaign's own measurement",
            where=where,
            mend="a person ends a campaign with `autolab stop`",
        )
    if not found.ended:
        end(api, owner, found.id)
    return status(api, owner, job)


def end(api: HfApi, owner: str, job: str) -> None:
    """Ask the Hub to end a job; asked again where the answer is lost, for to cancel twice does no harm.

    A job that ended by itself meanwhile is no error. Raises LabError.
    """
    pauses = [1.0, 3.0]
    while True:
        try:
            with explained(f"job {job}"):
                api.cancel_job(job_id=job, namespace=owner)
            return
        except Unavailable:
            if not pauses:
                raise
            time.sleep(pauses.pop(0))
        except LabError:
            with explained(f"job {job}"):
                if stage_of(api.inspect_job(job_id=job, namespace=owner)) in TERMINAL:
                    return
            raise


# what the Hub says, in our words --------------------------------------------------------------------


def job_of(info: JobInfo, flavors: Sequence[Flavor]) -> Job:
    """A job with its costs."""
    return Job(
        id=str(info.id),
        stage=stage_of(info),
        message=str(info.status.message or ""),
        flavor=_flavor(info),
        labels=_labels(info),
        command=redact(" ".join([*(info.command or []), *(info.arguments or [])])),
        created_at=timestamp(info.created_at.timestamp()) if info.created_at else "",
        running_seconds=billed_seconds(info),
        cost_usd=job_cost(info, flavors),
        most_usd=most_cost(info, flavors),
    )


def stage_of(info: JobInfo) -> str:
    """One of UNFINISHED or TERMINAL, or what a newer Hub says."""
    stage: Any = info.status.stage
    return str(getattr(stage, "value", stage))


def billed_seconds(info: JobInfo) -> float:
    """For how long a job has been paid for; 0 until it has a machine, and never 0 from then on.

    The Hub's two times are exact to the millisecond; while a job runs there are only whole seconds.
    """
    if info.started_at and info.finished_at:
        seconds = round((info.finished_at - info.started_at).total_seconds(), 3)
    elif info.durations and info.durations.running_secs is not None:
        seconds = float(info.durations.running_secs)
    elif info.started_at and stage_of(info) not in TERMINAL:
        seconds = time.time() - info.started_at.timestamp()
    else:
        return 0.0
    return max(seconds, 0.001)


def job_cost(info: JobInfo, flavors: Sequence[Flavor]) -> float | None:
    """What a job has cost up to now, USD; None if nobody knows its price."""
    flavor = _known(info, flavors)
    return flavor.cost(billed_seconds(info)) if flavor else None


def most_cost(info: JobInfo, flavors: Sequence[Flavor]) -> float | None:
    """What a job can come to, USD: its cost once it has ended, till then what was noted when it was launched.

    The Hub does not tell a job's time limit; where nothing was noted, it is taken for the Hub's default.
    """
    flavor, noted = _known(info, flavors), _labels(info).get(MOST_LABEL, "")
    cost = job_cost(info, flavors)
    if stage_of(info) in TERMINAL and cost is not None:
        return cost
    if re.fullmatch(r"[0-9]{1,15}", noted):
        return max(int(noted) / 1e6, cost or 0.0)
    return flavor.cost(max(DEFAULT_SECONDS, billed_seconds(info))) if flavor else None


def label(text: str) -> str:
    """The text as the Hub lets a label be: letters, digits, `-` and `_`, at most 100 characters."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)[:100]


def most_label(usd: float) -> str:
    """The value of the label that notes what a job can come to."""
    return str(round(usd * 1e6))


def as_labels(values: Mapping[str, str]) -> dict[str, str]:
    """The labels that have a value, as the Hub lets them be."""
    return {name: label(value) for name, value in values.items() if value}


# what people and models get to see ------------------------------------------------------------------


def show_job(job: Job) -> str:
    """One line for a job."""
    hidden = (*OURS, LAUNCH_LABEL, MOST_LABEL, "name", "key")
    shown = {name: value for name, value in job.labels.items() if name not in hidden}
    values = " ".join(f"{name}={value}" for name, value in sorted(shown.items()))
    parts = [job.id, job.stage, job.flavor, f"{job.running_seconds:.0f} s", _costs(job), job.created_at,
             one_line(values, 200), one_line(job.message, 100), one_line(job.command, 80)]  # fmt: skip
    return "  ".join(part for part in parts if part)


def show_listing(listing: Listing) -> str:
    """How many jobs there are."""
    going = sum(not job.ended for job in listing.jobs)
    count = len(listing.jobs)
    newest = "the newest " if listing.more else ""
    return f"{newest}{count} job{'' if count == 1 else 's'} of Autolab, {going} not finished"


def plain_log(lines: Sequence[str]) -> str:
    """A log without control characters and without anything that looks like a token."""
    return clean(redact("\n".join(lines)))


def show_log(job: str, lines: Sequence[str]) -> str:
    """The end of a log for a model: marked as untrusted."""
    if not lines:
        return ""
    text = plain_log(lines)
    if len(text) > LOG_LIMIT:
        text = "… " + text[-LOG_LIMIT:]
    return marked(f"log of job {job}", text)


def _costs(job: Job) -> str:
    if job.cost_usd is None:
        return "cost unknown"
    most = "" if job.ended or job.most_usd is None else f" of ${job.most_usd:.4f} at most"
    return f"${job.cost_usd:.4f}{most}"


def _known(info: JobInfo, flavors: Sequence[Flavor]) -> Flavor | None:
    return next((flavor for flavor in flavors if flavor.name == _flavor(info)), None)


def _flavor(info: JobInfo) -> str:
    flavor: Any = info.flavor
    return str(getattr(flavor, "value", flavor) or "")


def _labels(info: JobInfo) -> dict[str, str]:
    return {str(name): str(value) for name, value in (info.labels or {}).items()}


def _job_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{24}", text):
        raise LabError(f"{text[:40]!r} is not the id of a job", mend="the list of jobs names them")
    return text
