"""How the campaign's allowance for false promotions is shared out among its trials, however many there will be."""

from __future__ import annotations

import math

LEVEL = 0.05  # false promotions that a campaign may expect, whatever its length
NIGHT = 250  # trials; about this many share the first half of the allowance


def log_share(trial: int, level: float = LEVEL) -> float:
    """Natural logarithm of the error probability that the `trial`-th trial (1, 2, ...) may have.

    The shares level * n / ((n + k - 1) (n + k)) add up to `level` over all k (a telescoping sum), so the expected
    number of false promotions (per-family error rate) stays below it at any length: expectations add up. A late trial
    pays little: its threshold grows with 2 log k, which is about two more runs from trial 300 to trial 3,000.
    """
    assert trial >= 1
    return math.log(level) + math.log(NIGHT) - math.log(NIGHT + trial - 1) - math.log(NIGHT + trial)
