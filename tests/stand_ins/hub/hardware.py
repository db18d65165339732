"""What jobs can run on, and what a begun minute of it costs."""

from __future__ import annotations

import math
from typing import Any

from stand_ins.hub.routing import Routes

routes = Routes()
HARDWARE = [
    ("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", None, 167),
    ("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", ("T4", "1", "16 GB"), 6667),
    ("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", ("A100", "1", "80 GB"), 41667),
    ("h200", "Nvidia H200", "23 vCPU", "256 GB", ("H200", "1", "141 GB"), 83333),
]  # name, title, cpu, memory, accelerator (model, how many, memory), micro-dollars a minute
_PRICES = {row[0]: row[-1] for row in HARDWARE}


def known(flavor: object) -> bool:
    """Whether there is such hardware."""
    return flavor in _PRICES


def price(flavor: str, seconds: float) -> float:
    """What so many seconds cost, in USD; a begun minute is a minute, and so is no time at all."""
    return max(1, math.ceil(round(seconds, 3) / 60)) * _PRICES[flavor] / 1e6


def variables(flavor: str) -> dict[str, str]:
    """What a job is told about its machine."""
    _, _, cpu, memory, gpu, _ = next(row for row in HARDWARE if row[0] == flavor)
    return {"ACCELERATOR": gpu[0] if gpu else "none", "CPU_CORES": cpu.split()[0],
            "MEMORY": memory.replace(" GB", "Gi")}  # fmt: skip


@routes.add("GET", "/api/jobs/hardware")
def _hardware(call: Any, hub: Any) -> None:
    call.json([
        {"name": name, "prettyName": title, "cpu": cpu, "ram": memory, "ephemeralStorage": "50 GB",
         "unitCostMicroUSD": price, "unitCostUSD": price / 1e6, "unitLabel": "minute",
         "accelerator": gpu and {"type": "gpu", "model": gpu[0], "quantity": gpu[1], "vram": gpu[2],
                                 "manufacturer": "Nvidia"}}
        for name, title, cpu, memory, gpu, price in HARDWARE
    ])  # fmt: skip
