"""Commands in a real terminal: a pseudo-terminal of any size, and what stands on its screen, by a terminal emulator."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte
from pyte.modes import DECAWM

TASK = """\
name: quick
metric: {name: loss, direction: minimize, bounds: [0, 100], deterministic: true}
editable: [train.py]
protected: [evaluate.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {cpu_seconds: 3, startup_seconds: 0, wall_seconds: 8, eval_seconds: 8, idle_seconds: 6, memory_gb: 0.2,
  artifact_kb: 64, processes: 16}
warm: [math]
surfaces: {optimizer: "rates"}
"""
TRAIN = """\
import json, os, time
RATE = 0.5  # range: 0.001 .. 2
DECAY = 0.125  # range: 0.001 .. 2
time.sleep(0.1)  # training takes its time
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer.json"), "w") as file:
    json.dump([RATE, DECAY], file)
"""
EVALUATE = """\
import json, os
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer.json")) as file:
    rate, decay = json.load(file)
with open(os.environ["AUTOLAB_RESULT"], "w") as file:
    json.dump({"status": "ok", "cause": "", "metrics": {"loss": 1 + abs(rate - 0.9) + abs(decay - 0.7)}}, file)
"""
Look = Callable[["Terminal"], None]


def write_quick(directory: Path, train: str = TRAIN) -> Path:
    """A task without noise whose trials take milliseconds."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("train.py", train), ("evaluate.py", EVALUATE), ("task.yaml", TASK)):
        (directory / name).write_text(text, encoding="utf-8")
    return directory


class Terminal:
    """A command in a terminal of so many columns and rows."""

    def __init__(
        self, directory: Path, words: Sequence[str], columns: int = 80, rows: int = 24, **environment: str
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(slave)
        clean = {
            k: v for k, v in os.environ.items() if k not in ("PAGER", "LESS", "NO_COLOR", "COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autolab.cli.main", *words], cwd=directory, stdin=slave, stdout=slave, stderr=slave,
            env={**clean, "TERM": "xterm-256color", **environment}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self._slave = slave

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as a person does with a window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def run(self, look: Look = lambda terminal: None) -> int:
        """Show what comes until the command has ended; `look` is called after every piece. Returns the exit code."""
        os.close(self._slave)
        while piece := self._read():
            self.raw += piece
            self.stream.feed(piece)
            look(self)
        return self.process.wait()

    def close(self) -> None:
        """Close the window."""
        os.close(self.master)
        self.master = -1

    def _read(self) -> bytes:
        if self.master < 0:
            return b""
        try:
            return os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the terminal open any more
                raise
            return b""

    @property
    def lines(self) -> list[str]:
        """What stands on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def everything(self) -> list[str]:
        """What stands on the screen, below what has scrolled away."""
        columns = self.screen.columns
        gone = ["".join(row[x].data for x in range(columns)).rstrip() for row in self.screen.history.top]
        return [*gone, *self.lines]

    @property
    def untouched(self) -> bool:
        """Whether the terminal is as it was: its modes, lines that are folded, and a cursor that can be seen."""
        same = termios.tcgetattr(self.master) == self.modes
        return same and not self.screen.cursor.hidden and DECAWM in self.screen.mode
