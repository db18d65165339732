"""Which executor a command uses."""

from __future__ import annotations

from autolab.execution.executor import LocalExecutor
from autolab.lab import Lab


def local_executor(lab: Lab, slots: int | None = None) -> LocalExecutor:
    """This machine, with `slots` measurements at once (None: as many as it has room for). Raises LabError."""
    secret = lab.ledger.meta("secret") or ""
    return LocalExecutor(lab.runs, lab.task, lab.protected, lab.data, secret, slots)
