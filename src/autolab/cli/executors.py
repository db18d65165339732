"""Where a command measures: on this machine, or as HF Jobs; a campaign stays where it began."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
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
NAME = r"(?!\.+(?:/|$))[A-Za-z0-9._-]{1,96}"
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

    def check_local(self) -> None:
        """Raise LabError for an option that only jobs have."""
        for name in ("flavor", "namespace", "bucket", "queue_minutes", "fresh"):
            if getattr(self, name):
                option = "--" + name.replace("_", "-")
                raise LabError(
                    "is for jobs, and trials run on this machine", where=option, mend="--executor hf-jobs"
                )


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
        check_names(namespace, bucket)
        place = Place(executor, flavor or None, namespace or None, bucket or None, queue_minutes, fresh)
        return command(*words, place=place, **options)

    return placed


def check_names(namespace: str | None, bucket: str | None) -> None:
    """Raise LabError for what cannot be a name on the Hub; asked there, it would be taken for another address."""
    if namespace and not re.fullmatch(NAME, namespace):
        raise LabError(
            f"{namespace[:60]!r} is not the name of an account", where="--namespace", mend="such as alice"
        )
    if bucket and not re.fullmatch(f"{NAME}/{NAME}", bucket):
        raise LabError(f"{bucket[:60]!r} is not the name of a bucket", where="--bucket", mend="OWNER/NAME")


def slot_count(root: Path, profile: str, place: Place, slots: int | None) -> int:
    """How many measurements there are at once in a new campaign. Raises LabError."""
    if place.remote:
        return slots or JOB_SLOTS
    place.check_local()
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
        place.check_local()
        return None
    settings = JobSettings(**{**kept, "packages": tuple(kept["packages"])})
    for name in ("flavor", "namespace", "bucket"):
        was, wanted = getattr(settings, name), getattr(place, name)
        if wanted not in (None, was):
            raise LabError(
                f"the campaign has {was}, not {wanted}",
                where=f"--{name}",
                mend=f"`autolab run --new --executor hf-jobs --{name} …` starts a new campaign",
            )
    return _adjusted(settings, place)


def as_before(config: dict[str, Any], place: Place) -> Place:
    """Where to begin anew after a campaign that came to nothing: where that one was, unless something else is said."""
    settings = kept_settings(config) if place.executor is None else None
    if settings is None:
        return place
    return dataclasses.replace(
        place,
        executor="hf-jobs",
        flavor=place.flavor or settings.flavor,
        namespace=place.namespace or settings.namespace,
        bucket=place.bucket or settings.bucket,
    )


def executor_for(
    lab: Lab, slots: int | None, *, place: Place = HERE, limit_usd: float | None = None
) -> Executor:
    """Where a campaign measures, with so many measurements at once. For jobs the account is tried first, and the budget
    is the campaign's own unless another one is given.

    Raises LabError, one line, for what would keep every measurement from starting.
    """
    settings = kept_settings(lab.campaign.config, place)
    if settings is None:
        return local_executor(lab, slots)
    from autolab.execution.hf_jobs import HfJobsExecutor
    from autolab.execution.job_launch import try_account

    limit_usd = lab.campaign.config.get("max_usd") if limit_usd is None else limit_usd
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
        if not math.isfinite(poll):
            raise ValueError
    except ValueError:
        raise LabError(f"{said!r} is no number of seconds", where=POLL, mend="such as 5") from None
    if place.queue_minutes is not None and not math.isfinite(place.queue_minutes):
        raise LabError(f"{place.queue_minutes} is no limit", where="--queue-minutes", mend="such as 15")
    queue = 60 * place.queue_minutes if place.queue_minutes else settings.queue_seconds
    return dataclasses.replace(settings, poll_seconds=poll, queue_seconds=queue)
