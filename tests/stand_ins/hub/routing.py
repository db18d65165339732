"""Routes by method and pattern, and the error that a route answers with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_NAMES = {
    "{type}": r"(?P<type>models|datasets|spaces)",
    "{id}": r"(?P<id>[\w.-]+/[\w.-]+)",
    "{bucket}": r"(?P<bucket>[\w.-]+/[\w.-]+)",
    "{owner}": r"(?P<owner>[\w.-]+)",
    "{rev}": r"(?P<rev>[^/]+)",
    "{path}": r"(?P<path>.+)",
    "{job}": r"(?P<job>[0-9a-f]{24})",
    "{mode}": r"(?P<mode>read|write)",
    "{paper}": r"(?P<paper>[\w.]+)",
    "{sha}": r"(?P<sha>[0-9a-f]{64})",
}


Route = tuple[str, re.Pattern[str], Callable[..., None]]  # method, path, what answers


class HttpError(Exception):
    """An answer that is an error; `code` goes into X-Error-Code, from which the client makes its exception."""

    def __init__(self, status: int, message: str, code: str = "", **body: Any) -> None:
        self.status, self.message, self.code, self.body = status, message, code, body
        self.headers: dict[str, str] = {}
        super().__init__(message)


class Routes:
    """A table of routes. Patterns match the still-encoded path: clients quote "/" inside revisions."""

    def __init__(self) -> None:
        self.table: list[Route] = []

    def add(self, methods: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register a function for `GET|HEAD` and a pattern with `{names}`."""
        for name, expression in _NAMES.items():
            pattern = pattern.replace(name, expression)

        def register(function: Callable[..., None]) -> Callable[..., None]:
            self.table += [(method, re.compile(pattern + "$"), function) for method in methods.split("|")]
            return function

        return register
