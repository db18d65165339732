"""Labs with finished trials, as a campaign would have left them."""

from __future__ import annotations

from pathlib import Path

from autolab.ledger.records import Measurement, Proposal, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.task import Edit


def results(root: Path) -> Ledger:
    """The ledger of a lab with a campaign."""
    ledger = Ledger(root / ".autolab" / "ledger.sqlite")
    metric = {"name": "loss", "direction": "minimize", "bounds": None, "min_effect": 0.0}
    ledger.create_campaign(name="c", task="toy", key="k", config={"seed": 0, "task": {"metric": metric}},
                           baseline=ledger.add_program({"a.py": "x = 0\n"}))  # fmt: skip
    return ledger


def finish(ledger: Ledger, count: int, hypothesis: str = "a wider layer") -> None:
    """Let so many more trials finish, each a little better than the one before, and promoted."""
    for _ in range(count):
        finish_one(ledger, hypothesis)


def finish_one(ledger: Ledger, hypothesis: str = "a wider layer", status: Status = Status.OK) -> Trial:
    """Let one more trial of the newest campaign finish: measured, and promoted if it did not fail."""
    campaign = ledger.campaign()
    master = ledger.newest_promotion(campaign.id)
    opened = ledger.open_trial(
        campaign.id,
        role="worker",
        agent="w",
        surface="",
        parent_program=master.program if master else None,
        parent_trial=master.trial if master else None,
    )
    program = {"a.py": f"x = {opened.number}\n"}
    edit = Edit(path="a.py", search=f"x = {opened.number - 1}", replace=f"x = {opened.number}")
    ledger.queue_trial(opened.number, program, Proposal(hypothesis, (edit,), sources=("2407.21783",)))
    measured = Measurement(f"{opened.id}-screen-0-1", opened.number, "screen", seed=7, eval_seed=8)
    ledger.start_measurement(measured)
    score = 2.0 - opened.number / 100 if status is Status.OK else None
    ledger.finish_measurement(
        measured.replace(
            status=status, score=score, metrics={} if score is None else {"loss": score}, tokens=10,
            train_seconds=0.25, cost_usd=0.01, host="here", log_excerpt="of this machine",
        )
    )  # fmt: skip
    if score is None:
        return ledger.finish_trial(opened.number, status, note="it broke")
    if opened.ordinal == 0:
        ledger.set_campaign(campaign.id, noise_sd=0.002)
    bounds = (score - 0.01, score + 0.01)
    done = ledger.finish_trial(
        opened.number, status, verdict=Verdict.CONFIRMED, score=score, interval=bounds, delta=0.01
    )
    ledger.promote(done, score=score, interval=bounds, gain=0.01, reason="better")
    return done
