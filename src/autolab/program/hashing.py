"""Names of programs: by content, and by what the content means."""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType

Files = Mapping[str, str]
MAX_FINALLY_DEPTH = 6


def program_id(files: Files) -> str:
    """16 hex digits over paths and exact content."""
    digest = hashlib.sha256()
    for path in sorted(files):
        for part in (path, files[path]):
            raw = part.encode()
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:16]


def code_hash(files: Files) -> str:
    """16 hex digits that comments, white space and docstrings do not change.

    Python files count by their compiled code without docstrings and line numbers, others by their bytes;
    so 11,153 "experiments" that differ in a comment are one program. A file that does not compile counts
    by its bytes (preflight refuses it later). The digits depend on the minor version of Python.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        try:
            meaning = python_meaning(files[path]) if path.endswith(".py") else files[path].encode()
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            meaning = files[path].encode("utf-8", "surrogatepass")
        digest.update(len(path).to_bytes(4, "big") + path.encode())
        digest.update(len(meaning).to_bytes(8, "big") + meaning)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=64)
def python_meaning(source: str) -> bytes:
    """The compiled code of a Python file without docstrings and line numbers; nothing is executed.

    Raises SyntaxError, ValueError, RecursionError or MemoryError if it does not compile. Docstrings stay if the
    source speaks of `__doc__`: then they are part of what it does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
        if "finally" in source and _finally_depth(tree) > MAX_FINALLY_DEPTH:
            raise ValueError(f"try/finally is nested more than {MAX_FINALLY_DEPTH} deep")
        if "__doc__" not in source:
            _drop_docstrings(tree)
        code = compile(tree, "", "exec", dont_inherit=True, optimize=0)
        return _code_text(code).encode("utf-8", "surrogatepass")


def _finally_depth(node: ast.AST) -> int:
    """How deep try/finally statements are nested. The compiler writes a `finally` body twice, so the code of
    n nested ones is 2**n times as long: 700 bytes of source can take gigabytes."""
    deepest = max(
        (_finally_depth(child) for child in ast.iter_child_nodes(node) if _may_hold_try(child)), default=0
    )
    return deepest + bool(getattr(node, "finalbody", None))


def _may_hold_try(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _drop_docstrings(node: ast.AST) -> None:
    """Remove bare strings at the head of bodies; an emptied body keeps one `pass`."""
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        statements = getattr(node, field, None)
        if not isinstance(statements, list):
            continue
        if field == "body" and isinstance(node, _DOCUMENTED):
            while statements and _is_text(statements[0]):
                del statements[0]
            if not statements and not isinstance(node, ast.Module):
                statements.append(ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0))
        for statement in statements:
            _drop_docstrings(statement)


_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _code_text(code: CodeType) -> str:
    """Everything of a code object that says what it does, nested functions included; no line numbers."""
    parts = (
        code.co_code, [_constant(c) for c in code.co_consts], code.co_names, code.co_varnames, code.co_freevars,
        code.co_cellvars, code.co_name, code.co_flags, code.co_argcount, code.co_posonlyargcount,
        code.co_kwonlyargcount, code.co_exceptiontable,
    )  # fmt: skip
    return repr(parts)


def _constant(value: object) -> object:
    """A constant as something whose repr is the same in every process: sets have no order of their own."""
    if isinstance(value, CodeType):
        return _code_text(value)
    if isinstance(value, frozenset):
        return "frozenset", sorted(repr(_constant(item)) for item in value)
    if isinstance(value, tuple):
        return "tuple", [_constant(item) for item in value]
    return value
