"""`autolab papers`: papers for people, and the ideas of the campaign that cite them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from autolab.campaign.agent_trial import check_surface
from autolab.cli import options
from autolab.errors import LabError
from autolab.hub.papers import text as paper_text
from autolab.hub.papers.links import links as find_links
from autolab.hub.papers.reading import paper_id, read
from autolab.hub.papers.reading import search as find_papers
from autolab.hub.papers.text import Shown
from autolab.lab import STATE_DIRECTORY, attach, open_lab
from autolab.ledger.agents import add_idea, idea_trials
from autolab.ledger.agents import ideas as ideas_of
from autolab.ledger.records import IdeaState
from autolab.report.ideas import idea_lines, idea_record

COMMAND = "autolab papers"
identifier = click.argument("identifier", metavar="ID")


@click.group()
def papers() -> None:
    """Papers from the Hub and arXiv: search, read a section, see what belongs to one; ideas that cite them.

    What was read stays in the lab's .autolab/cache/papers, or in ~/.cache/autolab/papers outside of a lab, and is
    there without a network too. Text between the UNTRUSTED markers was written by others.
    """


@papers.command()
@options.directory
@click.argument("words", nargs=-1, required=True)
@options.as_json
def search(directory: Path, words: tuple[str, ...], as_json: bool) -> None:
    """The 8 papers that fit some words best."""
    _show(paper_text.show_search(find_papers(_shelf(directory), " ".join(words)), COMMAND), as_json)


@papers.command()
@options.directory
@identifier
@options.as_json
def outline(directory: Path, identifier: str, as_json: bool) -> None:
    """Title and sections of a paper."""
    _show(paper_text.show_outline(read(_shelf(directory), identifier), COMMAND), as_json)


@papers.command()
@options.directory
@identifier
@click.argument("name", nargs=-1, required=True, metavar="N|TITLE")
@click.option("--offset", type=click.IntRange(0), default=0, help="Go on from this character.")
@options.as_json
def section(directory: Path, identifier: str, name: tuple[str, ...], offset: int, as_json: bool) -> None:
    """The text of one section, by its number in the outline or a part of its title; 7,500 characters at most."""
    paper = read(_shelf(directory), identifier)
    found = paper_text.find_section(paper, " ".join(name))
    _show(paper_text.show_section(paper, found, COMMAND, offset), as_json)


@papers.command()
@options.directory
@identifier
@options.as_json
def links(directory: Path, identifier: str, as_json: bool) -> None:
    """Code, models, datasets and Spaces that belong to a paper."""
    _show(paper_text.show_links(find_links(_shelf(directory), identifier)), as_json)


@papers.group(invoke_without_command=True)
@options.directory
@options.campaign
@click.option("--state", type=click.Choice([str(state) for state in IdeaState]), help="Only these.")
@options.as_json
@click.pass_context
def ideas(
    context: click.Context, directory: Path, campaign: str | None, state: str | None, as_json: bool
) -> None:
    """Ideas that cite a paper: claim, single change, surface, and what became of them."""
    if context.invoked_subcommand is not None:
        return
    with open_lab(options.find_root(directory)) as ledger:
        chosen = ledger.campaign(campaign).id
        trials = idea_trials(ledger, chosen)
        cited = [
            idea for idea in ideas_of(ledger, chosen, IdeaState(state) if state else None) if idea.source
        ]
    if as_json:
        options.emit([idea_record(idea, trials.get(idea.number, [])) for idea in cited])
        return
    for idea in cited:
        click.echo("\n".join(idea_lines(idea, trials.get(idea.number, []))))
    if not cited:
        click.echo(f"no idea of {chosen} cites a paper{f' and is {state}' if state else ''}")


@ideas.command()
@options.directory
@identifier
@click.option("--claim", required=True, help="What the paper says, with its number and its setting.")
@click.option("--change", required=True, help="The single change of the recipe that it suggests.")
@click.option("--surface", required=True, help="The part of the recipe that it works on.")
@click.option("--effect", default="", help="The effect to expect here.")
@options.as_json
def add(
    directory: Path, identifier: str, claim: str, change: str, surface: str, effect: str, as_json: bool
) -> None:
    """Keep an idea that cites paper ID, at the end of the queue."""
    source = paper_id(identifier)
    if not claim.split():
        raise LabError("the claim says nothing", where="--claim", mend="what the paper says, with its number")
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        lab = attach(root, ledger, ledger.campaign())
        if not surface.strip():
            raise LabError("the surface says nothing", where="--surface", mend=", ".join(lab.task.surfaces))
        check_surface(lab, surface)
        made = add_idea(
            ledger, lab.campaign.id, change=change, surface=surface, claim=claim, source=source,
            effect=effect, author="person",
        )  # fmt: skip
    if as_json:
        options.emit(idea_record(made, []))
    else:
        click.echo(f"idea {made.number} is noted, at the end of the queue")


def _shelf(directory: Path) -> Path:
    """Where papers are kept: in the lab, or in the user's cache where there is none."""
    if directory.is_dir():
        try:
            return options.find_root(directory) / STATE_DIRECTORY / "cache" / "papers"
        except LabError:
            cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            return Path(cache) / "autolab" / "papers"
    return options.find_root(directory)  # which says what is wrong


def _show(shown: Shown, as_json: bool) -> None:
    if as_json:
        options.emit(shown.data)
        return
    if shown.text:
        click.echo(shown.text)
    click.echo(shown.said)
