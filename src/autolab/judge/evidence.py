"""Evidence that may be looked at after every run: likelihood ratios with an unknown variance.

The ratio of two likelihoods is a test martingale under the null: the chance that it ever exceeds 1/a is at most a,
however often it is looked at and whenever one stops (Ville 1939; Wald, "Sequential analysis", 1947). Here that holds
approximately, because the scale is pooled over programs and learned while one looks; benchmarks/promotion.py measures
what is left of it. The variance is
integrated out, which turns the normal likelihoods into Student's (sequential t-test: Rushton 1950; Lai 1976; Wang and
Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", 2024).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

# The alternative is the target effect, with something set aside for larger ones, so that a huge effect is not mistaken
# for noise with a wide scale: a mixture of alternatives is an alternative (Robbins 1970). The rest are normal priors
# around the null with standard deviations of 2, 4, 8, ... target effects, and shares that add up to LARGER.
LARGER = 0.15
FARTHEST = 1e9  # standard errors; beyond it nothing changes, and squares would overflow
WIDER = tuple((2.0 ** (k + 1), math.log(LARGER / ((k + 1) * (k + 2)))) for k in range(40))


def log_ratio(gain: float, scale: float, df: float, null: float, effect: float) -> float:
    """Log likelihood ratio of a true gain of null + effect to one of null, for an estimate `gain` whose standard error
    is `scale`, estimated with `df` degrees of freedom."""
    return _log_ratio((gain - null) / scale, effect / scale, df)


def log_evidence(gain: float, scale: float, df: float, null: float, effect: float) -> float:
    """As `log_ratio`, for a mixture of gains of null + effect and larger ones; never too much for a gain below null."""
    z, step = min((gain - null) / scale, FARTHEST), effect / scale
    terms = [math.log1p(-LARGER) + _log_ratio(z, step, df)]
    if z > 0:  # half of each prior is left out, and its share with it: a bound from below
        for times, log_share in WIDER:
            terms.append(log_share + _wide_log_ratio(z, times * step, df))
            if times * step > 4 * z + 4:
                break  # wider ones say less and less
    highest = max(terms)
    return highest + math.log(math.fsum(math.exp(term - highest) for term in terms))


def _wide_log_ratio(z: float, sd: float, df: float) -> float:
    """Student's statistic under a normal prior of this SD (in standard errors) for the effect, against none."""
    widened = 1.0 + sd * sd
    ratio = math.log1p(z * z / df) - math.log1p(z * z / (df * widened))
    return 0.5 * (df + 1) * ratio - 0.5 * math.log(widened)


def _log_ratio(z: float, step: float, df: float) -> float:
    return 0.5 * (df + 1) * (math.log1p(z * z / df) - math.log1p((z - step) ** 2 / df))


@lru_cache(maxsize=4096)
def student(probability: float, df: float) -> float:
    """Quantile of Student's t (exact for 1 and 2 degrees of freedom, else Cornish and Fisher, 1938)."""
    tail = 2 * probability - 1
    if df < 2:
        return math.tan(math.pi * (probability - 0.5))
    if df < 3:
        return tail * math.sqrt(2 / (1 - tail * tail))
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )
