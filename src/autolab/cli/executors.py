"""Where a command measures: on this machine, or as HF Jobs; a campaign stays where it began."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.errors import LabError
from autolab.execution.executor import Executor, LocalExecutor
from autolab.execution.local import discover_slots
from autolab.lab import STATE_DIRECTORY, Lab
from autolab.task import load_task

if TYPE_CHECKING:
    from autolab.execution.job_launch import JobSettings

JOB_SLOTS = 4
POLL = "AUTOLAB_POLL_SECONDS"  # how often the Hub is asked about jobs; for accounts with narrow rate limits


@dataclass(frozen=True)
class Place:
    """What a person said of where to measure; None is unsaid."""

    executor: str | None = None
    flavor: str | None = None
    namespace: str | None = None
    bucket: str | None = None
    queue_minutes: float | None = None
    fresh: bool = False

    @property
    def remote(self) -> bool:
        """Whether jobs are asked for."""
        return self.executor == "hf-jobs"


HERE = Place()  # nothing was said


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where to measure; the command gets them as one `place`."""

    @click.option(
        "--executor",
        type=click.Choice(["local", "hf-jobs"]),
        help="Where trials run (default: as this campaign began; local for a new one).",
    )
    @click.option("--flavor", help="Machine of hf-jobs, such as cpu-basic; see `autolab jobs hardware`.")
    @click.option("--namespace", help="Who pays for jobs (default: the account of the token).")
    @click.option("--bucket", help="OWNER/NAME of the private bucket of jobs (default: NAMESPACE/autolab).")
    @click.option(
        "--queue-minutes",
        type=click.FloatRange(min=0, min_open=True),
        help="Give a job up that got no machine for so long (default: 15).",
    )
    @click.option(
        "--fresh", is_flag=True, help="hf-jobs: measure again what was measured and paid for before."
    )
    @functools.wraps(command)
    def placed(
        *words: Any,
        executor: str | None,
        flavor: str | None,
        namespace: str | None,
        bucket: str | None,
        queue_minutes: float | None,
        fresh: bool,
        **options: Any,
    ) -> Any:
        if executor != "hf-jobs" and executor is not None and (flavor or namespace or bucket):
            raise LabError("--flavor, --namespace and --bucket are for jobs", mend="--executor hf-jobs")
        place = Place(executor, flavor, namespace, bucket, queue_minutes, fresh)
        return command(*words, place=place, **options)

    return placed


def slot_count(root: Path, profile: str, place: Place, slots: int | None) -> int:
    """How many measurements there are at once in a new campaign. Raises LabError."""
    if place.remote:
        return slots or JOB_SLOTS
    if place.flavor:
        raise LabError("--flavor is for jobs", where="--flavor", mend="--executor hf-jobs")
    return len(discover_slots(slots, load_task(root, profile).kind))


def job_settings(root: Path, profile: str, place: Place) -> JobSettings:
    """Where the jobs of a new campaign run. Raises LabError, one line, without a token or a flavor."""
    from autolab.execution.job_launch import JobSettings
    from autolab.hub.connection import connect, namespace

    task = load_task(root, profile)
    flavor = place.flavor or task.flavor
    if not flavor:
        raise LabError(
            "no flavor is named, so nobody knows on which machine",
            mend="--flavor cpu-basic; `autolab jobs hardware`",
        )
    owner = namespace(connect(), root / STATE_DIRECTORY / "cache" / "hub", place.namespace)
    settings = JobSettings(
        flavor=flavor,
        namespace=owner,
        bucket=place.bucket or f"{owner}/autolab",
        data_repo=f"{owner}/autolab-data",
        image=task.jobs.image,
        packages=task.jobs.packages,
    )
    return _adjusted(settings, place)


def kept_settings(config: dict[str, Any], place: Place = HERE) -> JobSettings | None:
    """The settings of a campaign that runs as jobs, with what may change while it runs; None for a local one.

    Raises LabError for what may not: scores of another machine would not compare.
    """
    from autolab.execution.job_launch import JobSettings

    kept = config.get("jobs")
    if place.executor is not None and place.remote != (kept is not None):
        raise LabError(
            f"the campaign runs on {'hf-jobs' if kept else 'local'}, not {place.executor}",
            where="--executor",
            mend="`autolab run --new --executor …` starts a new campaign",
        )
    if kept is None:
        return None
    settings = JobSettings(**{**kept, "packages": tuple(kept["packages"])})
    if place.flavor not in (None, settings.flavor):
        raise LabError(
            f"the campaign runs on {settings.flavor}, not {place.flavor}",
            where="--flavor",
            mend="`autolab run --new --flavor …` starts a new campaign",
        )
    moved = {name: value for name in ("namespace", "bucket") if (value := getattr(place, name))}
    return _adjusted(dataclasses.replace(settings, **moved), place)


def executor_for(
    lab: Lab, slots: int | None, *, place: Place = HERE, limit_usd: float | None = None
) -> Executor:
    """Where a campaign measures, with so many measurements at once. For jobs the account is tried first.

    Raises LabError, one line, for what would keep every measurement from starting.
    """
    settings = kept_settings(lab.campaign.config, place)
    if settings is None:
        return local_executor(lab, slots)
    from autolab.execution.hf_jobs import HfJobsExecutor
    from autolab.execution.job_launch import try_account

    flavor = try_account(settings, lab.task.budget, limit_usd)
    return HfJobsExecutor(
        lab.ledger, lab.campaign, lab.runs, lab.task, lab.protected, lab.data, settings, flavor,
        slots=slots or JOB_SLOTS, limit_usd=limit_usd, reuse=not place.fresh,
    )  # fmt: skip


def local_executor(lab: Lab, slots: int | None = None) -> LocalExecutor:
    """This machine, with `slots` measurements at once (None: as many as it has room for). Raises LabError."""
    secret = lab.ledger.meta("secret") or ""
    return LocalExecutor(lab.runs, lab.task, lab.protected, lab.data, secret, slots)


def _adjusted(settings: JobSettings, place: Place) -> JobSettings:
    said = os.environ.get(POLL, "")
    try:
        poll = max(0.05, float(said)) if said else settings.poll_seconds
    except ValueError:
        raise LabError(f"{said!r} is no number of seconds", where=POLL, mend="such as 5") from None
    queue = 60 * place.queue_minutes if place.queue_minutes else settings.queue_seconds
    return dataclasses.replace(settings, poll_seconds=poll, queue_seconds=queue)
