"""What hardware the Hub has for jobs and what it costs; amounts and times as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.connection import explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LONGEST = 24 * 3600  # seconds of a job; a longer time is more likely a typing error
FURTHEST = 3650 * 86400  # seconds to look back
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PER_MINUTE = {"second": 60.0, "minute": 1.0, "hour": 1 / 60}


@dataclass(frozen=True)
class Flavor:
    """A sort of machine and its price."""

    name: str
    cpu: str
    memory: str
    accelerator: str
    usd_per_minute: float

    def cost(self, seconds: float) -> float:
        """USD for so many seconds; every minute that was begun is paid for."""
        return self.usd_per_minute * math.ceil(seconds / 60)


def hardware(api: HfApi) -> list[Flavor]:
    """Every flavor with its price, cheapest first."""
    with explained("the list of hardware"):
        rows = api.list_jobs_hardware()
    flavors = []
    for row in rows:
        if row.unit_label not in _PER_MINUTE:
            raise LabError(
                f"prices by the {row.unit_label!r}", where=row.name, mend="a newer Autolab may know it"
            )
        gpu = row.accelerator
        text = f"{gpu.quantity}x {gpu.model} {gpu.vram}" if gpu else ""
        price = row.unit_cost_usd * _PER_MINUTE[row.unit_label]
        flavors.append(Flavor(row.name, row.cpu, row.ram, text, price))
    return sorted(flavors, key=lambda flavor: (flavor.usd_per_minute, flavor.name))


def find_flavor(flavors: Sequence[Flavor], name: str) -> Flavor:
    """A flavor by its name. Raises LabError that names those there are."""
    for flavor in flavors:
        if flavor.name == name:
            return flavor
    known = ", ".join(flavor.name for flavor in flavors)
    raise LabError(f"unknown flavor {name[:40]!r}", mend=f"one of: {known}")


def parse_duration(text: str) -> int:
    """Seconds in `90s`, `10m`, `1.5h`. Raises LabError for anything else: a number alone could be minutes."""
    seconds = _seconds(text)
    if not 1 <= seconds <= LONGEST:
        raise LabError(
            f"{text[:40]!r} is not a time from 1s to 24h", where="--timeout", mend="such as 90s, 10m or 2h"
        )
    return seconds


def parse_since(text: str) -> int:
    """Seconds in `12h`, `7d`: how far to look back. Raises LabError."""
    seconds = _seconds(text)
    if not 1 <= seconds <= FURTHEST:
        raise LabError(
            f"{text[:40]!r} is not a time from 1s to 3650d", where="--since", mend="such as 24h or 7d"
        )
    return seconds


def check_amount(usd: float, where: str) -> float:
    """The amount, if it is one. Raises LabError for nan, infinity, and what is not above zero."""
    if not usd > 0 or not math.isfinite(usd):
        raise LabError("is not an amount", where=where, mend="such as 0.50")
    return usd


def show_hardware(flavors: Sequence[Flavor]) -> str:
    """One line for each flavor, for people and models."""
    return "\n".join(
        f"{flavor.name:<16} ${flavor.usd_per_minute * 60:>6.2f}/h  ${flavor.usd_per_minute:.4f}/min  "
        f"{flavor.cpu}, {flavor.memory}{', ' + flavor.accelerator if flavor.accelerator else ''}"
        for flavor in flavors
    )


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip(), re.ASCII)
    return math.ceil(float(match[1]) * _UNITS[match[2]]) if match else 0
