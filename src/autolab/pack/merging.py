"""Adds strings to lists in a JSON settings file that belongs to the user, and takes the same ones out again."""

from __future__ import annotations

import json
import re
from typing import Any

from autolab.errors import LabError

Lists = dict[tuple[str, ...], list[str]]
"""Path of keys to strings, as in `{("permissions", "allow"): ["Bash(ls)"]}`."""


def added(data: bytes | None, lists: Lists, *, where: str) -> Lists:
    """Those of `lists` that are not in the file yet. Raises LabError if the file is not such an object."""
    settings = _load(data, where)
    new: Lists = {}
    for keys, rules in lists.items():
        there = _list_at(settings, keys, where)
        missing = [rule for rule in rules if rule not in there]
        if missing:
            new[keys] = missing
    return new


def merged(data: bytes | None, lists: Lists, *, where: str) -> bytes:
    """The file with `lists` at the ends of its own; its order, indentation and line ends stay."""
    settings = _load(data, where)
    for keys, rules in lists.items():
        inner = settings
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner.setdefault(keys[-1], []).extend(rules)
    return _dump(settings, data)


def without(data: bytes, lists: Lists, *, where: str) -> bytes:
    """The file without `lists`, and without the lists and objects that are empty then."""
    settings = _load(data, where)
    found = False
    for keys, rules in lists.items():
        there = _list_at(settings, keys, where)
        if not any(rule in rules for rule in there):
            continue
        found = True
        chain = [settings]
        for key in keys[:-1]:
            chain.append(chain[-1][key])
        chain[-1][keys[-1]] = [rule for rule in there if rule not in rules]
        for inner, key in zip(reversed(chain), reversed(keys), strict=True):
            if not inner[key]:
                del inner[key]
    return _dump(settings, data) if found else data


def same_settings(one: bytes | None, other: bytes | None) -> bool:
    """Whether two files say the same; no file says as much as an empty object."""
    try:
        return bool(_load(one, "") == _load(other, ""))
    except LabError:
        return False


def _load(data: bytes | None, where: str) -> dict[str, Any]:
    if data is None or not data.strip():
        return {}
    try:
        settings = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise LabError(
            f"is no valid JSON ({error})", where=where, mend="correct it; nothing was changed"
        ) from error
    if not isinstance(settings, dict):
        raise LabError("is no JSON object", where=where, mend="correct it; nothing was changed")
    return settings


def _list_at(settings: dict[str, Any], keys: tuple[str, ...], where: str) -> list[Any]:
    inner: Any = settings
    for key in keys[:-1]:
        inner = inner.get(key, {})
        if not isinstance(inner, dict):
            raise LabError(f"{key} is no object", where=where, mend="correct it; nothing was changed")
    there = inner.get(keys[-1], [])
    if not isinstance(there, list):
        raise LabError(f"{'.'.join(keys)} is no list", where=where, mend="correct it; nothing was changed")
    return there


def _dump(settings: dict[str, Any], like: bytes | None) -> bytes:
    text = (like or b"\n").decode("utf-8-sig")
    found = re.search(r'\n([ \t]+)"', text)
    lines = json.dumps(settings, indent=found[1] if found else 2, ensure_ascii=False)
    if text.endswith("\n"):
        lines += "\n"
    if "\r\n" in text:
        lines = lines.replace("\n", "\r\n")
    start = b"\xef\xbb\xbf" if like and like.startswith(b"\xef\xbb\xbf") else b""
    return start + lines.encode("utf-8")
