"""How soon the command line answers. Bar: `autolab --help` in under 300 ms."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path


def median_ms(command: list[str], runs: int = 15) -> float:
    """Median wall time of a command, in milliseconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> int:
    """Print the medians and their ratio; exit code 1 if the bar is missed."""
    help_ms = median_ms([str(Path(sys.executable).with_name("autolab")), "--help"])
    bare_ms = median_ms([sys.executable, "-c", "pass"])
    met = help_ms < 300
    print(
        f"autolab --help {help_ms:.0f} ms, bare Python {bare_ms:.0f} ms, ratio {help_ms / bare_ms:.1f}:"
        f" {'met' if met else 'MISSED'} (bar 300 ms)"
    )
    return not met


if __name__ == "__main__":
    sys.exit(main())
