"""Where a command measures: on this machine, as HF Jobs or on a Ray cluster; a campaign stays where it began."""

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
from autolab.execution.local import discover_slots, visible_gpus
from autolab.execution.warm.executor import WarmExecutor, can_be_warm
from autolab.lab import STATE_DIRECTORY, Lab, executor_name
from autolab.task import load_task

if TYPE_CHECKING:
    from autolab.execution.job_launch import JobSettings
    from autolab.execution.ray_cluster import RaySettings

JOB_SLOTS = 4
CLUSTER = "auto"  # the one that this machine is part of, or that RAY_ADDRESS names
NAME = r"(?!\.+(?:/|$))[A-Za-z0-9._-]{1,96}"
# What a person can say of each place; nothing of it means anything elsewhere.
OPTIONS_OF = {"hf-jobs": ("flavor", "namespace", "bucket", "queue_minutes", "fresh"), "ray": ("address",)}
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
    address: str | None = None

    @property
    def remote(self) -> bool:
        """Whether jobs are asked for."""
        return self.executor == "hf-jobs"

    @property
    def on_ray(self) -> bool:
        """Whether a Ray cluster is asked for."""
        return self.executor == "ray"

    def check(self, executor: str) -> None:
        """Raise LabError for an option that another place than this one has."""
        for other, names in OPTIONS_OF.items():
            for name in names if other != executor else ():
                if getattr(self, name):
                    raise LabError(
                        f"is for {other}, and trials run on {executor}",
                        where="--" + name.replace("_", "-"),
                        mend=f"--executor {other}",
                    )


