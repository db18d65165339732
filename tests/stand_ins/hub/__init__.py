"""A local stand-in for the Hugging Face Hub that the real `huggingface_hub` client and `hf` run against.

    with HubServer(tmp_path) as hub:
        hub.papers["2407.21783"] = APaper(…)
        hub.faults.append(Fault(r"GET /api/papers", status=429, headers={"Retry-After": "1"}))
        … HF_ENDPOINT=hub.base HF_TOKEN=ALICE …, then look at hub.requests and hub.repos

Written from the routes that the client calls; what the client does is real, what the server does is ours.
Jobs are really run, as local processes. Loopback only; it is no security boundary.
"""

from __future__ import annotations

from stand_ins.hub.faults import Fault
from stand_ins.hub.papers import APaper
from stand_ins.hub.server import ALICE, BOB, HubServer

__all__ = ["ALICE", "BOB", "APaper", "Fault", "HubServer"]
