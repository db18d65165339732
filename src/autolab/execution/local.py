"""Measure on this machine: one runner process for each measurement, on a slot of its own.

A slot is some cores, or a GPU, that no other measurement uses at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autolab.errors import LabError
from autolab.execution.bundle import MeasurementResult, infra_error, read_result

_HERE = Path(__file__).resolve().parent
# `import runner` and not the file's name: a module's byte code is cached, a script is compiled every time.
_START = "import sys; sys.path.insert(0, sys.argv[1]); import runner; sys.exit(runner.main(sys.argv[2:]))"
_ERRORS = "runner_errors.txt"
_STOP_PATIENCE = 15.0  # seconds for a runner to end everything before it is killed itself
# The variables by which the processes of a run are known; each is a path inside its bundle.
_MARKS = tuple(f"AUTOLAB_{name}=".encode() for name in ("BUNDLE", "ARTIFACT", "RESULT"))


@dataclass(frozen=True)
class Slot:
    """A place for one measurement at a time: cores to run on, and for GPU tasks one device."""

    index: int
    cpus: tuple[int, ...] = ()
    gpu: str | None = None


def discover_slots(wanted: int | None, kind: Literal["cpu", "gpu"] = "cpu") -> list[Slot]:
    """`wanted` slots on disjoint cores (on devices, for "gpu"); None: one for each core or device.

    Raises LabError if there are not enough.
    """
    cores = sorted(os.sched_getaffinity(0))
    if wanted is not None and wanted < 1:
        raise LabError(f"{wanted} slots cannot measure anything", mend="ask for at least one")
    if kind == "gpu":
        devices = visible_gpus()
        count = len(devices) if wanted is None else wanted
        if count > len(devices) or not devices:
            raise LabError(
                f"{max(count, 1)} GPU slots wanted, {len(devices)} GPUs found",
                mend="check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the cpu profile",
            )
        return [Slot(i, _share(cores, i, count), devices[i]) for i in range(count)]
    count = len(cores) if wanted is None else wanted
    if count > len(cores):
        raise LabError(
            f"{count} slots wanted, but this process may use {len(cores)} cores",
            mend="ask for fewer slots",
        )
    return [Slot(i, _share(cores, i, count)) for i in range(count)]


def _share(cores: list[int], index: int, count: int) -> tuple[int, ...]:
    if count >= len(cores):
        return (cores[index % len(cores)],)
    each = len(cores) // count
    return tuple(cores[index * each : (index + 1) * each])


def visible_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return []
    return found.stdout.split() if found.returncode == 0 else []


async def measure(bundle: Path, slot: Slot) -> MeasurementResult:
    """Run the bundle on the slot and return its result; a runner that dies gives `infra_error`.

    When the caller cancels, every process of the measurement is dead before CancelledError goes on.
    """
    bundle = bundle.resolve()
    arguments = [str(bundle), "--lifeline"]
    if slot.cpus:
        arguments += ["--cpus", ",".join(map(str, slot.cpus))]
    if slot.gpu is not None:
        arguments += ["--gpu", slot.gpu]
    errors = bundle / _ERRORS
    # The pipe's other end is ours alone: when this process dies, however, the runner sees it close.
    reader, writer = os.pipe()
    try:
        with errors.open("wb") as error_file:
            runner = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _START, str(_HERE)),
                *arguments,
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=error_file,
                env=_clean_environment(bundle),
                start_new_session=True,
            )
    except OSError as error:
        os.close(writer)
        return infra_error(bundle.name, f"the runner did not start: {error}")
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    try:
        code = await runner.wait()
    except asyncio.CancelledError:
        os.close(writer)
        writer = -1
        await _end(runner, bundle)
        raise
    finally:
        if writer >= 0:
            os.close(writer)
    if code != 0:
        # A result beside a failed runner is not the runner's: it ends with 0 once it has written its own.
        said = " ".join(errors.read_text(errors="replace").split()[-30:])
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        reap_orphans(bundle)
        return infra_error(bundle.name, f"the runner died: {how} {said}".strip()[:200])
    try:
        result = read_result(bundle)
    except LabError as error:
        return infra_error(bundle.name, str(error)[:200])
    if errors.stat().st_size == 0:
        errors.unlink()
    return result or infra_error(bundle.name, "the runner left no result")


async def _end(runner: asyncio.subprocess.Process, bundle: Path) -> None:
    """Wait until the runner, whose lifeline is closed, has ended everything; shielded from cancellation."""
    waiting = asyncio.ensure_future(runner.wait())
    deadline = time.monotonic() + _STOP_PATIENCE
    while not waiting.done() and time.monotonic() < deadline:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([waiting], timeout=deadline - time.monotonic())
    if not waiting.done():
        with contextlib.suppress(ProcessLookupError):
            runner.kill()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([waiting], timeout=_STOP_PATIENCE)
        reap_orphans(bundle)


def _clean_environment(bundle: Path) -> dict[str, str]:
    """What the runner needs of our environment: no token, no key, nothing that loads code."""
    wanted = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TZ")
    kept = {name: os.environ[name] for name in wanted if name in os.environ}
    return {**kept, "AUTOLAB_BUNDLE": str(bundle)}


def reap_orphans(directory: Path) -> int:
    """Kill what is left of earlier measurements whose bundles lie in `directory`; how many there were.

    For the start of a lab: no other living lab may use the folder. A measurement ends by itself when its
    lab dies; only without a sandbox, when lab and runner were both killed at once, something is found.
    """
    roots = [mark + os.fsencode(directory.resolve()) for mark in _MARKS]
    killed: set[int] = set()
    while True:
        found = [pid for pid in _processes() if _is_marked(pid, roots)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not set(found) - killed:
            return len(killed)
        killed |= set(found)
        time.sleep(0.01)  # for what they started while we looked


def _processes() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]


def _is_marked(pid: int, roots: list[bytes]) -> bool:
    folder = roots[0].partition(b"=")[2]
    try:
        # bubblewrap itself has an empty environment: killed with its parent at the wrong instant, its child
        # waits for ever, in the bundle's workspace.
        if os.readlink(f"/proc/{pid}/cwd".encode()).startswith(folder + b"/"):
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return False
    return any(
        variable == root or variable.startswith(root + b"/") for variable in variables for root in roots
    )
