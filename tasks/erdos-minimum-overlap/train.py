"""Find a step function whose overlap with its complement is small at every shift, and leave it for the evaluator.

This is the one file that the lab's agents edit. A function h on [0, 2] with values in [0, 1] and the integral 1 starts
from a simple shape and goes downhill on a smooth maximum of its overlaps, which gets sharper and sharper. The evaluator
recomputes the largest overlap exactly: it is an upper bound on Erdős' minimum overlap constant.

The same program must leave the same function each time: count steps, do not look at the clock, and let randomness start
from a number that stands here. `$AUTOLAB_SEED` plays no part.

    python train.py && python evaluate.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

# -----------------------------------------------------------------------------------------------------------
# 1. Knobs.

PIECES = 41  # steps of the function; range: 4 .. 400
SHAPE = "cosine"  # one of: "cosine", "flat", "triangle", "plateau"; where h starts
NOISE = 0.02  # standard deviation of what is added at the start
DRAW = 1  # which noise is drawn; range: 1 .. 1000
STEPS = 500  # of descent; range: 50 .. 20000
RATE = 0.005  # length of the first steps
FINAL_RATE = 0.03  # share of RATE that is left at the end
MOMENTUM = 0.9  # decay of the mean gradient
SHARPNESS = 100.0  # of the smooth maximum at the start: 1 / how far below the largest an overlap still counts
SHARPENING = 10.0  # how many times as sharp it is at the end


# -----------------------------------------------------------------------------------------------------------
# 2. Start.


def first_function() -> np.ndarray:
    """Where h starts: [PIECES], in [0, 1], with the sum PIECES / 2."""
    place = np.linspace(-1, 1, PIECES)
    shapes = {
        "cosine": 0.5 + 0.5 * np.cos(np.pi * place),
        "flat": np.full(PIECES, 0.5),
        "triangle": 1 - np.abs(place),
        "plateau": (np.abs(place) < 0.7) * 0.75,
    }
    noise = np.random.default_rng(DRAW).normal(size=PIECES)
    return project(shapes[SHAPE] + NOISE * noise)


def project(h: np.ndarray) -> np.ndarray:
    """Into [0, 1] and to the sum PIECES / 2, nearly: clipped and moved in turn."""
    for _ in range(6):
        h = np.clip(h + 0.5 - h.mean(), 0, 1)
    return h


# -----------------------------------------------------------------------------------------------------------
# 3. Descent.


def overlaps(h: np.ndarray) -> np.ndarray:
    """The overlap of h with its complement at all shifts by whole steps: [2 * PIECES - 1]."""
    return np.correlate(h, 1 - h, mode="full") * 2 / PIECES


def overlap_gradient(h: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gradient of the weighted sum of all overlaps, times PIECES / 2: [PIECES]. weights: [2 * PIECES - 1]."""
    as_h = np.convolve(weights, 1 - h, mode="valid")
    as_complement = np.correlate(weights, h, mode="valid")[::-1]
    return as_h - as_complement


def descend(h: np.ndarray) -> np.ndarray:
    """STEPS of projected descent with momentum; returns the best function on the way."""
    mean = np.zeros_like(h)
    best, lowest = h, np.inf
    for step in range(STEPS):
        progress = step / STEPS
        found = overlaps(h)
        highest = found.max()
        if highest < lowest:
            best, lowest = h, highest
        weights = np.exp(SHARPNESS * SHARPENING**progress * (found - highest))
        weights = weights / weights.sum()
        gradient = overlap_gradient(h, weights)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        h = project(h - RATE * FINAL_RATE**progress * mean)
    return best


def main() -> None:
    """The function, as JSON numbers in $AUTOLAB_ARTIFACT/construction.json."""
    h = descend(first_function())
    folder = Path(os.environ.get("AUTOLAB_ARTIFACT") or ".autolab/by-hand")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "construction.json").write_text(json.dumps({"steps": h.tolist()}), encoding="ascii")
    print(f"{PIECES} steps, largest overlap {overlaps(h).max():.6f}, by this file's own account")


if __name__ == "__main__":
    main()
