"""The OpenCode that headless runs use, and ripgrep beside it: found, and checked to be one that we know."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError

TESTED = "1.18.33"
OLDEST = (1, 18)
MEND = f"npm install --prefix ~/.local/share/autolab opencode-ai@{TESTED} @vscode/ripgrep"


@dataclass(frozen=True)
class OpenCode:
    """Paths of the binaries; `ripgrep` is what the agent's searches need without internet."""

    path: Path
    version: str
    ripgrep: Path | None


def find_opencode() -> OpenCode:
    """AUTOLAB_OPENCODE, else the one that `make opencode` or MEND installed, else the one on PATH.

    Raises LabError if there is none, or one of another generation: its server speaks differently.
    """
    named = os.environ.get("AUTOLAB_OPENCODE")
    for candidate in [named] if named else _candidates():
        if candidate and os.access(candidate, os.X_OK) and Path(candidate).is_file():
            return _checked(Path(candidate))
    where = f"AUTOLAB_OPENCODE={named}" if named else "headless agents"
    raise LabError("OpenCode is not installed", where=where, mend=f"`make opencode` in a clone, or `{MEND}`")


def _candidates() -> list[str | None]:
    clone = Path(__file__).resolve().parents[4] / "tools"
    homes = [clone, Path("~/.local/share/autolab").expanduser()]
    # The binary itself before npm's link to it, which is a stub where install scripts are not allowed.
    names = ["opencode-linux-x64", "opencode-linux-arm64", "opencode-darwin-arm64", "opencode-darwin-x64"]
    found: list[str | None] = []
    for home in homes:
        found += [str(home / "node_modules" / name / "bin" / "opencode") for name in names]
        found.append(str(home / "node_modules" / ".bin" / "opencode"))
    return [*found, shutil.which("opencode")]


@functools.cache
def _checked(path: Path) -> OpenCode:
    real = path.resolve()
    try:
        said = subprocess.run(
            [str(real), "--version"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"does not start: {error}", where=str(path), mend=f"`{MEND}`") from None
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise LabError(f"is no OpenCode: --version says {said[:60]!r}", where=str(path), mend=f"`{MEND}`")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        raise LabError(f"OpenCode {match[0]} is too old, 1.18 is needed", where=str(path), mend=f"`{MEND}`")
    if version[0] > 1:
        raise LabError(
            f"OpenCode {match[0]} is of the second generation, whose server headless runs do not speak yet",
            where=str(path),
            mend=f"keep it for interactive work, and beside it `{MEND}`",
        )
    return OpenCode(real, match[0], _ripgrep(real))


def _ripgrep(opencode: Path) -> Path | None:
    modules = next((folder for folder in opencode.parents if folder.name == "node_modules"), None)
    places = sorted(modules.glob("@vscode/ripgrep*/bin/rg")) if modules else []
    on_path = shutil.which("rg")
    found = [*places, *([Path(on_path)] if on_path else [])]
    return found[0].resolve() if found else None
