"""Finds what looks like a token or a key in text that is about to be shown or published."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

# Prefixes that providers gave their tokens so that scanners can find them.
_KINDS = {
    "Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "npm or PyPI token": r"\b(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,})",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}
_SECRET_NAMES = re.compile(r"(?:TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_KEY)$", re.IGNORECASE)


@dataclass(frozen=True)
class Leak:
    """Where a secret is, and what sort of secret; never the secret itself."""

    file: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.kind}"


def find_leaks(file: str, text: str) -> list[Leak]:
    """Every secret in a text: by the prefixes that providers use, and by the values of this environment."""
    found = []
    values = _own_secrets()
    for number, line in enumerate(text.splitlines(), start=1):
        found += [Leak(file, number, kind) for kind, pattern in _PATTERNS.items() if pattern.search(line)]
        found += [Leak(file, number, f"value of {name}") for name, value in values.items() if value in line]
    return found


def redact(text: str) -> str:
    """The text with every secret replaced by a word for it."""
    for name, value in _own_secrets().items():
        text = text.replace(value, f"[{name}]")
    for kind, pattern in _PATTERNS.items():
        text = pattern.sub(f"[{kind}]", text)
    return text


def _own_secrets() -> dict[str, str]:
    """Values in the environment that their names call secret, and the stored token of the Hub."""
    secrets = {name: value for name, value in os.environ.items() if _SECRET_NAMES.search(name)}
    with_token = _stored_token()
    if with_token:
        secrets.setdefault("HF_TOKEN", with_token)
    return {name: value for name, value in secrets.items() if len(value) >= 12}


def _stored_token() -> str | None:
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    path = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None
