"""A toy lab whose baseline has been measured, to be copied by tests, and what an agent does in one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conftest import TRAIN, write_toy
from scripted import start

from autolab.campaign.single import settle
from autolab.cli.executors import local_executor

SLOW_RATE = 0.91  # training with it takes long enough for a test to interfere
SLOW_TRAIN = TRAIN.replace(
    "value = RATE", f"import time; time.sleep(RATE == {SLOW_RATE} and 0.5); value = RATE"
)


def measured_toy(directory: Path) -> Path:
    """Write the toy task and measure its baseline."""
    lab = start(write_toy(directory, SLOW_TRAIN))
    asyncio.run(settle(lab, local_executor(lab, 2), lab.ledger.trial(1)))
    lab.ledger.close()
    return directory


def edit_rate(workspace: Path, rate: object) -> None:
    """Do what a worker does: set the recipe's rate (its best is 0.9), whatever it was."""
    recipe = workspace / "train.py"
    text = recipe.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("RATE")]
    recipe.write_text(text.replace(line, f"RATE = {rate}"), encoding="utf-8")
