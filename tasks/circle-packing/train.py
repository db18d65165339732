"""Pack 26 circles into the unit square so that their radii add up to much, and leave the packing for the evaluator.

This is the one file that the lab's agents edit. Centres and radii start from a simple pattern and go downhill together
on a penalty: minus the sum of the radii, plus the squares of all overlaps, which weigh more and more. What comes out
still overlaps a little, so it is shrunk until it does not. The evaluator checks that with exact arithmetic.

The same program must leave the same packing each time: count steps, do not look at the clock, and let randomness start
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

CIRCLES = 26  # fixed: the task's
PATTERN = "hex"  # one of: "grid", "hex", "rings", "random"; where the centres start
FIRST_RADIUS = 0.05  # all circles start with it; range: 0.001 .. 0.2
JITTER = 0.05  # standard deviation of what is added to the centres at the start
TRIES = 1  # starts, of which the best packing is kept; range: 1 .. 12
DRAW = 1  # which jitters are drawn; range: 1 .. 1000
STEPS = 500  # of descent, for each try; range: 50 .. 5000
RATE = 0.003  # Adam's, of centres and radii
FINAL_RATE = 0.1  # share of RATE that is left at the end
MOMENTUM = 0.9  # Adam: decay of the mean gradient
DECAY = 0.99  # fixed: Adam, decay of the mean squared gradient
PENALTY = 10.0  # weight of squared overlaps at the start
STIFFENING = 10.0  # how many times as much they weigh at the end
MARGIN = 1e-12  # fixed: share by which every radius is shrunk at last, more than rounding can move


# -----------------------------------------------------------------------------------------------------------
# 2. Start.


def first_centres(random: np.random.Generator) -> np.ndarray:
    """Where the centres start: [CIRCLES, 2], inside the unit square."""
    if PATTERN == "random":
        return random.uniform(0.05, 0.95, (CIRCLES, 2))
    if PATTERN == "rings":
        counts, radii = (1, 5, 9, 11), (0.0, 0.17, 0.33, 0.45)
        turns = [np.arange(count) * 2 * np.pi / count for count in counts]
        rings = [0.5 + r * np.stack((np.cos(t), np.sin(t)), 1) for r, t in zip(radii, turns, strict=True)]
        return np.concatenate(rings)
    per_row = (5, 5, 6, 5, 5) if PATTERN == "grid" else (5, 4, 5, 4, 5, 3)
    rows = [
        np.stack(((np.arange(count) + 0.5) / count, np.full(count, (row + 0.5) / len(per_row))), 1)
        for row, count in enumerate(per_row)
    ]
    return np.concatenate(rows)


# -----------------------------------------------------------------------------------------------------------
# 3. Descent.


def penalty_gradient(centres: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of half the sum of squared overlaps, with each other and with the walls: [n, 2] and [n]."""
    apart = centres[:, None] - centres[None]
    distance = np.sqrt((apart**2).sum(-1)) + 1e-12
    overlap = np.maximum(radii[:, None] + radii[None] - distance, 0)
    np.fill_diagonal(overlap, 0)
    low = np.maximum(radii[:, None] - centres, 0)
    high = np.maximum(centres + radii[:, None] - 1, 0)
    push = ((overlap / distance)[..., None] * apart).sum(1)
    return high - low - push, overlap.sum(1) + (low + high).sum(1)


def descend(centres: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """STEPS of Adam on all coordinates at once."""
    state = np.concatenate((centres, radii[:, None]), 1)
    mean, square = np.zeros_like(state), np.zeros_like(state)
    for step in range(STEPS):
        progress = step / STEPS
        weight = PENALTY * STIFFENING**progress
        by_centre, by_radius = penalty_gradient(state[:, :2], state[:, 2])
        gradient = np.concatenate((weight * by_centre, (weight * by_radius - 1)[:, None]), 1)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        square = DECAY * square + (1 - DECAY) * gradient**2
        unbiased = np.sqrt(square / (1 - DECAY ** (step + 1))) + 1e-9
        state = state - RATE * FINAL_RATE**progress * mean / (1 - MOMENTUM ** (step + 1)) / unbiased
        state = np.clip(state, 1e-4, 1 - 1e-4)
    return state[:, :2], state[:, 2]


# -----------------------------------------------------------------------------------------------------------
# 4. From nearly a packing to a packing.


def settle(centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Radii for these centres with which nothing overlaps: all shrunk by what the worst overlap asks for."""
    distance = np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    wall = np.minimum(centres, 1 - centres).min(1)
    share = min((distance / (radii[:, None] + radii[None])).min(), (wall / radii).min(), 1.0)
    radii = radii * share
    return radii * (1 - MARGIN)


def pack(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One packing: centres [CIRCLES, 2] and radii [CIRCLES]."""
    centres = np.clip(first_centres(random) + JITTER * random.normal(size=(CIRCLES, 2)), 0.02, 0.98)
    radii = np.full(CIRCLES, FIRST_RADIUS)
    centres, radii = descend(centres, radii)
    return centres, settle(centres, radii)


def main() -> None:
    """The best of a few packings, as JSON numbers in $AUTOLAB_ARTIFACT/construction.json."""
    random = np.random.default_rng(DRAW)
    centres, radii = max((pack(random) for _ in range(TRIES)), key=lambda packing: float(packing[1].sum()))
    circles = [[*centre, radius] for centre, radius in zip(centres.tolist(), radii.tolist(), strict=True)]
    folder = Path(os.environ.get("AUTOLAB_ARTIFACT") or ".autolab/by-hand")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "construction.json").write_text(json.dumps({"circles": circles}), encoding="ascii")
    print(f"{CIRCLES} circles whose radii add up to {radii.sum():.6f}, by this file's own account")


if __name__ == "__main__":
    main()
