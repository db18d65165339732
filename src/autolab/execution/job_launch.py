"""One launch: what a job is told, what it has mounted, how it is named, and that it happens once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.execution.bundle import evaluator_stage
from autolab.execution.job_store import BUNDLE, Packed, ensure_bucket
from autolab.hub.connection import connect, explained
from autolab.hub.jobs.flavors import Flavor, find_flavor, hardware
from autolab.hub.jobs.launching import launch_once, launched
from autolab.hub.jobs.listing import as_labels
from autolab.ledger.jobs import CloudJob
from autolab.ledger.records import Measurement, Trial
from autolab.task import Budget

if TYPE_CHECKING:
    from huggingface_hub import JobInfo, Volume

MOUNT = "/autolab"
SLACK_SECONDS = 300  # of a job's time limit, for starting, copying data and handing back
INSTALL_SECONDS = 600  # more of it where packages are installed first
END_SECONDS = 30  # that the Hub may take to end a job whose time is over; they are paid for as well
LONGER_EVALUATION = 4  # every stage but the first looks at more, and may take longer; see evaluation.py
_INSTALL = (
    "set -e; if command -v uv >/dev/null; then uv venv -q /tmp/lab; uv pip install -q --python /tmp/lab/bin/python"
    ' "$@"; else python3 -m venv /tmp/lab; /tmp/lab/bin/pip install -q "$@"; fi; exec /tmp/lab/bin/python '
)


@dataclass(frozen=True)
class JobSettings:
    """Where a campaign's jobs run and what they may cost. `data_repo` holds prepared data, `bucket` the rest."""

    flavor: str
    namespace: str
    bucket: str
    data_repo: str
    image: str
    packages: tuple[str, ...]
    queue_seconds: float = 900.0  # in SCHEDULING, after which a job is cancelled and tried again
    poll_seconds: float = 5.0

    @property
    def hardware(self) -> str:
        """What scores depend on, for the comparability key."""
        return " ".join(["hf-jobs", self.flavor, self.image, *self.packages])


@dataclass(frozen=True)
class Launch:
    """Everything about one launch. `runner` is the folder of the runner's files in the bucket, `data` the volume of
    prepared data with the SHA-256 of its manifest, if the task has any."""

    job: CloudJob
    packed: Packed
    runner: str
    data: tuple[Volume, str] | None
    timeout: int
    labels: dict[str, str]


def timeout_seconds(budget: Budget, stage: str, packages: Sequence[str]) -> int:
    """For how long a job may run: all limits of the measurement, and what comes before and after."""
    evaluation = budget.eval_seconds * (1 if evaluator_stage(stage) == "screen" else LONGER_EVALUATION)
    more = INSTALL_SECONDS if packages else 0
    return math.ceil(budget.startup_seconds + budget.wall_seconds + evaluation) + SLACK_SECONDS + more


def most_usd(flavor: Flavor, timeout: int) -> float:
    """What a job with this time limit can cost."""
    return flavor.cost(timeout + END_SECONDS)


def labels_for(trial: Trial, measurement: Measurement, lab: str, key: str) -> dict[str, str]:
    """How the Hub's list of jobs names a launch."""
    return as_labels({
        "lab": lab, "campaign": trial.campaign, "trial": trial.id, "surface": trial.surface, "key": key,
        "stage": measurement.stage, "attempt": str(measurement.attempt), "measurement": measurement.id,
    })  # fmt: skip


def launch_or_find(settings: JobSettings, launch: Launch, *, fresh: bool) -> JobInfo:
    """The job of a ticket: the one that is there already, or a new one. `fresh` says that nobody can have tried.

    Raises Unavailable if it is unknown whether the launch was heard; to call again is safe. Raises LabError.
    """
    api, ticket = connect(seconds=math.inf), launch.job.ticket
    if not fresh and (known := launched(api, settings.namespace, ticket)):
        return known[0]
    return launch_once(
        api, settings.namespace, ticket, launch.labels, most_usd=launch.job.most_usd, image=settings.image,
        command=command(settings, launch), flavor=settings.flavor, timeout=launch.timeout,
        volumes=volumes(settings, launch),
    )  # fmt: skip


def command(settings: JobSettings, launch: Launch) -> list[str]:
    """What runs in the container: the runner's remote side, after the packages that the image lacks."""
    words = [f"{MOUNT}/runner/remote.py", "--ticket", launch.job.ticket, "--out", f"{MOUNT}/out"]
    words += ["--bundle", f"{MOUNT}/bundle/{BUNDLE}", "--sha256", launch.packed.sha256]
    if launch.data is not None:
        words += ["--data", f"{MOUNT}/data", "--manifest", launch.data[1]]
    if not settings.packages:
        return ["python", *words]
    return ["sh", "-c", _INSTALL + " ".join(words), "install", *settings.packages]


def volumes(settings: JobSettings, launch: Launch) -> list[Volume]:
    """What a job has mounted: everything read-only but the one folder for what it leaves behind."""
    from huggingface_hub import Volume

    def folder(name: str, path: str, *, read_only: bool = True) -> Volume:
        return Volume(
            type="bucket",
            source=settings.bucket,
            mount_path=f"{MOUNT}/{name}",
            path=path,
            read_only=read_only,
        )

    mounted = [folder("runner", launch.runner), folder("bundle", launch.packed.folder)]
    mounted.append(folder("out", f"out/{launch.job.ticket}", read_only=False))
    return [*mounted, launch.data[0]] if launch.data else mounted


def try_account(settings: JobSettings, budget: Budget, limit_usd: float | None) -> Flavor:
    """The flavor with its price, when jobs can be launched there.

    Raises LabError, one line, for what would keep every job from starting: no token, a wrong namespace, an unknown
    flavor, a public bucket, a job that costs more than the whole budget.
    """
    api = connect()
    flavor = find_flavor(hardware(api), settings.flavor)
    ensure_bucket(api, settings.bucket)
    with explained(f"the jobs of {settings.namespace}"):
        next(iter(api.list_jobs(namespace=settings.namespace, status="RUNNING")), None)
    most = most_usd(flavor, timeout_seconds(budget, "screen", settings.packages))
    if limit_usd is not None and most > limit_usd:
        raise LabError(
            f"one job can cost ${most:.4g}, and ${limit_usd:g} is the budget",
            where="--max-usd",
            mend="a larger budget, a cheaper flavor, or shorter limits in task.yaml",
        )
    return flavor
