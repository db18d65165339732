"""Checks on a new program before compute is spent on it."""

from __future__ import annotations

from autolab.program.hashing import Files, python_meaning

MAX_BYTES = 1_048_576


def preflight(files: Files, limit: int = MAX_BYTES) -> str | None:
    """The reason why these files cannot be run, or None; together they may take `limit` bytes.

    Python files must parse and compile. Nothing is executed.
    """
    total = 0
    for path, text in files.items():
        try:
            total += len(text.encode())
        except UnicodeEncodeError:
            return f"{path}: text is not valid Unicode"
        if total > limit:
            return f"{path}: the program is larger than {limit} bytes; at most that is allowed"
        if not text.strip():
            return f"{path}: is empty"
        if not path.endswith(".py"):
            continue
        try:
            python_meaning(text)
        except SyntaxError as error:
            return f"{path}, line {error.lineno}: {error.msg}"
        except (ValueError, RecursionError, MemoryError) as error:
            return f"{path}: cannot be compiled: {error or type(error).__name__}"
    return None
