"""A local stand-in for the Hugging Face Hub that the real `huggingface_hub` client and `hf` run against.

    with HubServer(tmp_path) as hub:
        hub.papers["2407.21783"] = APaper(…)
        hub.faults.append(Fault(r"GET /api/papers", status=429, headers={"Retry-After": "1"}))
        hub.faults.append(Chance(r"/api/jobs", share=0.05, seed=1))
        … HF_ENDPOINT=hub.base HF_TOKEN=ALICE …, then look at hub.requests, hub.repos, hub.buckets,
        hub.jobs and hub.bill()

Written from the routes that the client calls; what the client does is real, what the server does is ours.
Large files and buckets go through Xet's own protocol, over HTTP (`hub.store`). Jobs are really run, as local
processes; those with volumes see them at their places, by bubblewrap. Loopback only; no security boundary.
"""

from __future__ import annotations

from stand_ins.hub.faults import Chance, Fault
from stand_ins.hub.papers import APaper
from stand_ins.hub.server import ALICE, BOB, HubServer

__all__ = ["ALICE", "BOB", "APaper", "Chance", "Fault", "HubServer"]
