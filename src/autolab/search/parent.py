"""Parent choice. The first archive is `best`: every trial branches from the master."""

from __future__ import annotations

from autolab.ledger.store import Ledger


def choose_parent(ledger: Ledger, campaign: str) -> tuple[str, int]:
    """(program, trial) to branch from: the master, or the baseline while that is still being measured."""
    master = ledger.newest_promotion(campaign)
    if master is not None:
        return master.program, master.trial
    baseline = next(ledger.sequence(campaign))
    return ledger.campaign(campaign).baseline, baseline.number
