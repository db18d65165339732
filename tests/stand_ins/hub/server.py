"""The stand-in Hub: all that it knows, and the threads that serve it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from stand_ins.hub import buckets, hardware, jobs, papers, repos, uploads
from stand_ins.hub.handler import Site
from stand_ins.hub.routing import Routes
from stand_ins.hub.xet import XetStore

# In pieces, so that nobody's scanner takes them for real ones.
ALICE, BOB = "hf" + "_" + "alice" * 7, "hf" + "_" + "bobby" * 7

account = Routes()


class HubServer(Site):
    """The Hub: everything that it knows, and a thread that serves it. `base` is its HF_ENDPOINT.

    To be set by tests, any time: `faults`; `credit` (USD that each account may spend on jobs, or None);
    `stuck` (whether a job stays in SCHEDULING until it is cancelled); `scheduling_seconds`;
    `flush_seconds` (how long after a job's end its files appear in buckets; 0 is before the end);
    `page_size` (jobs of a listing in one answer).
    """

    def __init__(self, root: Path, *, scheduling_seconds: float = 0.0) -> None:
        super().__init__(TABLE)
        self.root = root
        self.tokens = {ALICE: "alice", BOB: "bob"}
        self.repos: dict[tuple[str, str], repos.Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.store = XetStore(root / "xet")
        self.buckets: dict[str, buckets.Bucket] = {}
        self.jobs: dict[str, jobs.Job] = {}
        self.scheduling_seconds = scheduling_seconds
        self.flush_seconds = 0.0
        self.page_size = 50
        self.credit: float | None = None
        self.stuck: Callable[[jobs.Job], bool] = lambda job: False
        self.papers: dict[str, papers.APaper] = {}

    def __enter__(self) -> Self:
        self.store.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for job in list(self.jobs.values()):
            job.cancel()
        for thread in threading.enumerate():
            if thread.name.removeprefix("job-") in self.jobs:
                thread.join(timeout=10)
        self.store.__exit__()

    def bill(self) -> dict[str, float]:
        """What each job costs up to now, in USD, by its id."""
        return {job.id: job.cost() for job in list(self.jobs.values())}

    def spent(self, owner: str) -> float:
        """What an account's jobs cost up to now, in USD."""
        return sum(job.cost() for job in list(self.jobs.values()) if job.owner == owner)


@account.add("GET", "/api/whoami-v2")
def _whoami(call: Any, hub: HubServer) -> None:
    name = call.user()
    call.json({"type": "user", "id": f"u-{name}", "name": name, "fullname": name.title(), "orgs": [],
               "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}})  # fmt: skip


@account.add("GET", "/api/agent-harnesses")
def _harnesses(call: Any, hub: HubServer) -> None:
    call.json({"standardEnvVars": [], "harnesses": {}})


@account.add("POST", "/api/validate-yaml")
def _validate(call: Any, hub: HubServer) -> None:
    call.json({"errors": [], "warnings": []})


TABLE = [
    route
    for module in (
        account,
        hardware.routes,
        jobs.routes,
        papers.routes,
        uploads.routes,
        buckets.routes,
        repos.routes,
    )
    for route in module.table
]
