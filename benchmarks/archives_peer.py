"""OpenEvolve's program database as an arm of benchmarks/archives.py, in an environment of its own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".venv-peers"
CRASHED = (
    -10.0
)  # below every score; its own score for a crash, 0, would be the best where scores are negative


def python() -> Path:
    """The interpreter that has OpenEvolve, in an environment that is made the first time."""
    found = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "installed"
    wanted = (HERE / "peers" / "requirements.txt").read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(HERE / "peers" / "requirements.txt")], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return found


class OpenEvolveDatabase:
    """The database in a process of its own, which serves one run after the other."""

    def __init__(self) -> None:
        script = HERE / "peers" / "openevolve_database.py"
        self._process = subprocess.Popen(
            [str(python()), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @classmethod
    def of_this_process(cls, seed: int) -> OpenEvolveDatabase:
        """The one that this process talks to, emptied."""
        peer = _only()
        peer._say({"new": seed})
        return peer

    def tell(
        self, number: int, score: float | None, measures: tuple[float, float], parent: int | None
    ) -> None:
        """A program was evaluated."""
        self._say({"tell": [number, CRASHED if score is None else score, list(measures)]})

    def ask(self, in_flight: int) -> int:
        """The number of a parent."""
        return int(self._say({"ask": None}))

    def size(self) -> int:
        """Not told: its places are of five islands."""
        return 0

    def _say(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        into: IO[str] = self._process.stdin
        into.write(json.dumps(order) + "\n")
        into.flush()
        return json.loads(self._process.stdout.readline())


@functools.cache
def _only() -> OpenEvolveDatabase:
    return OpenEvolveDatabase()
