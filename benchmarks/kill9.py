"""Kill -9 of the lab at random moments of a campaign.

Bar: after 50 kills no trial is lost, none doubled, no process is left over, and the TSV and the JSON
equal the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from toy import TRAIN, start, toy_lab

from autolab.ledger.views import MASTER, TABLE, master_record, read_table, row


def processes_of(directory: Path) -> list[str]:
    """Command lines of living processes that name the lab's state directory."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory / ".autolab") in line:
            found.append(line)
    return found


def wait_until_gone(directory: Path, seconds: float = 10.0) -> list[str]:
    """Processes that are still there after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(directory)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def differences(directory: Path) -> list[str]:
    """How the views differ from the ledger, and what is wrong with the sequence of trials."""
    lab = start(directory)
    expected = [row(lab.ledger, trial, measured, "loss") for trial, measured in lab.ledger.outcomes()]
    actual = ["\t".join(cells.values()) for cells in read_table(directory / TABLE)]
    wrong = ["the table is not the ledger"] if actual != expected else []
    record = json.loads(json.dumps(master_record(lab.ledger, lab.campaign.id)))
    if json.loads((directory / MASTER).read_text(encoding="utf-8")) != record:
        wrong.append("the master file is not the ledger")
    ordinals = [trial.ordinal for trial in lab.ledger.sequence(lab.campaign.id)]
    if ordinals != list(range(len(ordinals))):
        wrong.append("a trial is lost or doubled")
    scored = [
        m.id
        for trial in lab.ledger.trials()
        for m in lab.ledger.measurements(trial.number)
        if m.status == "ok"
    ]
    if len({name.rsplit("-", 1)[0] for name in scored}) != len(scored):
        wrong.append("a measurement was recorded twice")
    lab.ledger.close()
    return wrong


def main() -> int:
    """Print what was found; exit code 1 if the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    problems: list[str] = []
    slow = TRAIN.replace("    seed = int", "    import time; time.sleep(0.15)\n    seed = int")
    with toy_lab(train=slow) as directory:
        command = [sys.executable, "-m", "autolab.cli.main", "run", "-C", str(directory), "--json"]
        finished = []
        for kill in range(options.kills):
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as lab:
                time.sleep(draw.uniform(0.05, 2.5))
                ended = lab.poll()
                lab.send_signal(signal.SIGKILL)
                if ended not in (None, 0) and lab.stderr is not None:
                    problems.append(f"kill {kill}: the lab had ended: {lab.stderr.read()}")
            problems += [f"kill {kill}: left over: {line}" for line in wait_until_gone(directory)]
            if (directory / ".autolab" / "ledger.sqlite").exists():
                finished.append(sum(start(directory).ledger.count().values()))
        if finished != sorted(finished):
            problems.append(f"finished trials went down: {finished}")
        total = (finished[-1] if finished else 0) + 4
        done = subprocess.run([*command, "--trials", str(total)], capture_output=True, text=True)
        problems += [done.stderr] * (done.returncode != 0) + differences(directory)
        print(f"{options.kills} kills during {finished[-1]} trials: " + ("; ".join(problems) or "met"))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
