"""How long a slot waits between two trials, and how busy the slots are with 20-second trials.

Utilisation is measured while there is work: a slot's last measurement has no successor to wait for.
Bars: at most 20 ms between two trials (median), at least 98 % utilisation on 20-second trials.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys

from toy import TASK, TRAIN, Instant, start, toy_lab

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor


def gaps_and_utilisation(trials: int, train: str) -> tuple[list[float], float]:
    """(seconds between two measurements on a slot, share of the slots' time in measurements)."""
    with toy_lab(TASK.replace("wall_seconds: 20", "wall_seconds: 60").replace("idle_seconds: 10", "idle_seconds: 60"),
                 train) as directory:  # fmt: skip
        lab = start(directory, window=7)
        work = CampaignRun(lab, Instant(), local_executor(lab), Limits(trials=trials))
        asyncio.run(work.run())
        return work.gaps, work.busy_seconds / (work.busy_seconds + sum(work.gaps))


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of a long trial")
    parser.add_argument("--trials", type=int, default=9, help="long ones, beside the baseline's three runs")
    options = parser.parse_args()
    quick, _ = gaps_and_utilisation(100, TRAIN)
    slow_train = TRAIN.replace(
        "    seed = int", f"    import time; time.sleep({options.seconds})\n    seed = int"
    )
    slow, busy = gaps_and_utilisation(options.trials, slow_train)
    print(f"{'trials':<24}{'idle median ms':>15}{'idle max ms':>13}{'utilisation':>13}")
    for name, gaps, share in (("instant", quick, None), (f"{options.seconds:g} seconds", slow, busy)):
        text = "" if share is None else f"{100 * share:.2f} %"
        print(f"{name:<24}{1000 * statistics.median(gaps):>15.2f}{1000 * max(gaps):>13.1f}{text:>13}")
    met = 1000 * statistics.median(quick) <= 20 and busy >= 0.98
    print(f"bars: 20 ms, 98 %: {'met' if met else 'MISSED'}")
    return not met


if __name__ == "__main__":
    sys.exit(main())