HERE = Place()  # nothing was said


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where to measure; the command gets them as one `place`."""

    @click.option(
        "--executor",
        type=click.Choice(["local", "hf-jobs", "ray"]),
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
    @click.option(
        "--address",
        help="Of ray: ray://HOST:10001, HOST:6379, auto (the cluster of this machine), or local (starts one).",
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
        address: str | None,
        **options: Any,
    ) -> Any:
        check_names(namespace, bucket)
        place = Place(
            executor, flavor or None, namespace or None, bucket or None, queue_minutes, fresh, address or None
        )
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
    task = load_task(root, profile)
    if place.on_ray:
        from autolab.execution.ray_cluster import connect, need_of, room

        return slots or room(connect(place.address or CLUSTER), need_of(task))
    place.check("local")
    if slots is not None and can_be_warm(task):
        return slots  # more than cores keep these busy
    return len(discover_slots(slots, task.kind))


def gpus_at(place: Place) -> bool:
    """Whether there are GPUs where a new campaign measures. Raises LabError."""
    if place.remote:
        return not (place.flavor or "").startswith("cpu-")
    if place.on_ray:
        from autolab.execution.ray_cluster import connect

        return bool(connect(place.address or CLUSTER).cluster_resources().get("GPU"))
    return bool(visible_gpus())


def ray_settings(root: Path, profile: str, place: Place) -> RaySettings:
    """Where the tasks of a new campaign run. Raises LabError, one line, if no cluster answers, or none of its nodes can
    hold a measurement."""
    from autolab.execution.ray_cluster import RaySettings, connect, need_of, room, survey

    place.check("ray")
    address, need = place.address or CLUSTER, need_of(load_task(root, profile))
    ray = connect(address)
    room(ray, need)
    nodes, sandbox = survey(ray, need)
    return RaySettings(address, nodes, sandbox)


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


def kept_settings(config: dict[str, Any], place: Place = HERE) -> JobSettings | RaySettings | None:
    """The settings of a campaign that runs as jobs or on Ray, with what may change while it runs; None for a local one.

    Raises LabError for what may not: scores of another machine would not compare.
    """
    began = executor_name(config)
    if place.executor not in (None, began):
        raise LabError(
            f"the campaign runs on {began}, not {place.executor}",
            where="--executor",
            mend="`autolab run --new --executor …` starts a new campaign",
        )
    place.check(began)
    if began == "hf-jobs":
        return _kept_jobs(config["jobs"], place)
    return _kept_cluster(config["ray"], place) if began == "ray" else None


def _kept_jobs(kept: dict[str, Any], place: Place) -> JobSettings:
    from autolab.execution.job_launch import JobSettings

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


def _kept_cluster(kept: dict[str, Any], place: Place) -> RaySettings:
    """A cluster may move; what its nodes are is asked when it is connected to."""
    from autolab.execution.ray_cluster import RaySettings

    return RaySettings(place.address or kept["address"], tuple(kept["nodes"]), kept["sandbox"])


def as_before(config: dict[str, Any], place: Place) -> Place:
    """Where to begin anew after a campaign that came to nothing: where that one was, unless something else is said."""
    began = executor_name(config)
    if place.executor is not None or began == "local":
        return place
    kept, names = (
        config["jobs" if began == "hf-jobs" else "ray"],
        ("flavor", "namespace", "bucket", "address"),
    )
    wanted = {name: getattr(place, name) or kept.get(name) for name in names if name in OPTIONS_OF[began]}
    return dataclasses.replace(place, executor=began, **wanted)


def executor_for(
    lab: Lab, slots: int | None, *, place: Place = HERE, limit_usd: float | None = None
) -> Executor:
    """Where a campaign measures, with so many measurements at once. For jobs the account is tried first, and the budget
    is the campaign's own unless another one is given.

    Raises LabError, one line, for what would keep every measurement from starting.
    """
    from autolab.execution.ray_cluster import RaySettings

    settings = kept_settings(lab.campaign.config, place)
    if settings is None:
        return local_executor(lab, slots)
    if isinstance(settings, RaySettings):
        return ray_executor(lab, slots, settings)
    from autolab.execution.hf_jobs import HfJobsExecutor
    from autolab.execution.job_launch import try_account

    limit_usd = lab.campaign.config.get("max_usd") if limit_usd is None else limit_usd
    flavor = try_account(settings, lab.task.budget, limit_usd)
    return HfJobsExecutor(
        lab.ledger, lab.campaign, lab.runs, lab.task, lab.protected, lab.data, settings, flavor,
        slots=slots or JOB_SLOTS, limit_usd=limit_usd, reuse=not place.fresh,
    )  # fmt: skip


def ray_executor(lab: Lab, slots: int | None, settings: RaySettings) -> Executor:
    """The Ray cluster of a campaign, with `slots` measurements at once (None: as many as it has room for).

    Raises LabError if nobody answers, no node can hold a measurement, or all nodes are of other kinds than before.
    """
    from autolab.execution.ray_cluster import connect, need_of, room, survey
    from autolab.execution.ray_executor import RayExecutor

    ray, need = connect(settings.address), need_of(lab.task)
    most = room(ray, need)
    found, _ = survey(ray, need)
    if not set(found) & set(settings.nodes):
        raise LabError(
            f"the cluster's nodes are {' + '.join(found)}; {lab.campaign.id} began on {' + '.join(settings.nodes)}",
            where=f"--address {settings.address}",
            mend="`autolab run --new --executor ray` starts a new campaign",
        )
    config = {**lab.campaign.config, "ray": dataclasses.asdict(settings)}
    if config["ray"]["address"] != lab.campaign.config["ray"]["address"]:
        lab.ledger.set_campaign(lab.campaign.id, config=config)  # a cluster that moved is found again
    return RayExecutor(
        ray, lab.runs, lab.task, lab.protected, lab.data, lab.ledger.meta("secret") or "", need, slots=slots or most
    )  # fmt: skip


def local_executor(lab: Lab, slots: int | None = None) -> LocalExecutor | WarmExecutor:
    """This machine, with `slots` measurements at once (None: as many as it has room for), in warm processes where the
    task asks for them and there is a sandbox. Raises LabError."""
    secret = lab.ledger.meta("secret") or ""
    kind = WarmExecutor if can_be_warm(lab.task) else LocalExecutor
    return kind(lab.runs, lab.task, lab.protected, lab.data, secret, slots)


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
