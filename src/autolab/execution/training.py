"""Training: the program runs in a sandbox, under the limits of its budget.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import math
import os

from . import curve as curves
from . import process_tree, sandbox
from .limits import Limits, over_cpu, over_disk, over_memory
from .outcome import Outcome
from .phase import run_phase
from .syscalls import seccomp_filter

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from .measurement import Measurement
    from .phase import Ending


def train(measurement: Measurement) -> None:
    """Run the training command. Raises Outcome unless it ended well by itself."""
    env = environment(measurement)
    argv = measurement.command("train")
    keep: tuple[int, ...] = ()
    status_reader = gate = -1
    if measurement.sandboxed:
        # A file and not a pipe: its size does not matter.
        args = os.memfd_create("sandbox")
        os.write(args, sandbox.packed(measurement.sandbox_arguments(training=True, env=env)))
        os.lseek(args, 0, os.SEEK_SET)
        status_reader, status_writer = os.pipe()
        gate_reader, gate = os.pipe()
        keep = (args, status_writer, gate_reader)
        options = ["--args", args, "--json-status-fd", status_writer, "--block-fd", gate_reader]
        calls = seccomp_filter()
        if calls is not None:
            denied = os.memfd_create("seccomp")
            os.write(denied, calls)
            os.lseek(denied, 0, os.SEEK_SET)
            keep += (denied,)
            options += ["--seccomp", denied]
        argv = [measurement.bwrap, *map(str, options), "--", *argv]
        env = {}

    def open_gate() -> None:
        os.write(gate, b"1")
        os.close(gate)

    # Before anything starts: bubblewrap's child, too, would be an orphan of nobody's if its parent were killed
    # while it sets up.
    process_tree.become_subreaper()
    measurement.log.begin_phase("train")
    curve = curves.Curve(
        os.path.join(measurement.bundle.clock, curves.FILE), measurement.spec.get("band") or ()
    )
    writable = [measurement.bundle.artifact, measurement.bundle.clock, measurement.bundle.scratch]
    try:
        ending = run_phase(
            argv,
            env=env,
            cwd=measurement.bundle.workspace,
            limits=limits_of(measurement, writable, curve),
            rlimits=measurement.rlimits(training=True),
            cpus=measurement.spec.get("cpus"),
            keep=keep,
            dies_with_us=not measurement.sandboxed,  # bubblewrap sees to it itself
            once_started=open_gate if measurement.sandboxed else None,
            log=measurement.log,
            signals=measurement.signals,
        )
    finally:
        for descriptor in keep:
            os.close(descriptor)
    raise_for_limits(measurement, ending, writable, curve)
    if status_reader >= 0:
        with os.fdopen(status_reader, "rb") as file:
            started = b'"exit-code"' in file.read()
        if not started and ending.status != 0:
            # The status descriptor is closed before the program starts, so it cannot fake this.
            said = measurement.last_words([])
            if "execvp" in said:
                raise Outcome("crash", said.replace("bwrap: execvp", "cannot start"))
            raise Outcome("infra_error", f"the sandbox did not start: {said}")
    measurement.raise_for_exit(ending, measurement.sandboxed)


def limits_of(measurement: Measurement, writable: list[str], curve: curves.Curve) -> Limits:
    """What training may use; it writes to the folders `writable`."""
    return Limits(
        wall=measurement.budget["wall_seconds"],
        cpu=measurement.cpu_limit(),
        idle=measurement.budget["idle_seconds"],
        memory=measurement.memory,
        # bubblewrap itself is two processes.
        processes=measurement.budget["processes"] + (2 if measurement.bwrap else 0),
        disk=measurement.disk,
        writable=writable,
        curve=curve,
    )


def raise_for_limits(
    measurement: Measurement, ending: Ending, writable: list[str], curve: curves.Curve
) -> None:
    """Note how training ended. Raises Outcome if that was at a limit, or beyond one that was noticed too late."""
    measurement.note("train", ending)
    curve.objection()  # what is left to read; a run that came to its end is not stopped any more
    measurement.facts["curve"] = curve.points
    if ending.verdict is None and ending.cpu_seconds > (measurement.cpu_limit() or math.inf):
        ending.verdict = "timeout", over_cpu(ending.cpu_seconds, measurement.cpu_limit() or math.inf)
    if ending.verdict is None and ending.peak_memory > measurement.memory:
        ending.verdict = "oom", over_memory(ending.peak_memory, measurement.memory)
    left = over_disk(writable, measurement.disk)
    ending.verdict = ending.verdict or left
    if ending.verdict is not None:
        raise Outcome(*ending.verdict)


def environment(measurement: Measurement) -> dict[str, str]:
    """The variables of the training command."""
    spec, bundle, budget = measurement.spec, measurement.bundle, measurement.budget
    env = measurement.clean_environment("/tmp" if measurement.sandboxed else bundle.scratch)
    env["AUTOLAB_ARTIFACT"] = sandbox.ARTIFACT if measurement.sandboxed else bundle.artifact
    env["AUTOLAB_CLOCK"] = (sandbox.CLOCK if measurement.sandboxed else bundle.clock) + "/clock.json"
    env["AUTOLAB_CURVE"] = f"{sandbox.CLOCK if measurement.sandboxed else bundle.clock}/{curves.FILE}"
    env["AUTOLAB_SEED"] = str(spec["seed"])
    if spec["data"]:
        env["AUTOLAB_DATA"] = sandbox.DATA if measurement.sandboxed else spec["data"]
    if spec.get("pace"):
        env["AUTOLAB_PACE"] = sandbox.PACE if measurement.sandboxed else spec["pace"]
    if budget.get("cpu_seconds") is not None:
        env["AUTOLAB_CPU_SECONDS"] = str(float(budget["cpu_seconds"]))
    elif budget.get("tokens") is not None:
        env["AUTOLAB_TOKENS"] = str(int(budget["tokens"]))
    else:
        env["AUTOLAB_WALL_SECONDS"] = str(float(budget["wall_seconds"]))
    if not measurement.sandboxed:
        env["TMPDIR"] = bundle.scratch  # so that what it writes there is counted
    return env
