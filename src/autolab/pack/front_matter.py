"""The head of an agent's or a skill's file: YAML between two lines of three dashes, then the text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from autolab.errors import LabError

_PARTS = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$\n?(.*)\Z", re.DOTALL | re.MULTILINE)


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The head and the text below it, stripped. Raises LabError if the file cannot be read or has no such head."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"cannot be read: {problem}", where=str(path), mend="restore the file") from None
    found = _PARTS.match(text)
    if found is None:
        raise LabError("has no front matter", where=str(path), mend="begin with ---, YAML, ---")
    # libyaml's parser where PyYAML was built with it: ten times as quick, and every command of an agent waits for it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(found[1])
    try:
        node = loader.get_single_node()
        _check_keys(node, path)
        head = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as problem:
        reason = " ".join(str(problem).split())[:160]
        raise LabError(f"front matter is no YAML: {reason}", where=str(path), mend="quote it") from None
    if not isinstance(head, dict) or not all(isinstance(key, str) for key in head):
        raise LabError("front matter is no map of names", where=str(path), mend="write `name: value` lines")
    return head, found[2].strip()


def _check_keys(node: Any, path: Path) -> None:
    """Raises LabError for a name that stands twice in one map: OpenCode drops such a file without a word."""
    pairs = node.value if node is not None and node.id == "mapping" else []
    names = [key.value for key, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LabError(f"front matter names {twice!r} twice", where=str(path), mend="keep one of them")
    for _, value in pairs:
        _check_keys(value, path)
