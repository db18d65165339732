"""`autolab …`: finds the command and imports only that one, so that help answers at once."""

from __future__ import annotations

import errno
import importlib
import os
import sqlite3
import sys
from typing import Any

import click

from autolab import __version__
from autolab.errors import LabError

COMMANDS = {
    "init": ("autolab.cli.init", "Make a lab out of a directory with a script that prints a metric."),
    "run": ("autolab.cli.run", "Search; goes on where the last run stopped."),
    "kickoff": ("autolab.cli.kickoff", "Print the prompt that starts an interactive session."),
    "serve": ("autolab.cli.serve", "Measure what agents submit."),
    "status": ("autolab.cli.read", "Where the campaign stands."),
    "trials": ("autolab.cli.read", "The finished trials, newest last."),
    "show": ("autolab.cli.read", "Everything about one trial."),
    "diff": ("autolab.cli.read", "What a trial changed."),
    "lineage": ("autolab.cli.read", "How the master came to be, or a trial's ancestors and children."),
    "master": ("autolab.cli.read", "The best confirmed program and the evidence for it."),
    "audit": ("autolab.cli.audit", "Re-judge a campaign or a foreign table: which promotions stand."),
    "replay": ("autolab.cli.replay", "Measure a trial again, from the ledger alone."),
    "confirm": ("autolab.cli.confirm", "Put a trial to the test against the master again, with fresh seeds."),
    "certify": ("autolab.cli.confirm", "Look once at the sealed split for the master; every look is logged."),
    "submit": ("autolab.cli.submit", "Measure your own change of the recipe as a trial."),
    "adopt": ("autolab.cli.control", "Write the master into the working tree."),
    "stop": ("autolab.cli.control", "Let what is running end, then stop."),
    "pause": ("autolab.cli.control", "Start nothing new until `autolab resume`."),
    "resume": ("autolab.cli.control", "Go on after a pause."),
    "steer": ("autolab.cli.control", "Tell the agents something."),
    "export": ("autolab.cli.control", "Rebuild the TSV and the JSON from the ledger."),
    "noise": ("autolab.cli.noise", "How much runs of the same code scatter, in words and a picture."),
    "power": ("autolab.cli.power", "How many runs an effect needs."),
    "study": ("autolab.cli.study", "Compare ways of searching, with several seeds each, at an equal budget."),
    "morning": ("autolab.cli.morning", "What happened, what to look at, what it cost."),
    "report": ("autolab.cli.report", "Write the report page; with --live, serve it while a campaign runs."),
    "figures": ("autolab.cli.figures", "Draw the staircase, the lineage and the slots, for papers."),
    "dashboard": ("autolab.cli.dashboard", "Show learning curves, fleet and alerts in Trackio."),
    "mirror": ("autolab.cli.mirror", "Write what Trackio shows, from the ledger."),
    "papers": ("autolab.cli.papers", "Find and read papers; keep the ideas that they give."),
    "jobs": ("autolab.cli.jobs", "Jobs on Hugging Face: prices, look, logs, cancel, costs, smoke test."),
    "cache": ("autolab.cli.cache", "Prepared data here and on the Hub: warm, verify, prune."),
    "publish": ("autolab.cli.publish", "Push the results to a dataset repo."),
    "pull": ("autolab.cli.pull", "Take other labs' trials from a dataset repo."),
    "doctor": ("autolab.cli.doctor", "What this machine can and cannot do."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autolab")
def cli() -> None:
    """Autolab changes a training script, measures each change, and keeps what is measurably better."""


def main() -> Any:
    """Run a command; a problem that the user can mend is one line on standard error and exit code 2."""
    try:
        return cli.main(standalone_mode=False)
    except LabError as problem:
        click.echo(f"autolab: {problem}", err=True)
    except click.exceptions.NoArgsIsHelpError as nothing:
        nothing.show()
    except click.ClickException as problem:
        click.echo(f"autolab: {' '.join(problem.format_message().split())} (see `autolab --help`)", err=True)
    except (click.Abort, KeyboardInterrupt):
        click.echo("autolab: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written to it any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO and not error.filename:
            # The terminal was closed: there is nobody to tell of it either.
            for descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            sys.exit(129)
        from pathlib import Path

        from autolab.ledger.store import ledger_problem

        if isinstance(error, sqlite3.Error) or error.filename:
            where = getattr(error, "filename", None) or ".autolab/ledger.sqlite"
            click.echo(f"autolab: {ledger_problem(error, Path(str(where)))}", err=True)
        else:
            click.echo(f"autolab: {error.strerror or error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
