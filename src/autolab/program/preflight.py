"""Checks on a new program before compute is spent on it."""

from __future__ import annotations

from autolab.program.hashing import Files, python_meaning

MAX_FILE_BYTES = 1_048_576


def preflight(files: Files) -> str | None:
    """The reason why these files cannot be run, or None.

    Python files must parse and compile. Nothing is executed.
    """
    for path, text in files.items():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return f"{path}: text is not valid Unicode"
        if size > MAX_FILE_BYTES:
            return f"{path}: {size} bytes; at most {MAX_FILE_BYTES}"
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
