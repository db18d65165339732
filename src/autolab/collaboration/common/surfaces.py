"""Surfaces: who is asked for one, and which ones a candidate touches if several hands were on it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from autolab.collaboration import Setting
from autolab.ledger.records import Proposal
from autolab.pack import PACK
from autolab.pack.roles import agent_files


def expert(setting: Setting, surface: str) -> str:
    """The role for a surface: its specialist if the pack has one; in the generic control everybody is a worker."""
    known = f"specialists/{surface}" in agent_files(PACK / "agents")
    return "specialist" if known and not setting.generic else "worker"


def touching(surfaces: Iterable[str]) -> str:
    """What `Proposal.move` says of a candidate that touches these surfaces: one line of JSON."""
    return json.dumps({"surfaces": [surface for surface in dict.fromkeys(surfaces) if surface]})


def touched(proposal: Proposal) -> tuple[str, ...]:
    """Every surface that a candidate touches, each once; none if nobody named one."""
    try:
        found = json.loads(proposal.move)
    except (ValueError, RecursionError):
        found = None
    surfaces = found.get("surfaces") if isinstance(found, dict) else None
    if not isinstance(surfaces, list):
        surfaces = [proposal.surface]
    return tuple(dict.fromkeys(str(surface) for surface in surfaces if surface))
