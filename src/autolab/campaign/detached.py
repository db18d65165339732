"""`autolab serve` in a process of its own, which outlives whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from autolab.campaign.lock import at_work
from autolab.errors import LabError
from autolab.lab import STATE_DIRECTORY, open_lab
from autolab.ledger.views import cell

LOCK_SECONDS = 20.0
BEGIN_SECONDS = 80.0  # for preparing the data of a new campaign; it goes on after that
LOOK_SECONDS = 0.05
LOG_BYTES = 1 << 20
OF_THE_AGENT = (
    "AUTOLAB_LAB",
    "AUTOLAB_ROLE",
    "AUTOLAB_SESSION",
    "AUTOLAB_TRIAL",
    "AUTOLAB_BRIDGE",
    "AUTOLAB_ENGINE",
)


def start_serving(root: Path, arguments: Sequence[str]) -> tuple[str, bool]:
    """Start `autolab serve` with `arguments` and wait until it takes trials: (its process id, does it take them).

    False means that it still prepares the data. Raises LabError if something else is at work in the directory, or
    if the service ended at once; its own words are in `.autolab/serve.log`.
    """
    _refuse_beside_others(root)
    log = root / STATE_DIRECTORY / "serve.log"
    log.parent.mkdir(exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    # The agent that asked may end at any time, and so may its sandbox; nothing of it may reach the service.
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_AGENT}
    command = [sys.executable, "-m", "autolab.cli.main", "serve", "-C", str(root), *arguments]
    with open(log, "ab") as output:
        said_before = output.tell()
        service = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    begun = time.monotonic()
    while True:
        holder = at_work(root)
        ours = holder is not None and holder[0] == str(service.pid)
        if ours and _takes_trials(root, str(service.pid)):
            return str(service.pid), True
        if service.poll() is not None:
            _refuse_beside_others(root)  # two asked at the same time, and the other one was quicker
            with open(log, "rb") as output:
                output.seek(said_before)
                said = output.read().decode(errors="replace").strip().splitlines()
            raise LabError(
                cell(said[-1].removeprefix("autolab: ")) if said else "the service ended at once",
                mend=f"see {STATE_DIRECTORY}/serve.log",
            )
        waited = time.monotonic() - begun
        if waited > BEGIN_SECONDS or (waited > LOCK_SECONDS and not ours):
            return str(service.pid), False
        time.sleep(LOOK_SECONDS)


def serving(root: Path) -> str | None:
    """The process id of the service that is at work in a directory, or None."""
    found = at_work(root)
    return found[0] if found is not None and found[1] == "serve" else None


def _refuse_beside_others(root: Path) -> None:
    found = at_work(root)
    if found is None:
        return
    process, command = found
    if command == "serve":
        raise LabError(
            f"the service runs already (process {process})",
            mend="`scripts/lab.py status`; `scripts/lab.py stop` ends it",
        )
    ends = "`scripts/lab.py stop` ends it" if command == "run" else "wait until it has ended"
    raise LabError(f"`autolab {command}` is at work here (process {process})", mend=ends)


def _takes_trials(root: Path, process: str) -> bool:
    try:
        with open_lab(root) as ledger:
            campaigns = ledger.campaigns()
            known = campaigns[-1].config.get("serving") if campaigns else None
            return known is not None and known["process"] == process
    except LabError:
        return False  # the campaign has not begun yet
