"""OpenCode's configuration for a seat: one provider (the gateway), our roles, and nothing that asks or wanders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from autolab.harness.models import Model
from autolab.pack.roles import Role

NEVER = 3_600_000  # milliseconds; the gateway has better reasons to give up


def configuration(model: Model, roles: Iterable[Role], editable: Sequence[str]) -> dict[str, Any]:
    """opencode.json of a seat, whose project folder is the workspace itself: only `editable` may be edited, nothing
    can be run, and there is nobody to delegate to. The sandbox says the same once more."""
    allowed = {
        "*": "deny",
        "invalid": "allow",  # OpenCode's way to tell a model what was wrong with its call
        "read": {"*": "allow", "*.env": "deny", "*.env.*": "deny"},
        "grep": "allow",
        "glob": "allow",
        "list": "allow",
        "edit": {"*": "deny", **dict.fromkeys(editable, "allow")},
    }
    entry = {
        "name": model.name,
        "tool_call": True,  # the gateway takes tools away from models that have none
        "limit": {"context": model.context, "output": model.output},
    }
    agents = {
        role.name: {
            "description": role.description,
            "mode": "all",
            "prompt": role.prompt,
            "permission": allowed,
        }
        for role in roles
    }
    return {
        "$schema": "https://opencode.ai/config.json",
        "model": "lab/model",
        "small_model": "lab/model",
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "enabled_providers": ["lab"],
        "provider": {
            "lab": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Autolab's gateway",
                "options": {
                    "baseURL": "{env:AUTOLAB_MODEL_URL}",
                    "apiKey": "none",
                    "headerTimeout": NEVER,
                    "chunkTimeout": NEVER,
                },
                "models": {"model": entry},
            }
        },
        "permission": {**allowed, "external_directory": "deny", "doom_loop": "deny", "question": "deny"},
        "agent": {**agents, "title": {"disable": True}},
        "experimental": {"continue_loop_on_deny": True},
    }
