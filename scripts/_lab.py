"""What the lab's scripts share: the engine, the lab and the trial that a call is about, and how an answer ends.

An agent's shell shows no exit code, so the last line of every answer says how it went:
`[ok] …`, `[refused] … (mend: …)` for what the caller can mend, `[error] …` for everything else; 0, 1 and 2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from autolab.lab import Lab
    from autolab.ledger.records import Trial

HERE = Path(__file__).resolve().parent
CHARACTERS = 4000
MOST_CHARACTERS = 60_000
REFUSED, ERROR = 1, 2


def _find_engine() -> None:
    """Run under an interpreter that has the engine: the one named in `engine` beside or above the
    scripts, or the repo's."""
    try:
        import autolab  # noqa: F401

        return
    except ModuleNotFoundError:
        pass
    named = next((file for file in (HERE / "engine", HERE.parent / "engine") if file.is_file()), None)
    python = named.read_text(encoding="utf-8").strip() if named else str(HERE.parent / ".venv/bin/python")
    if os.environ.get("AUTOLAB_ENGINE") != python and os.access(python, os.X_OK):
        os.environ["AUTOLAB_ENGINE"] = python
        os.execv(python, [python, *sys.argv])
    print(
        f"[error] no autolab engine at {python} (mend: `make setup` in the lab, or `autolab init --opencode` again)"
    )
    sys.exit(ERROR)


_find_engine()

from autolab.errors import LabError


@dataclass(frozen=True)
class Answer:
    """`said` becomes the status line, `text` stands above it, `data` is what `--json` prints instead of the text."""

    said: str
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    refused: bool = False
    mend: str = ""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are a status line."""

    def error(self, message: str) -> NoReturn:
        """End with one line that says what was wrong with the arguments."""
        raise _BadArguments(message, self.prog)


class _BadArguments(Exception):
    def __init__(self, message: str, prog: str) -> None:
        self.prog = prog
        super().__init__(message)


def parser(name: str, about: str | None) -> tuple[Parser, Callable[[str, str], argparse.ArgumentParser]]:
    """A script's parser, and the function that adds a verb to it: `verb("open", "what it does")`."""
    whole = Parser(prog=f"scripts/{name}", description=about, allow_abbrev=False)
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, parents=[_shared()], help=about, description=about, allow_abbrev=False)

    return whole, verb


def plain_parser(name: str, about: str | None) -> Parser:
    """The parser of a script that does one thing."""
    return Parser(prog=f"scripts/{name}", description=about, parents=[_shared()], allow_abbrev=False)


def _shared() -> Parser:
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON document instead of text")
    shared.add_argument("--chars", type=within(200, MOST_CHARACTERS), default=CHARACTERS, metavar="N",
                        help=f"print at most N characters (default {CHARACTERS})")  # fmt: skip
    shared.add_argument(
        "-C", dest="directory", metavar="DIR", help="the lab (default: AUTOLAB_LAB, or here or above)"
    )
    return shared


