"""A headless campaign while the model server misbehaves: nothing lost, nothing stuck, slots busy.

Thirty trials by four agents on real OpenCode. The model's server answers a share of all requests with a fault of
its own: timeouts, 429, 500, 503, 401, truncated and stalled streams, lost connections, broken tool calls, unknown
tools, endless tool loops, empty answers, answers of 200,000 tokens, context overflow. Training takes longer than a
proposal. Bars: every trial recorded with a label that fits, no process left over, slots busy at least 95 % of the
time while there is work.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections import Counter

from toy import TASK, TRAIN, toy_lab

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests"))

from scripted_agents import headless, set_rate
from stand_ins.faults import FAULTS, Misbehaving
from stand_ins.model_server import Request, Step
from strays import left_over

from autolab.ledger.agents import sessions
from autolab.ledger.records import Status

EXPECTED = {Status.OK, Status.PROPOSAL_FAILED, Status.INFRA_ERROR, Status.DUPLICATE}


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of training")
    parser.add_argument("--share", type=float, default=0.25, help="of the model's answers that are faults")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train = TRAIN.replace("    seed = int", f"    import time; time.sleep({options.seconds})\n    seed = int")
    task = TASK.replace("wall_seconds: 20", "wall_seconds: 60").replace(
        "idle_seconds: 10", "idle_seconds: 60"
    )

    def agent(request: Request) -> Step:
        # Of the session, not of the trial's id: after an overflow OpenCode goes on from a summary without it. So far
        # apart that most trials end after one run, and each time that chance finds a better one it is promoted.
        return set_rate(round(0.9 * (zlib.crc32(request.session.encode()) % 10**6 / 1e6), 7))(request)

    model = Misbehaving(agent, seed=options.seed, share=options.share)
    with toy_lab(task, train) as directory:
        began = time.time()
        done = headless(directory, model, trials=options.trials, workers=options.agents)
        took = time.time() - began
        strays = list(left_over(directory).values())
        found = sessions(done.lab.ledger, done.lab.campaign.id)
    labels = Counter(str(trial.status) for trial in done.trials)
    gaps = sum(done.work.gaps)
    busy = done.work.busy_seconds / (done.work.busy_seconds + gaps)
    print(
        f"{options.trials} trials, {options.agents} agents, {len(done.server.requests)} model calls in {took:.0f} s"
    )
    print("faults played   " + ", ".join(f"{n} {name}" for name, n in sorted(model.played.items())))
    print("never played    " + (", ".join(sorted(set(FAULTS) - set(model.played))) or "none"))
    print("trials          " + ", ".join(f"{n} {name}" for name, n in labels.most_common()))
    for trial in done.trials:
        if trial.status is not Status.OK:
            print(f"   {trial.id} {trial.status}: {trial.note[:140]}")
    print(
        "sessions        "
        + ", ".join(f"{n} {how}" for how, n in Counter(s.outcome for s in found).most_common())
    )
    retries, tokens = sum(s.retries for s in found), sum(s.tokens_in + s.tokens_out for s in found)
    print(
        f"                {retries} retries, {tokens} tokens, {sum(s.seconds for s in found) / len(found):.1f} s each"
    )
    print(f"slots busy      {100 * busy:.1f} % while there was work")
    print(f"left over       {len(strays)} processes {[words[:120] for words in strays[:3]] or ''}")
    recorded = len(done.trials) == options.trials and {t.status for t in done.trials} <= EXPECTED
    recorded = (
        recorded and 2 * labels["ok"] > options.trials
    )  # faults cost a minority of trials, not the campaign
    met = recorded and busy >= 0.95 and not strays
    print(
        f"bars: {options.trials} trials labelled, 95 % busy, no process left over: {'met' if met else 'MISSED'}"
    )
    return not met


if __name__ == "__main__":
    sys.exit(main())
