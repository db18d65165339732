"""A lab with something to protect, two agents' workspaces, and the guard as it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autolab.program.workspace import create_workspace, set_owner

ROOT = Path(__file__).resolve().parent.parent

# Stands in for each of the pack's scripts: says what it was given.
SCRIPT = """
import _bridge
_bridge.forward_if_confined()
import json, os, stat, sys
piped = stat.S_ISFIFO(os.fstat(0).st_mode)
found = {"argv": sys.argv[1:], "cwd": os.getcwd(), "stdin": sys.stdin.read() if piped else "",
         "env": {k: v for k, v in os.environ.items() if k.startswith("AUTOLAB") or k == "HF_TOKEN"}}
if "--big" in sys.argv:
    print("x" * 3_000_000)
print(json.dumps(found))
print("unicode: å → 字", file=sys.stderr)
print("[ok] ran")
sys.exit(7 if "--fail" in sys.argv else 0)
"""


@dataclass(frozen=True)
class Labs:
    """A lab with two agents' workspaces, and an installed copy of the pack beside it."""

    root: Path
    pack: Path

    def workspace(self, trial: str = "t1") -> Path:
        return self.root / ".autolab" / "workspaces" / trial

    def shell(
        self,
        command: str,
        role: str = "worker",
        session: str = "ses_a",
        cwd: Path | None = None,
        timeout: float = 60,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command as OpenCode would, for an agent; stdout and stderr come back together."""
        return subprocess.run(
            [self.pack / "scripts" / "guard_shell.py", "-c", command],
            cwd=cwd or self.root,
            env=self.environment(role, session) | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def environment(self, role: str, session: str) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root.parent),
            "LANG": "C.UTF-8",
            "AUTOLAB_LAB": str(self.root),
            "AUTOLAB_ROLE": role,
            "AUTOLAB_SESSION": session,
            "HF_TOKEN": "hf_very_secret",
            "OPENAI_API_KEY": "sk_very_secret",
        }


def make_pack(folder: Path) -> Path:
    """The guard as `autolab init` installs it, with stand-ins for the scripts that it leads to."""
    scripts = folder / "scripts"
    scripts.mkdir(parents=True)
    for name in ("guard_shell.py", "_bridge.py"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    for name in ("trial.py", "lab.py", "publish.py"):
        (scripts / name).write_text(f"#!/usr/bin/env python3\n{SCRIPT}", encoding="utf-8")
        (scripts / name).chmod(0o755)
    (folder / "engine").write_text(f"{sys.executable}\n", encoding="utf-8")
    return folder


def make_lab(root: Path) -> Path:
    """What there is to protect, and what an agent needs."""
    state = root / ".autolab"
    protected = {"evaluate.py": "protected\n"}
    root.mkdir(parents=True)
    for trial, session in (("t1", "ses_a"), ("t2", "ses_b")):
        create_workspace(state, trial, {"train.py": "x = 1\n"}, protected)
        set_owner(state, trial, session)
    (state / "cache").mkdir()
    (state / "cache" / "held.txt").write_text("HELD OUT\n", encoding="utf-8")
    (state / "ledger.sqlite").write_text("LEDGER\n", encoding="utf-8")
    (root / "evaluate.py").write_text("protected\n", encoding="utf-8")
    (root / "train.py").write_text("x = 1\n", encoding="utf-8")
    (root / ".env").write_text("KEY=HIDDEN\n", encoding="utf-8")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / ".env.local").write_text("KEY=HIDDEN\n", encoding="utf-8")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("https://HIDDEN@example.org\n", encoding="utf-8")
    return root


def make_labs(base: Path) -> Labs:
    """Both, in an empty folder that is also the home of whoever runs something."""
    base = base.resolve()
    return Labs(make_lab(base / "lab"), make_pack(base / "pack"))


@contextmanager
def nothing_else_changes(labs: Labs) -> Iterator[None]:
    """Fails if anything but the first workspace is different afterwards."""

    def content() -> dict[str, bytes]:
        own = labs.workspace()
        return {
            str(path): path.read_bytes()
            for path in sorted(labs.root.rglob("*"))
            if path.is_file() and not path.is_relative_to(own)
        }

    before = content()
    yield
    assert content() == before


def running(command: str) -> list[str]:
    """Process ids whose command line, joined by NUL, begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(command.encode()):
                found.append(entry.name)
        except OSError:
            continue
    return found


def is_gone(command: str) -> bool:
    """Whether the processes of a command that was killed vanish, for which a kernel may take a moment."""
    deadline = time.monotonic() + 30
    while running(command) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not running(command)