def within(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `low` to `high`."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def main(parser: Parser, run: Callable[[argparse.Namespace], Answer]) -> NoReturn:
    """Parse, run, print a bounded answer and its status line, and exit."""
    import sqlite3

    arguments = argparse.Namespace(json=False, chars=CHARACTERS)
    try:
        words = shlex.join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        parser.parse_args(namespace=arguments)
        _check_role(words)
        answer = run(arguments)
        line = _status("refused" if answer.refused else "ok", answer.said, answer.mend)
        code = REFUSED if answer.refused else 0
    except SystemExit:  # --help has been printed
        answer, line, code = Answer(""), "[ok] that is the help", 0
    except _BadArguments as problem:
        answer, code = Answer(""), ERROR
        line = _status("error", str(problem), f"`{problem.prog} --help`")
    except LabError as problem:
        where = f"{problem.where}: " if problem.where else ""
        answer, line, code = Answer(""), _status("refused", f"{where}{problem.what}", problem.mend), REFUSED
    except (sqlite3.Error, OSError) as problem:
        from autolab.ledger.store import ledger_problem

        known = ledger_problem(
            problem, Path(str(getattr(problem, "filename", None) or ".autolab/ledger.sqlite"))
        )
        answer, line, code = Answer(""), _status("error", f"{known.where}: {known.what}", known.mend), ERROR
    except (
        Exception
    ) as problem:  # a defect of ours: the caller still gets a status line, a person the traceback
        import traceback

        traceback.print_exc()
        answer, code = Answer(""), ERROR
        line = _status(
            "error",
            f"{type(problem).__name__}: {problem}",
            "a defect of the lab: go on without, and report it",
        )
    except KeyboardInterrupt:
        answer, line, code = Answer(""), "[error] interrupted", ERROR
    _print(answer, line, arguments)
    sys.exit(code)


def _status(kind: str, said: str, mend: str) -> str:
    line = " ".join(_printable(said).split())
    line = line if len(line) <= 500 else line[:499] + "…"
    return f"[{kind}] {line}" + (f" (mend: {' '.join(_printable(mend).split())[:300]})" if mend else "")


def _print(answer: Answer, line: str, arguments: argparse.Namespace) -> None:
    room = arguments.chars - len(line) - 80
    if arguments.json and answer.said:
        body = _json(_cut(answer.data, room))
    else:
        body = _bounded(_printable(answer.text).rstrip(), room)
    try:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        print("\n".join(part for part in (body, line) if part), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _bounded(text: str, room: int) -> str:
    """Whole lines from the start of a text, and how much is left out."""
    if len(text) <= room:
        return text
    kept = text[: max(0, room)]
    kept = kept[: kept.rfind("\n")] if "\n" in kept else kept
    enough = min(len(text) + 500, MOST_CHARACTERS)
    return f"{kept}\n… {len(text) - len(kept)} more characters (--chars {enough} shows them)"


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)


def _cut(data: dict[str, Any], room: int) -> dict[str, Any]:
    """The data with its largest lists and texts halved until it fits; `cut` names those that are not whole."""
    found = dict(data)
    while len(_json(found)) > room:
        long = [
            name for name, value in found.items() if isinstance(value, list | str) and value and name != "cut"
        ]
        if not long:
            break
        name = max(long, key=lambda name: len(_json(found[name])))
        found[name] = found[name][: len(found[name]) // 2]
        found["cut"] = sorted({*found.get("cut", ()), name})
    return found


def _printable(text: str) -> str:
    return "".join(c if c in "\n\t" or c.isprintable() else " " for c in text)


# where and who -------------------------------------------------------------------------------------


def directory() -> Path:
    """Where the caller stands, even if that directory has been deleted by now."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.environ.get("PWD") or "/")


def lab_root(arguments: argparse.Namespace) -> Path:
    """The lab that a call is about: -C, AUTOLAB_LAB, the directory, or where the scripts lie. Raises LabError."""
    from autolab.campaign.agent_trial import workspace_at
    from autolab.cli.options import find_root

    given = arguments.directory or os.environ.get("AUTOLAB_LAB")
    if given:
        return find_root(Path(given))
    inside = workspace_at(directory())
    if inside is not None:
        return find_root(inside[0])
    try:
        return find_root(directory())
    except LabError as problem:
        try:
            return find_root(HERE)
        except LabError:
            raise problem from None


@contextlib.contextmanager
def open_lab(arguments: argparse.Namespace) -> Iterator[Lab]:
    """The lab with its newest campaign, to read and to submit, not to measure. Raises LabError."""
    from autolab.lab import STATE_DIRECTORY, attach
    from autolab.lab import open_lab as open_ledger

    root = lab_root(arguments)
    nothing = LabError(
        "no campaign has begun here", where=str(root), mend="`scripts/lab.py start` begins one"
    )
    if not (root / STATE_DIRECTORY / "ledger.sqlite").exists():
        raise nothing
    with open_ledger(root) as ledger:
        if not ledger.campaigns():
            raise nothing
        yield attach(root, ledger, ledger.campaign())


def _check_role(words: str) -> None:
    """Raises LabError if an agent asks for what its role may not do: the rules of its own file, for hosts that do not
    enforce them."""
    agent = os.environ.get("AUTOLAB_ROLE", "")
    if agent:
        from autolab.pack.roles import allows_command

        if not allows_command(agent, words):
            raise LabError(f"{agent} may not run {words[:120]!r}", mend=f"do what agents/{agent}.md says")


def session() -> str:
    """The host's id of the agent's session, or nothing for a person."""
    return os.environ.get("AUTOLAB_SESSION", "")


def role() -> tuple[str, str]:
    """(role, agent) of the caller: (worker, worker), (specialist, specialists/optimizer), (person, scripts)."""
    agent = os.environ.get("AUTOLAB_ROLE", "")
    if not agent:
        return "person", "scripts"
    return ("specialist" if agent.startswith("specialists/") else agent), agent


def bound_trial(lab: Lab) -> Trial | None:
    """The trial that the environment or the directory names, or None. Raises LabError if it does not exist."""
    from autolab.campaign.agent_trial import workspace_at

    inside = workspace_at(directory())
    name = os.environ.get("AUTOLAB_TRIAL") or (inside[1] if inside else "")
    return named_trial(lab, name) if name else None


def named_trial(lab: Lab, name: str) -> Trial:
    """A trial by its number, its id, or `master`. Raises LabError."""
    try:
        return lab.ledger.find_trial(name)
    except LabError as problem:
        raise LabError(
            problem.what, mend="`scripts/trial.py status` and `scripts/lineage.py slice` name them"
        ) from None


def trial_of(lab: Lab, name: str | None) -> Trial:
    """The trial that a call is about: named, bound, or the only open one of the session. Raises LabError."""
    from autolab.campaign.agent_trial import find_open

    if name:
        return named_trial(lab, name)
    return bound_trial(lab) or find_open(lab, session=session(), directory=directory())


def command(*words: str) -> str:
    """What an `autolab` command prints. Raises LabError as it does."""
    import io

    from autolab.cli.main import cli

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        cli.main(list(words), standalone_mode=False)
    return output.getvalue()
