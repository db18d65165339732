"""The default task, for real: comments, a planted improvement, and a rewrite that changes nothing.

Bars: 20 edits of comments alone are 20 duplicates, without a measurement and without a promotion; a change that is
known to be better is promoted; a rewrite with the same meaning is measured, and not promoted. Takes 10 to 15 minutes
on two cores.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from autolab.campaign.single import settle
from autolab.cli.executors import local_executor
from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger.records import PROMOTED, Proposal, Trial
from autolab.task import Edit

ROOT = Path(__file__).resolve().parent.parent
FILES = ("task.yaml", "train.py", "prepare.py", "evaluate.py")
COMMENTS = 20
BETTER = (("EMBED_LR = 0.01", "EMBED_LR = 0.03"), ("HEAD_LR = 0.003", "HEAD_LR = 0.01"))
SAME = (("WARMDOWN = 0.5", "HALF = 0.5\nWARMDOWN = HALF"),)


def main() -> int:
    """Print what came of each; exit code 1 if a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="autolab-default-") as directory:
        root = Path(directory)
        for name in FILES:
            shutil.copy(ROOT / name, root / name)
        with open_lab(root, create=True) as ledger:
            lab = begin_campaign(root, ledger, name=None, profile="cpu", config={"seed": 0, "window": 4})
            executor = local_executor(lab, None)
            begin = time.perf_counter()
            baseline = asyncio.run(settle(lab, executor, next(ledger.sequence(lab.campaign.id))))
            _tell(lab, baseline, begin)
            commented = [_propose(lab, f"comment {k}", _comment(lab, k)) for k in range(COMMENTS)]
            duplicates = sum(trial.status == "duplicate" for trial in commented)
            runs = sum(len(ledger.measurements(trial.number)) for trial in commented)
            print(f"{COMMENTS} edits of comments: {duplicates} duplicates, {runs} measurements", flush=True)
            same = asyncio.run(settle(lab, executor, _propose(lab, "the same, written otherwise", SAME)))
            _tell(lab, same, begin)
            better = asyncio.run(settle(lab, executor, _propose(lab, "higher learning rates", BETTER)))
            _tell(lab, better, begin)
            promotions = len(ledger.promotions(lab.campaign.id)) - 1
    bars = {
        f"{COMMENTS} duplicates, none measured": duplicates == COMMENTS and runs == 0,
        "the rewrite without effect is not promoted": same.status == "ok" and same.verdict not in PROMOTED,
        "the improvement is promoted": better.verdict in PROMOTED,
        "no other promotion": promotions == 1,
    }
    for bar, met in bars.items():
        print(f"{bar}: {'met' if met else 'MISSED'}")
    return not all(bars.values())


def _propose(lab: Lab, hypothesis: str, changes: tuple[tuple[str, str], ...]) -> Trial:
    edits = tuple(Edit(path="train.py", search=old, replace=new) for old, new in changes)
    return lab.submit(lab.open_trial(role="worker", agent="benchmark"), Proposal(hypothesis, edits))


def _comment(lab: Lab, place: int) -> tuple[tuple[str, str], ...]:
    """An edit that only writes a comment somewhere else each time."""
    ticket = lab.ledger.program(lab.campaign.baseline)["train.py"]
    lines = [line for line in ticket.splitlines() if line.endswith(":") and ticket.count(line) == 1]
    line = lines[place % len(lines)]
    return ((line, f"{line}  # attempt {place}"),)


def _tell(lab: Lab, trial: Trial, begin: float) -> None:
    stages = [measured.stage for measured in lab.ledger.measurements(trial.number)]
    print(
        f"{trial.id} {trial.status} {trial.verdict} {trial.score} after {time.perf_counter() - begin:.0f} s"
        f" ({', '.join(stages)}): {trial.note}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
