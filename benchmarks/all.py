"""Run every benchmark, one after the other, and say which bars were met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = (
    "startup",
    "trial_overhead",
    "bookkeeping",
    "concurrent_submit",
    "slots",
    "kill9",
    "offline_vs_random",
    "hub_chaos",
    "eight_labs",
    "local_and_jobs",
    "skills",
    "headless",
    "workers",
    "demo",
    "promotion",
    "audit",
    "default_task",
    "lineage",
    "claims",
    "warm",
    "scale",
    "archives --quick",
    "report_page",
    "mirror",
    "study",
)


def main() -> int:
    """Exit code 1 if any bar was missed."""
    missed = []
    for name in NAMES:
        print(f"\n== {name}", flush=True)
        script, *words = name.split()
        if subprocess.run([sys.executable, str(HERE / f"{script}.py"), *words]).returncode:
            missed.append(name)
    print("\nmissed: " + ", ".join(missed) if missed else "\nevery bar is met")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
