"""Scripted researchers: models that propose ideas from a list, err at stated rates, and read what they are told.

    Researchers(IDEAS, Rates(errs=0.7), seed=0) is a responder of ModelServer

An idea sets one constant of the recipe. Some ideas fail, as `fails` says; those of one kind fail for one reason, so
that a model that is told of one failure can keep away from all of its kind. What a model is told is what stands in its
prompt, nothing else: a campaign without lineage meets models that forget.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stand_ins.steps import Request, Step, Usage, text_of

FILE = re.compile(r'<file path="([^"]+)">\n(.*?)\n</file>', re.DOTALL)
TOLD = re.compile(r"<(lineage|notes)>\n(.*?)\n</\1>", re.DOTALL)
SURFACE = re.compile(r"^Your surface is ([\w-]+)", re.MULTILINE)
WORDS_OF_ANSWER = 300  # tokens that an answer is said to take


@dataclass(frozen=True)
class Idea:
    """Set a constant to a value, in Python; `kind` says why it fails, if it does."""

    constant: str
    value: str
    surface: str
    kind: str = ""
    fails: bool = False

    @property
    def name(self) -> str:
        """What stands in its hypothesis, by which a reader knows it again."""
        return f"{self.constant} = {self.value}"


@dataclass(frozen=True)
class Rates:
    """How a model errs. `errs`: the share of its ideas that fail, as long as it does not know better; `heeds`: how
    often it keeps away from what it was told of; `breaks`: answers with a broken block; `latency`: seconds an answer
    takes."""

    errs: float = 0.7
    heeds: float = 0.9
    breaks: float = 0.05
    latency: float = 0.0


class Researchers:
    """A responder that plays all agents of a campaign."""

    def __init__(self, ideas: Sequence[Idea], rates: Rates, seed: int = 0) -> None:
        self.ideas, self.rates = ideas, rates
        self.random = random.Random(seed)

    def __call__(self, request: Request) -> Step:
        """A change, or words if no file is shown."""
        first = next(text_of(m) for m in request.messages if m.get("role") == "user")
        shown = FILE.search(first)
        text = (
            self._answer(first, shown[1], shown[2])
            if shown
            else "Go on as before, on other surfaces as well."
        )
        return Step(
            text=text, delay=self.rates.latency, usage=Usage(max(1, request.size // 4), WORDS_OF_ANSWER),
            words_per_chunk=1000,
        )  # fmt: skip

    def _answer(self, prompt: str, path: str, recipe: str) -> str:
        told = "\n".join(match[2] for match in TOLD.finditer(prompt))
        if "Make one conservative repair" in prompt:
            return self._block(path, recipe, *self._repaired(told, recipe))
        surface = SURFACE.search(prompt)
        here = [idea for idea in self.ideas if not surface or idea.surface == surface[1]]
        new = [
            idea
            for idea in here
            if line_of(recipe, idea.constant) not in (None, f"{idea.constant} = {idea.value}")
        ]
        idea = self._chosen(new or list(self.ideas), told)
        if self.random.random() < self.rates.breaks:
            return f"HYPOTHESIS: {idea.name} helps\n{path}\n<<<<<<< SEARCH\n{idea.constant}\n======="
        return self._block(path, recipe, idea.constant, idea.value, idea.surface)

    def _chosen(self, ideas: Sequence[Idea], told: str) -> Idea:
        """An idea that fails, or one that does not; another one if this was told of, and the model heeds that."""
        known = {idea for idea in self.ideas if mentions(told, idea)}
        avoided = known | {
            one for one in self.ideas for idea in known if idea.fails and one.kind == idea.kind
        }
        heeds = self.random.random() < self.rates.heeds
        bad = [idea for idea in ideas if idea.fails and not (heeds and idea in avoided)]
        good = [idea for idea in ideas if not idea.fails and not (heeds and idea in avoided)]
        errs = self.random.random() < self.rates.errs
        return self.random.choice((bad if errs else good) or good or bad or list(ideas))

    def _repaired(self, told: str, recipe: str) -> tuple[str, str, str]:
        """The failing constant that stands in the recipe, at a value that does not fail."""
        for idea in self.ideas:
            if idea.fails and (line_of(recipe, idea.constant) or "") == idea.name:
                sound = [one for one in self.ideas if one.constant == idea.constant and not one.fails]
                return idea.constant, (sound[0].value if sound else "1"), idea.surface
        idea = self._chosen(self.ideas, told)
        return idea.constant, idea.value, idea.surface

    def _block(self, path: str, recipe: str, constant: str, value: str, surface: str) -> str:
        line = next((one for one in recipe.splitlines() if one.startswith(f"{constant} = ")), constant)
        comment = line[line.index("  #") :] if "  #" in line else ""
        return (
            f"HYPOTHESIS: {constant} = {value} fits\nSURFACE: {surface}\n"
            f"EXPECTED: a small gain\nSOURCES: none\n\n{path}\n"
            f"<<<<<<< SEARCH\n{line}\n=======\n{constant} = {value}{comment}\n>>>>>>> REPLACE\n"
        )


def line_of(recipe: str, constant: str) -> str | None:
    """How a recipe sets a constant, without the comment."""
    found = re.search(rf"^{constant} = ([^#\n]*?)\s*(#.*)?$", recipe, re.MULTILINE)
    return f"{constant} = {found[1]}" if found else None


def mentions(told: str, idea: Idea) -> bool:
    """Whether a text speaks of an idea: in its words, or as the constant that becomes the value."""
    value = re.escape(idea.value)
    return bool(re.search(rf"\b{idea.constant}\b[^\n]{{0,40}}?(=|→|->|to) ?{value}(?![\w.])", told))
