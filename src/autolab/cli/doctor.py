"""`autolab doctor`: what this machine can and cannot do, and how to mend what it cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sqlite3
import sys
from pathlib import Path

import click

from autolab.cli import options
from autolab.errors import LabError
from autolab.execution.local import visible_gpus
from autolab.execution.sandbox import available
from autolab.lab import STATE_DIRECTORY, open_lab
from autolab.ledger.store import ledger_problem
from autolab.task import load_task


@click.command()
@options.directory
@options.as_json
def doctor(directory: Path, as_json: bool) -> None:
    """What this machine can and cannot do. Exit code 1 if a search cannot run here."""
    checks = [*_machine(), *_tools(), *_lab(directory)]
    if as_json:
        options.emit([{"check": name, "state": state, "text": text} for name, state, text in checks])
    else:
        colors = {"ok": "green", "weak": "yellow", "no": "red"}
        for name, state, text in checks:
            click.echo(click.style(f"{state:<5}", fg=colors[state]) + f"{name:<10} {text}")
    if any(state == "no" for _, state, _ in checks):
        raise SystemExit(1)


def _machine() -> list[tuple[str, str, str]]:
    version = platform.python_version()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    checks = [
        ("python", "ok" if sys.version_info >= (3, 11) else "no", f"{version} at {sys.executable}"),
        (
            "system",
            "ok" if sys.platform == "linux" else "weak",
            f"{platform.platform()}"
            + ("" if sys.platform == "linux" else ": process limits and the sandbox need Linux"),
        ),
        ("cores", "ok", f"{cores}: as many CPU trials at once"),
    ]
    gpus = visible_gpus()
    checks.append(("gpus", "ok", ", ".join(gpus) if gpus else "none: the cpu profile applies"))
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    checks.append(("disk", "ok" if free > 1 else "weak", f"{free:.1f} GB free here"))
    return checks


def _tools() -> list[tuple[str, str, str]]:
    mode, reason = available()
    sandbox = (
        ("sandbox", "ok", "bubblewrap: no network, no home, no held-out data for trials")
        if mode != "none"
        else ("sandbox", "weak", f"{reason}; trials run with limits only, and every record says so")
    )
    found = [sandbox, _user()]
    for module, use in (("torch", "the default task"), ("matplotlib", "figures"), ("ray", "Ray clusters")):
        there = importlib.util.find_spec(module) is not None
        found.append(
            (module, "ok" if there else "weak", f"{'there' if there else 'missing'}: needed for {use}")
        )
    return [*found, _agents(), _hub()]


def _user() -> tuple[str, str, str]:
    """Who runs the lab. What root's sandboxes are shown of /dev belongs to them (docs/evaluator.md)."""
    if os.geteuid() == 0:
        return (
            "user",
            "weak",
            "root: trials can change modes and times in /dev; run the lab as an ordinary user",
        )
    return "user", "ok", "an ordinary user"


def _hub() -> tuple[str, str, str]:
    """Whether there is a token; the Hub itself is asked by `autolab jobs smoke`."""
    from autolab.hub.connection import need_token

    try:
        need_token()
    except LabError as problem:
        return "hub", "weak", f"{problem}: needed for jobs, publishing and private data"
    return "hub", "ok", "there is a Hugging Face token; `autolab jobs smoke` tries the account"


def _agents() -> tuple[str, str, str]:
    """OpenCode is only needed by those who work with agents."""
    from autolab.harness.opencode.binary import find_opencode

    try:
        opencode = find_opencode()
    except LabError as problem:
        return "opencode", "weak", str(problem)
    if opencode.ripgrep is None:
        return (
            "opencode",
            "weak",
            f"{opencode.version} at {opencode.path}, but no ripgrep: agents cannot search",
        )
    return "opencode", "ok", f"{opencode.version} at {opencode.path}"


def _lab(directory: Path) -> list[tuple[str, str, str]]:
    try:
        root = options.find_root(directory)
    except LabError as problem:
        return [("lab", "weak", str(problem))]
    checks = []
    try:
        task = load_task(root)
        text = f"{task.name}: {task.metric.direction} {task.metric.name}"
        if task.self_reported:
            checks.append(("task", "weak", text + ", SELF-REPORTED (no evaluate command)"))
        else:
            checks.append(("task", "ok", text + ", measured by its evaluator"))
    except LabError as problem:
        checks.append(("task", "no", str(problem)))
    writable = os.access(root, os.W_OK)
    checks.append(
        ("directory", "ok" if writable else "no", f"{root}" + ("" if writable else " cannot be written"))
    )
    try:
        with open_lab(root) as ledger:
            count = sum(ledger.count().values())
            damage = ledger.damage()
            text = f"{len(ledger.campaigns())} campaigns, {count} finished trials"
            checks.append(("ledger", "no" if damage else "ok", f"damaged: {damage}" if damage else text))
    except LabError as problem:
        state = "ok" if "no campaign has run" in str(problem) else "no"
        checks.append(("ledger", state, str(problem)))
    except sqlite3.Error as error:
        checks.append(("ledger", "no", str(ledger_problem(error, root / STATE_DIRECTORY / "ledger.sqlite"))))
    return checks
