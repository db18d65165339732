"""Text and JSON, written by the lab or by a measured program: parsed, made safe to show, searched.

Standard library only, and nothing from autolab: the runner imports this by path on other machines.
The packages `re` and `json` are used only where a run went wrong: with all that they import they take 11 ms,
which is more than the runner's other work on a short trial.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in typing, whose import would take long, too
if TYPE_CHECKING:
    from typing import Any

CAUSE = 200  # characters
DEEPEST = 16  # nesting of values in a clock file

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf|infinity)"
_ANSI = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])"
_RAISED = r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|Warning|Group|Iteration)\b.*$"
_FRAME = r'^ *File "(.+)", line (\d+)'
# Control characters, and those that reorder or hide text on a screen; newline stays, tab becomes a space.
_UNWANTED: dict[int, str | None] = dict.fromkeys(
    (
        *(*range(32), *range(127, 160), 0x200E, 0x200F, 0xFEFF),
        *(*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)),
    )
)
_UNWANTED |= {9: " ", 10: "\n"}


def parse_json(data: bytes | str) -> Any:
    """json.loads, by the C scanner that does its work. Raises ValueError or RecursionError.

    Like json.loads it takes NaN and Infinity.
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        from _json import make_scanner

        options: Any = _ScannerOptions()
        value, end = make_scanner(options)(text, len(text) - len(text.lstrip()))
    except (ImportError, StopIteration, SystemError):
        # Not CPython, or not JSON: then the package says what is wrong.
        import json

        return json.loads(text)
    if text[end:].strip():
        raise ValueError("text after the end of the JSON value")
    return value


class _ScannerOptions:
    """What json.JSONDecoder tells the scanner, by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def to_json(value: object) -> str:
    """json.dumps for plain values. Raises ValueError for what JSON has not: NaN, other types."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(str(key))}: {to_json(item)}" for key, item in value.items()) + "}"
    raise ValueError(f"JSON cannot hold {value!r}")


def _quoted(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        import json

        return json.dumps(text)
    return str(encode_basestring_ascii(text))


def scrub(data: bytes | str) -> str:
    """Plain text that is safe to show on a terminal: newlines kept, other control characters dropped."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if "\x1b" in text:
        import re

        text = re.sub(_ANSI, "", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_UNWANTED)


def one_line(text: str, limit: int = CAUSE) -> str:
    """Scrubbed text on one line, cut to `limit` characters, without lone surrogates."""
    line = " ".join(scrub(text).split()).encode("utf-8", "replace").decode()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def failure_line(log: str, own_files: list[str]) -> str:
    """The most telling line of a failed run's output: its last exception, with the place it came from.

    Places in `own_files` (the task's files, relative paths) are preferred to those in libraries.
    """
    import re

    lines = log.splitlines()
    for index in range(len(lines) - 1, -1, -1):
        if re.match(_RAISED, lines[index]):
            break
    else:
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    place = ""
    for line in reversed(lines[:index]):
        if line.startswith("Traceback (most"):
            break
        frame = re.match(_FRAME, line)
        if frame is None:
            continue
        path, number = frame.groups()
        own = next((name for name in own_files if path == name or path.endswith("/" + name)), None)
        if own is not None:
            place = f"{own}:{number}"
            break
        place = place or f"{os.path.basename(path)}:{number}"
    return f"{one_line(lines[index], CAUSE - 60)} ({place})" if place else lines[index]


def last_value(log: str, name: str) -> float | None:
    """The number in the last line `name: number` or `name = number`, or None; may be nan or infinite."""
    import re

    found = re.findall(rf"^{re.escape(name)}[ ]*[:=][ ]*({_NUMBER})[ ]*$", log, re.M | re.I)
    return float(found[-1]) if found else None


def failure_status(line: str) -> str:
    """The status that a failed program's last words speak for."""
    import re

    if re.search(r"MemoryError|std::bad_alloc|out of memory|can(?:'|no)t allocate memory", line, re.I):
        return "oom"
    if re.search(r"\[Errno (27|28)\]", line):  # file too large, no space left
        return "over_size"
    if re.search(r"\bnan\b|non-?finite|not finite", line, re.I):
        return "nan"
    return "crash"


def parse_clock(data: bytes) -> dict[str, Any] | None:
    """A recipe's clock file if it is a sane JSON object, else None. Its content is not to be trusted."""
    try:
        clock = parse_json(data)
    except (ValueError, RecursionError):
        return None
    return clock if isinstance(clock, dict) and _sane(clock, DEEPEST) else None


def _sane(value: object, depth: int) -> bool:
    """Free of what other readers would choke on: deep nesting, NaN, huge numbers, lone surrogates."""
    if isinstance(value, dict):
        return depth > 0 and all(_sane(key, 0) and _sane(item, depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_sane(item, depth - 1) for item in value)
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, int | float):
        return abs(value) < 1e300
    return value is None
