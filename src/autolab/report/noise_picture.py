"""A picture of the noise: how runs of the same code scatter, and where the master stood on each host over time."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolab.judge.noise import Noise, replicates, residuals
from autolab.ledger.records import Observation

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REST = "#999999"  # all further hosts


def draw_noise(
    noise: Noise, sample: Sequence[Observation], master: Sequence[Observation], metric: str, path: Path
) -> None:
    """Draw both panels into `path`, whose suffix says how. `sample` is what the noise was learned from, `master` the
    master's measurements in this campaign."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    hosts = sorted({seen.host for seen in (*sample, *master)})
    colors = {host: COLORS[k] if k < len(COLORS) else REST for k, host in enumerate(hosts)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=(2, 3))
    found = {
        host: [r for runs in groups for r in residuals(runs)] for host, groups in replicates(sample).items()
    }
    _scatter(left, noise, found, colors)
    left.locator_params(axis="x", nbins=5)
    left.set_xlabel(f"{metric}: runs of the same code, from their mean")
    _levels(right, master, colors)
    right.set_xlabel("trial for which the master was measured")
    right.set_ylabel(metric)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _scatter(axes: Any, noise: Noise, found: dict[str, list[float]], colors: dict[str, str]) -> None:
    count = sum(map(len, found.values()))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if noise.state != "known":
        said = "nothing was measured twice" if noise.state == "unknown" else f"{count} runs, the same digits"
        axes.text(0.5, 0.5, said, ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        return
    bins = max(7, min(31, round(2 * math.sqrt(count))))
    hosts = list(found)
    axes.hist(
        [found[host] for host in hosts],
        bins=bins,
        stacked=True,
        density=True,
        color=[colors[host] for host in hosts],
        edgecolor="white",
        lw=0.5,
    )
    reach = 4 * noise.sd
    grid = [reach * (step / 100 - 1) for step in range(201)]
    normal = statistics.NormalDist(0, noise.sd)
    axes.plot(
        grid, [normal.pdf(x) for x in grid], color="#000000", lw=1.2, label=f"normal, SD {noise.sd:.2g}"
    )
    axes.set_title(f"{count} runs of programs measured more than once", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _levels(axes: Any, master: Sequence[Observation], colors: dict[str, str]) -> None:
    by_host: dict[str, list[Observation]] = defaultdict(list)
    for seen in master:
        by_host[seen.host].append(seen)
    for host, runs in sorted(by_host.items()):
        axes.plot(
            [one.at for one in runs],
            [one.score for one in runs],
            "o",
            ms=4,
            alpha=0.7,
            color=colors[host],
            label=host or "unnamed host",
        )
    axes.set_title("The master's runs: drift, and how hosts differ", loc="left", fontsize=10)
    if by_host:
        axes.legend(frameon=False, fontsize=8, title="host", title_fontsize=8)
