"""The one error a user is meant to read: what was wrong, where, and how to mend it."""

from __future__ import annotations


class LabError(Exception):
    """A problem the user can mend. The command line prints it as one line and exits with 2."""

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.mend:
            line += f" ({self.mend})"
        return " ".join("".join(c if c.isprintable() else " " for c in line).split())
