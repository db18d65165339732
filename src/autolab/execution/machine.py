"""What kind of machine this is, as far as scores depend on it.

Standard library only, and nothing from autolab: the runner imports this by path on other machines.
"""

from __future__ import annotations

import os

from .output import one_line

CPUINFO = "/proc/cpuinfo"
GPUS = "/proc/driver/nvidia/gpus"  # a folder for each, with a file `information`
LONGEST = 160  # characters
SMI_SECONDS = 10
# Clouds call many models by one name ("Xeon Processor @ 2.50GHz"); these numbers tell them apart: x86, then ARM.
_IDS = ("cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part", "CPU revision")


def describe(*, gpu: bool) -> str:
    """Architecture, processor model and its numbers, such as `x86_64 AMD EPYC 7R13 Processor 25/1/1`; with `gpu` the
    names of the NVIDIA GPUs before them. One printable line of at most LONGEST characters."""
    names = " + ".join(_gpus() or _gpus_by_nvidia_smi()) if gpu else ""
    return one_line(f"{names}, {_processor()}" if names else _processor(), LONGEST)


def _processor() -> str:
    try:
        with open(CPUINFO, "rb", buffering=0) as file:
            head = file.read(4096)  # of the first of perhaps hundreds
    except OSError:
        head = b""
    said = _fields(head)
    numbers = "/".join(said[name] for name in _IDS if said.get(name))
    return " ".join((os.uname().machine, said.get("model name", ""), numbers))


def _gpus() -> list[str]:
    """Distinct names, sorted; empty where the driver shows none, as in some containers."""
    found = set()
    try:
        for name in os.listdir(GPUS):
            with open(os.path.join(GPUS, name, "information"), "rb") as file:
                found.add(_fields(file.read(4096)).get("Model", ""))
    except OSError:
        return []
    return sorted(found - {"", "Unknown"})


def _gpus_by_nvidia_smi() -> list[str]:
    import subprocess  # takes long

    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []
    return sorted({line.strip() for line in lines} - {""})


def _fields(text: bytes) -> dict[str, str]:
    """The lines `name : value` up to the first empty line."""
    block = text.decode("utf-8", "replace").strip().split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
