"""What the name of a metric says about it: which way is better, and which numbers it can never be."""

from __future__ import annotations

import re
from pathlib import Path

from autolab.errors import LabError
from autolab.ledger.imports.imported import Direction

RATE = re.compile(
    r"(?<![a-z])(tok|token|sample|step|image|img|it|iter|req|request)s?((_per_|/)s(ec|econd|econds)?|_s)(?![a-z])"
    r"|throughput"
)
POSITIVE = ("bpb", "bpc", "ppl", "perplexity", "mae", "mse", "rmse", "seconds", "sec", "s", "ms", "latency")
NEVER_ZERO = (*POSITIVE, "loss", "nll")  # where it is 0, nothing was measured
LOWER = (*NEVER_ZERO, "error", "err", "wer", "cer", "brier", "time")
HIGHER = ("acc", "accuracy", "core", "score", "reward", "f1", "auc", "psnr", "bleu", "iou", "map", "precision",
          "recall", "mfu")  # fmt: skip


def direction_of(metric: str, wanted: str | None, *, where: Path) -> Direction:
    """`wanted` if it is given, else what the metric's name says. Raises LabError where it says nothing, or both."""
    known: dict[str | None, Direction] = {"minimize": "minimize", "maximize": "maximize"}
    if wanted is not None and wanted not in known:
        raise LabError(
            f"there is no direction {wanted!r}", mend="--direction minimize or --direction maximize"
        )
    if wanted is not None:
        return known[wanted]
    if _is_rate(metric):
        return "maximize"
    lower, higher = _says(metric, LOWER), _says(metric, HIGHER)
    if lower == higher:
        raise LabError(
            f"whether a lower or a higher {metric!r} is better is not clear from its name",
            where=str(where),
            mend="--direction minimize or --direction maximize",
        )
    return "minimize" if lower else "maximize"


def never(metric: str, score: float) -> bool:
    """Whether no measurement can have this score: bits per byte, squared errors, times and rates are above 0."""
    if score > 0 or (_says(metric, HIGHER) and not _is_rate(metric)):
        return False
    return _is_rate(metric) or _says(metric, POSITIVE if score < 0 else NEVER_ZERO)


def _is_rate(metric: str) -> bool:
    return RATE.search(metric.lower()) is not None


def _says(metric: str, words: tuple[str, ...]) -> bool:
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric)
    parts = [part for part in re.split(r"[^a-z0-9]+", split.lower()) if part]
    return any(
        part in words or any(len(word) > 2 and part.endswith(word) for word in words) for part in parts
    )
