"""One measurement: its phases in order, what they share, and its result.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import time

from . import output, process_tree, sandbox
from .artifact import collect
from .bundle_folder import RESULT, SPEC, Bundle, write_atomically
from .evaluation import evaluate, self_reported
from .limits import MB, over_cpu
from .machine import describe
from .outcome import Outcome, Stopped
from .run_log import Log
from .training import train

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .phase import Ending, Signals

EXCERPT = 4000  # bytes of the log that go into the result
OPEN_FILES = 1024
DATA_SLACK = 512 * MB  # RLIMIT_DATA above the memory budget: the polled limit should be met first


class Measurement:
    """Its spec, its bundle, what is known so far, and what each of its processes is given.

    `machine` is what this machine is, if the caller knows it already.
    """

    def __init__(self, spec: dict[str, Any], bundle: Bundle, signals: Signals, machine: str = "") -> None:
        self.spec, self.bundle, self.signals = spec, bundle, signals
        self.budget: dict[str, Any] = spec["budget"]
        self.log = Log()
        self.sandboxed = spec["sandbox"] == "bubblewrap"
        self.gpu: bool = spec["gpu"]
        self.memory = int(self.budget["memory_gb"] * 1e9)
        self.artifact_cap = int(self.budget["artifact_kb"]) * 1024
        self.disk = self.artifact_cap * 4 + 16 * MB
        self.facts: dict[str, Any] = {
            "metrics": {},
            "train_seconds": 0.0,
            "train_cpu_seconds": 0.0,
            "eval_seconds": 0.0,
            "eval_cpu_seconds": 0.0,
            "peak_memory_mb": 0.0,
            "artifact_bytes": 0,
            "exit_code": None,
            "signal": None,
            "clock": None,
            "curve": [],
            "machine": machine or describe(gpu=self.gpu),
        }
        self.bwrap = ""  # the program that a sandboxed process is started through
        self.overlay: list[tuple[str, str]] = []

    def find_sandbox(self) -> None:
        """What the sandboxes are built with. Raises Outcome or SandboxError."""
        if self.sandboxed:
            found = sandbox.find_bubblewrap()
            if found is None:
                raise Outcome("infra_error", "bubblewrap is not installed on this machine")
            self.bwrap = found
        self.overlay = sandbox.read_overlay(self.spec["data"])

    def run(self) -> NoReturn:
        """All phases in order; ends by raising Outcome or Stopped."""
        protected = self.spec["protected"]
        self.bundle.check_protected(protected, "before training")
        self.bundle.prepare()
        try:
            train(self)
        except Outcome:
            # How a tampering run ended does not matter.
            self._check_nothing_forged("during training")
            raise
        self._check_nothing_forged("during training")
        self.bundle.prepare_evaluation()
        collect(self)
        if self.spec["commands"].get("evaluate") is None:
            self_reported(self)
        try:
            evaluate(self)
        except Outcome:
            self._check_nothing_forged("during evaluation")
            raise

    def _check_nothing_forged(self, when: str) -> None:
        self.bundle.check_protected(self.spec["protected"], when)
        if os.path.lexists(self.bundle.result):
            raise Outcome("tampered", f"something other than the runner wrote {RESULT} {when}")

    @property
    def own_files(self) -> list[str]:
        return [*self.spec["editable"], *self.spec["protected"]]

    def command(self, name: str) -> list[str]:
        argv = list(self.spec["commands"][name])
        return [self.spec["python"], *argv[1:]] if argv[0] == "python" else argv

    def rlimits(self, *, training: bool) -> dict[int, int]:
        limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: OPEN_FILES}
        if not self.gpu:  # CUDA maps far more than it uses
            limits[resource.RLIMIT_DATA] = self.memory + DATA_SLACK
        if training:
            limits[resource.RLIMIT_FSIZE] = self.disk
            cpu = self.cpu_limit()
            if cpu is not None:
                limits[resource.RLIMIT_CPU] = math.ceil(cpu) + 2
        return limits

    def cpu_limit(self) -> float | None:
        seconds = self.budget.get("cpu_seconds")
        return None if seconds is None else float(seconds) + float(self.budget["startup_seconds"])

    def clean_environment(self, home: str) -> dict[str, str]:
        """What every process of a trial gets: no variable of the lab's own environment is passed on."""
        return clean_environment(self.spec, home)

    def sandbox_arguments(self, *, training: bool, env: dict[str, str]) -> list[str]:
        spec, bundle = self.spec, self.bundle
        data = spec["data"]
        train_data = os.path.join(data, "train") if data and training else None
        return sandbox.arguments(
            python=spec["python"],
            workspace=bundle.workspace,
            artifact=bundle.artifact if training else bundle.collected,
            artifact_writable=training,
            overlay=self.overlay,
            hidden=[bundle.root, *([data] if data else [])],
            gpu=self.gpu,
            clock=bundle.clock if training else None,
            train_data=train_data if train_data and os.path.isdir(train_data) else None,
            pace=spec.get("pace") if training else None,
            environment=env,
        )

    def note(self, phase: str, ending: Ending) -> None:
        self.facts[f"{phase}_seconds"] = round(ending.seconds, 4)
        self.facts[f"{phase}_cpu_seconds"] = round(ending.cpu_seconds, 4)
        peak = round(ending.peak_memory / MB, 1)
        self.facts["peak_memory_mb"] = max(self.facts["peak_memory_mb"], peak)
        if phase == "train":
            code, name = process_tree.exit_of(ending.status, bool(self.bwrap))
            self.facts["exit_code"], self.facts["signal"] = code, name

    def raise_for_exit(self, ending: Ending, in_sandbox: bool) -> None:
        """Raise Outcome that tells apart why a process failed; return if it exited with 0."""
        code, name = process_tree.exit_of(ending.status, in_sandbox)
        if code == 0:
            return
        if name == "SIGXCPU":
            raise Outcome("timeout", over_cpu(ending.cpu_seconds, self.cpu_limit() or 0))
        if name == "SIGXFSZ":
            raise Outcome("over_size", f"disk: a file larger than {self.disk / MB:.1f} MB")
        if name is not None:
            near = ending.peak_memory > 0.8 * self.memory
            if name == "SIGKILL" and near:
                raise Outcome("oom", "killed by SIGKILL close to its memory limit")
            said = self.last_words(self.own_files)
            raise Outcome("crash", f"killed by {name}" + (f" after: {said}" if said else ""))
        said = self.last_words(self.own_files)
        status = output.failure_status(said)
        raise Outcome(status, said or f"exit code {code} without a word")

    def last_words(self, own_files: list[str]) -> str:
        """The line of this phase's output that says best why it failed."""
        return output.failure_line(output.scrub(self.log.phase_text()), own_files)


def clean_environment(spec: dict[str, Any], home: str) -> dict[str, str]:
    """What every process of a trial with this spec gets; see Measurement.clean_environment."""
    python = os.path.dirname(spec["python"])
    env = {
        "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "AUTOLAB_PROFILE": spec["profile"],
    }
    if not spec["gpu"]:
        for name in ("OMP", "MKL", "OPENBLAS"):
            env[f"{name}_NUM_THREADS"] = "1"
    env.update(spec.get("environment") or {})
    return env


def measure(root: str, signals: Signals, cpus: list[int] | None, gpu: str | None) -> None:
    """Run the bundle and write its result. Raises Stopped, in which case there is no result."""
    bundle = Bundle(root)
    if os.path.exists(bundle.result):
        return
    started = time.time()
    measurement: Measurement | None = None
    spec: dict[str, Any] = {}
    try:
        try:
            with open(os.path.join(bundle.root, SPEC), encoding="utf-8") as file:
                spec = output.parse_json(file.read())
            if cpus is not None:
                spec["cpus"] = cpus
            if gpu is not None:
                spec["environment"] = {**(spec.get("environment") or {}), "CUDA_VISIBLE_DEVICES": gpu}
            measurement = Measurement(spec, bundle, signals)
            measurement.find_sandbox()
            measurement.run()
        except (Outcome, Stopped):
            raise
        except sandbox.SandboxError as error:
            raise Outcome("infra_error", str(error)) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise Outcome("infra_error", "the disk is full" if full else f"runner: {error}") from error
        except Exception as error:
            raise Outcome("infra_error", f"runner: {type(error).__name__}: {error}") from error
    except Outcome as outcome:
        log = measurement.log if measurement else Log()
        facts = measurement.facts if measurement else {}
        text = output.scrub(log.text()).encode("utf-8", "replace")
        write_atomically(bundle.log, text, durable=False)
        result = result_of(outcome, spec, facts, text, started)
        write_atomically(bundle.result, output.to_json(result).encode(), durable=True)


def result_of(
    outcome: Outcome, spec: dict[str, Any], facts: dict[str, Any], log: bytes, started: float
) -> dict[str, Any]:
    """What measurement.json holds; `log` is safe to show, `started` a time as of time.time()."""
    return {
        "id": spec.get("id", ""),
        "status": outcome.status,
        "cause": output.one_line(outcome.cause),
        **facts,
        "evidence": "measured" if (spec.get("commands") or {}).get("evaluate") else "self_reported",
        "host": os.uname().nodename,
        "sandbox": spec.get("sandbox", "none"),
        "started_at": started,
        "finished_at": time.time(),
        "log_excerpt": log[-EXCERPT:].decode("utf-8", "ignore"),
    }
