"""What costs money or is seen by others needs a person's word, given where no agent can give it.

A prompt rule ("launch only if asked") is no boundary: a paper or a log may have told the agent that it was asked.
The person says it in the environment in which they start OpenCode; agents' commands cannot change that one.
"""

from __future__ import annotations

import os

from autolab.errors import LabError

SPEND, PUSH = "AUTOLAB_AGENTS_MAY_SPEND", "AUTOLAB_AGENTS_MAY_PUSH"


def may_spend(dollars: float) -> None:
    """Raises LabError if an agent asks for a job that costs more than a person allowed for one."""
    if not os.environ.get("AUTOLAB_ROLE"):
        return
    said = os.environ.get(SPEND, "")
    try:
        allowed = float(said or 0)
    except ValueError:
        allowed = 0.0
    if not dollars <= allowed:
        raise LabError(
            f"an agent may spend ${allowed:.2f} on a job, and --max-usd is ${dollars:.2f}",
            mend=f"ask the person: they start OpenCode with {SPEND}={dollars:.2f}, or launch it themselves",
        )


def may_push(repo: str) -> None:
    """Raises LabError if an agent asks to push to a repo that no person named."""
    if os.environ.get("AUTOLAB_ROLE") and repo not in os.environ.get(PUSH, "").replace(",", " ").split():
        raise LabError(
            "an agent may not push there",
            where=f"repo {repo}",
            mend=f"ask the person: they start OpenCode with {PUSH}={repo}, or push it themselves",
        )
