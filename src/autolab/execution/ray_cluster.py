"""A Ray cluster as a place to measure: connect to it, see what its nodes are, and whether they have room."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autolab.errors import LabError
from autolab.execution import ray_node
from autolab.execution.job_store import runner_files
from autolab.execution.local import visible_gpus
from autolab.task import Task

LOCAL = "local"  # the address of a cluster that is started on this machine and ends with this process
NAMESPACE = "autolab"
REACH_SECONDS = 10.0  # for a port to answer; Ray itself would try for minutes
PROBE_SECONDS = 120.0  # for every node to say what it is; a worker's start is part of it
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
STARTS = 3  # of a cluster on this machine, before it is said to be too busy
_HARMLESS = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TZ", "TMPDIR", "USER")
_NETWORK = re.compile(r"(?:ray://)?\[?([^\s/\]]+?)\]?:(\d{1,5})")


@dataclass(frozen=True)
class RaySettings:
    """Where a campaign's tasks run. `nodes` are the kinds of machines that it began on, as their runners see them;
    `sandbox` is "bubblewrap" if all of them have one."""

    address: str
    nodes: tuple[str, ...]
    sandbox: str

    @property
    def hardware(self) -> str:
        """What scores depend on, for the comparability key."""
        return "ray " + " + ".join(self.nodes)


@dataclass(frozen=True)
class Need:
    """What one measurement takes of a node; `memory` in bytes."""

    cpus: int
    gpus: int
    memory: int

    def times(self, resources: dict[str, float]) -> int:
        """How often a node with these resources has room for it."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return int(min(resources.get(name, 0) // much for name, much in wanted.items() if much))

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} core{gpus}, {self.memory / 1e9:g} GB"


def need_of(task: Task) -> Need:
    """What a measurement of the task takes: one core, as recipes are told to use, a GPU if it is of that kind, and its
    memory limit."""
    return Need(1, 1 if task.kind == "gpu" else 0, int(task.budget.memory_gb * 1e9))


def connect(address: str) -> Any:
    """The `ray` module, connected; a process has one cluster. Raises LabError, one line."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        _ask_for_a_token()  # Ray reads this when it is imported
    try:
        import ray
    except ImportError:
        raise LabError(
            "Ray is not installed", where="--executor ray", mend="pip install 'autolab[ray]'"
        ) from None
    if ray.is_initialized():
        return ray
    check_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            with _harmless_environment():
                ray.init(address=_start_here(), **quiet)
        else:
            _reach(address)
            ray.init(address=address, **quiet)
    except LabError:
        raise
    except (Exception, SystemExit) as error:  # it says in many ways that nobody answers
        said = str(error).strip().splitlines()
        if address == LOCAL:
            raise LabError(
                f"Ray does not start here: {said[0] if said else type(error).__name__}",
                where="--address local",
                mend="it has to be up within 30 s, and was not in several attempts: is this machine very busy?",
            ) from None
        raise LabError(
            f"no Ray cluster answers: {said[0] if said else type(error).__name__}",
            where=f"--address {address}",
            mend="`ray start --head` on a machine of yours, or --address local for this one; RAY_AUTH_MODE=token if it"
            " asks for its token",
        ) from None
    return ray


def _ask_for_a_token() -> None:
    """Let the cluster of this machine that is about to be started be reached with a token of its own alone."""
    with contextlib.ExitStack() as held:
        file = held.enter_context(tempfile.NamedTemporaryFile("w", prefix="autolab-ray-", suffix=".token"))
        file.write(secrets.token_hex(32))
        file.flush()
        atexit.register(held.pop_all().close)
    os.environ.update({"RAY_AUTH_MODE": "token", _TOKEN_PATH: file.name})


def _start_here() -> str:
    """Start a cluster on this machine, whose head the kernel ends with this process; its address."""
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_gpus": len(visible_gpus()),
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
    }
    # Ray gives its agents 15 s to load, whatever else this machine does (its issue 65983).
    for _ in range(STARTS - 1):
        with contextlib.suppress(Exception):
            return str(Cluster(initialize_head=True, head_node_args=node).address)
    return str(Cluster(initialize_head=True, head_node_args=node).address)


def check_address(address: str) -> None:
    """Raise LabError for what cannot be the address of a cluster."""
    if address not in (LOCAL, "auto") and not _NETWORK.fullmatch(address):
        raise LabError(
            f"{address[:60]!r} is not a cluster", where="--address", mend="ray://HOST:10001, HOST:6379, auto or local"
        )  # fmt: skip


def _reach(address: str) -> None:
    """Raise OSError if nothing listens there."""
    if found := _NETWORK.fullmatch(address):
        socket.create_connection((found[1], int(found[2])), REACH_SECONDS).close()


@contextlib.contextmanager
def _harmless_environment() -> Iterator[None]:
    """For as long as Ray starts its processes here, which pass on what they find: no token, no key."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({name: value for name, value in before.items() if _is_harmless(name)})
    try:
        yield
    finally:
        os.environ.update(before)  # what Ray has set meanwhile, that others find the cluster by, stays


def _is_harmless(name: str) -> bool:
    return name in (*_HARMLESS, _TOKEN_PATH) or (name.startswith("RAY_") and "TOKEN" not in name)


def room(ray: Any, need: Need) -> int:
    """How many measurements the whole cluster has room for at once. Raises LabError if no node can hold even one."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    count = sum(need.times(resources) for resources in alive)
    if count:
        return count
    largest = max(
        (
            f"{r.get('CPU', 0):g} cores, {r.get('GPU', 0):g} GPUs, {r.get('memory', 0) / 1e9:.3g} GB"
            for r in alive
        ),
        default="no node",
    )
    raise LabError(
        f"no node of the cluster can ever hold a measurement of {need}; there is {largest}",
        where="--executor ray",
        mend="add such a node, lower budget.memory_gb in task.yaml, or choose another profile",
    )


def survey(ray: Any, need: Need) -> tuple[tuple[str, ...], str]:
    """(kinds of the nodes with room for a measurement, their weakest sandbox); each is asked by a task of its own.
    Raises LabError if they do not answer."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name, content = runner_files()
    files = [ray.put(content)]
    asked = []
    for node in ray.nodes():
        if node["Alive"] and need.times(node["Resources"]):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = node_task(ray, ray_node.describe).options(num_cpus=0, scheduling_strategy=there)
            asked.append(task.remote(files, digest_of(name), gpu=need.gpus > 0))
    try:
        found: Sequence[dict[str, str]] = ray.get(asked, timeout=PROBE_SECONDS)
    except ray.exceptions.RayError as error:
        raise LabError(
            f"a node cannot be measured on: {explained(error)}",
            where="--executor ray",
            mend="the same Python and Ray on all nodes and here; `ray status`",
        ) from None
    weakest = "none" if any(each["sandbox"] == "none" for each in found) else "bubblewrap"
    return tuple(sorted({each["machine"] for each in found})), weakest


def node_task(ray: Any, function: Any) -> Any:
    """A function of ray_node as a task that the lab, not Ray, tries again; nodes need no autolab."""
    ray.cloudpickle.register_pickle_by_value(ray_node)
    return ray.remote(max_retries=0)(function)


def digest_of(runner: str) -> str:
    """The hash in the name of the runner's folder."""
    return runner.rpartition("/")[2]


def explained(error: BaseException) -> str:
    """An error of Ray in one short line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        error = cause
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:200] if said else type(error).__name__
