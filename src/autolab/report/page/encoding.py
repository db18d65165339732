"""Data on its way into the page: JSON that no browser can take for markup, and that never rounds."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

_MARKUP = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def encoded(value: Any) -> str:
    """JSON of records, mappings and lists, in ASCII and without `<`, `>` and `&`: it can stand in a script element.

    Floats are whole (`repr`). JSON has no word for those that are not finite: they become "nan", "inf" and "-inf".
    """
    try:
        text = json.dumps(value, default=_record, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return text.translate(_MARKUP)


def columns(kind: type, records: Sequence[Any]) -> dict[str, list[Any]]:
    """A list of one kind of records as a list for each field: a third of the bytes."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: [getattr(record, name) for record in records] for name in names}


def _record(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"no JSON for {type(value).__name__}")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return _finite(_record(value)) if dataclasses.is_dataclass(value) else value
