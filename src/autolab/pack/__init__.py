"""The skill pack: agents, skills, scripts and the plugin, and what reads, checks and installs them."""

from __future__ import annotations

from pathlib import Path

PACK = Path(__file__).parent / "files"
"""The folder with `agents`, `skills`, `scripts` and `plugin`."""
