"""For the tests of warm measurements: a task that takes a millisecond, and executors that measure it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from measuring import needs_bubblewrap, processes_with, wait_until

from autolab.execution.data import Data
from autolab.execution.executor import Executor, LocalExecutor
from autolab.execution.warm.executor import WarmExecutor
from autolab.ledger.records import Measurement
from autolab.task import Task, check_task

__all__ = ["HONEST", "Warm", "measurement", "needs_bubblewrap", "processes_with", "wait_until"]

# The honest recipe: its score is 7.
HONEST = """\
import json, os
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer.json"), "w") as file:
    json.dump(7, file)
"""

EVALUATE = """\
import json, os
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer.json")) as file:
    score = json.load(file)
with open(os.environ["AUTOLAB_RESULT"], "w") as file:
    json.dump({"status": "ok", "cause": "", "metrics": {"score": score}}, file)
"""

TASK = """\
name: tiny
metric: {name: score, direction: minimize, bounds: [0.1, 20]}
editable: [train.py]
protected: [evaluate.py, prepare.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {cpu_seconds: 3, startup_seconds: 0, wall_seconds: 8, eval_seconds: 8, idle_seconds: 6, memory_gb: 0.2,
  artifact_kb: 64, processes: 16}
warm: [math]
"""


def measurement(number: int = 1, **changes: Any) -> Measurement:
    """A measurement that has not begun."""
    return Measurement(f"m{number}", 1, "screen", 3, 5).replace(**changes)


class Warm:
    """A task in a folder, and its warm executor; `ordinary` is the executor that starts every process anew."""

    def __init__(
        self,
        root: Path,
        *,
        task: str = TASK,
        evaluate: str | None = EVALUATE,
        prepare: str = "",
        data: Path | None = None,
        slots: int | None = 1,
        ordinary: bool = False,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.protected = {"evaluate.py": evaluate or "", "prepare.py": prepare}
        for name, text in {**self.protected, "train.py": HONEST}.items():
            (root / name).write_text(text)
        if evaluate is None:
            task = task.replace(", evaluate: [python, evaluate.py]", "")
        self.task: Task = check_task(task, root)
        kind = LocalExecutor if ordinary else WarmExecutor
        self.executor: Executor = kind(
            root / "runs", self.task, self.protected, Data(data, ""), "5ec7e7", slots
        )

    def measure(self, train: str = HONEST, number: int = 1, **changes: Any) -> Measurement:
        """What the executor finds for this recipe."""
        return asyncio.run(self.measured(train, number, **changes))

    async def measured(
        self, train: str = HONEST, number: int = 1, *, pace: dict[str, Any] | None = None, **changes: Any
    ) -> Measurement:
        """The same, in a loop."""
        wanted = measurement(number, **changes)
        bundle = self.executor.stage(wanted, {"train.py": train}, pace)
        result = await self.executor.run(bundle, wanted, self.executor.slots[0])
        self.executor.clear(wanted)
        return result
