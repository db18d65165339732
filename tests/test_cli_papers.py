"""`autolab papers`: the same answers for people as for agents, in a lab or out of one, and ideas with their sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_toy
from scripted import start
from stand_ins.arxiv import ArxivServer, use_arxiv
from stand_ins.hub import APaper, HubServer
from stand_ins.hub.running import run_script, use

from autolab.cli.papers import papers
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.agents import add_idea, add_workspace, ideas, set_idea
from autolab.ledger.records import IdeaState, Workspace

pytestmark = pytest.mark.hub

NAME = "2407.21783"
Call = Callable[..., str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server, ArxivServer() as site:
        use(monkeypatch, server, tmp_path / "home")
        use_arxiv(monkeypatch, site)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        server.papers[NAME] = APaper(
            "Herd", "Llamas.", f"# Herd\n\n{'text ' * 2_000}\n\n## Rates\n\n0.9 is best.\n"
        )
        server.papers[NAME].linked = {"models": [{"id": "meta/llama", "likes": 3, "downloads": 4}]}
        yield server


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab with a campaign."""
    directory = write_toy(tmp_path / "lab")
    start(directory).ledger.close()
    return directory


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `autolab papers words…` in a directory."""

    def run(at: Path, *words: str) -> str:
        monkeypatch.chdir(at)
        done = CliRunner().invoke(papers, words, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.output

    return run


# reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("search", "llamas"), ("outline", NAME), ("section", NAME, "rates"), ("links", NAME)]
)
def test_people_and_agents_get_the_same(
    hub: HubServer,
    lab: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    told = call(lab, *words)
    code, answered = run_script(monkeypatch, capsys, lab, "papers", *words)
    assert code == 0
    assert answered.replace("[ok] ", "").replace("scripts/papers.py", "autolab papers") == told
    mine = json.loads(call(lab, *words, "--json"))
    _, answered = run_script(monkeypatch, capsys, lab, "papers", *words, "--json")
    theirs = json.loads(answered.splitlines()[0])
    for found in (mine, theirs):
        for record in found.get("papers", [found]):
            assert record["source"] and record["published"] == "2024-07-31" and record.pop("fetched_at")
    assert mine == theirs


def test_a_section_goes_on_where_it_was_cut(hub: HubServer, lab: Path, call: Call) -> None:
    first = call(lab, "section", NAME, "1")
    assert f"(next: autolab papers section {NAME} 1 --offset 7500)" in first
    assert "0.9 is best." in call(lab, "section", NAME, "1", "--offset", "7500")


def test_eight_papers_fit_into_the_answer_of_a_script(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "ai_summary": "a herd " * 99,
        "ai_keywords": ["learning rates"] * 9,
        "githubRepo": "https://github.com/a/b",
    }
    hub.papers |= {f"2402.{n:05}": APaper("Herds of cows", "long " * 99, more=more) for n in range(9)}
    _, answered = run_script(monkeypatch, capsys, lab, "papers", "search", "cows", "--json")
    found = json.loads(answered.splitlines()[0])
    assert len(found["papers"]) == 8 and "cut" not in found and len(answered) <= 8_000


def test_papers_stay_in_the_lab_or_in_the_cache_of_the_user(
    hub: HubServer, lab: Path, call: Call, tmp_path: Path
) -> None:
    call(lab, "outline", NAME)
    assert (lab / ".autolab/cache/papers" / f"{NAME}.json").exists()
    call(tmp_path, "outline", NAME)
    assert (tmp_path / "cache/autolab/papers" / f"{NAME}.json").exists()


def test_offline_the_disk_answers_and_says_so(
    hub: HubServer, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(tmp_path, "search", "llamas")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "1 paper, from the disk only: http://127.0.0.1:9" in call(tmp_path, "search", "llamas")
    assert json.loads(call(tmp_path, "search", "llamas", "--json"))["offline"]
    assert "only the abstract: http://127.0.0.1:9" in call(tmp_path, "outline", NAME)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("outline", "llama"), "'llama' is not an arXiv id"),
        (("outline", "2499.99999"), "the Hub has no such paper"),
        (("links", "2499.99999"), "the Hub has no such paper"),
        (("section", NAME, "9"), "there is no section '9'"),
        (("section", NAME, "1", "--offset", "99999999"), "offset 99999999 is outside"),
        (("search", " "), "nothing to search for"),
        (("search", "-C", "nowhere", "x"), "there is no such directory"),
    ],
)
def test_what_cannot_be_found_is_one_line(
    hub: HubServer, lab: Path, call: Call, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(LabError, match=said):
        call(lab, *words)


# ideas ----------------------------------------------------------------------------------------------


def add(call: Call, lab: Path, **given: str) -> str:
    told = {"claim": "125M: 0.02 lower", "change": "RATE 0.5 -> 0.9", "surface": "optimizer"} | given
    name = told.pop("paper", f"https://arxiv.org/abs/{NAME}v2")
    return call(
        lab, "ideas", "add", name, *(word for key, value in told.items() for word in (f"--{key}", value))
    )


def test_an_idea_is_kept_with_its_paper(lab: Path, call: Call) -> None:
    assert add(call, lab) == "idea 1 is noted, at the end of the queue\n"
    (record,) = json.loads(call(lab, "ideas", "--json"))
    assert record == {
        "idea": 1, "state": "open", "surface": "optimizer", "change": "RATE 0.5 -> 0.9",
        "claim": "125M: 0.02 lower", "source": NAME, "effect": "", "author": "person", "trials": [], "note": "",
    }  # fmt: skip
    assert call(lab, "ideas").splitlines() == [
        f"  1  {NAME}  [optimizer]  open",
        "     change  RATE 0.5 -> 0.9",
        "     claim   125M: 0.02 lower",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"paper": "llama"}, "is not an arXiv id"),
        ({"claim": " "}, "the claim says nothing"),
        ({"change": ""}, "the idea says nothing"),
        ({"surface": "colours"}, "there is no surface 'colours'"),
        ({"surface": ""}, "the surface says nothing"),
    ],
)
def test_an_idea_without_substance_is_refused(
    lab: Path, call: Call, given: dict[str, str], said: str
) -> None:
    with pytest.raises(LabError, match=said):
        add(call, lab, **given)
    with open_lab(lab) as ledger:
        assert ideas(ledger, ledger.campaign().id) == []


def test_every_trial_of_an_idea_is_listed_and_its_state(lab: Path, call: Call) -> None:
    add(call, lab)
    with open_lab(lab) as ledger:
        campaign = ledger.campaign().id
        opened = [ledger.open_trial(campaign, role="worker", agent="worker", surface="", parent_program=None,
                                    parent_trial=None, executor="local") for _ in range(2)]  # fmt: skip
        for trial in opened:
            add_workspace(ledger, Workspace(trial.number, "x", "s", 1, 0.0, 0.0))
        set_idea(ledger, 1, IdeaState.REFUTED, trial=opened[1].number, note="worse\x1b[31m\u202e")
        add_idea(ledger, campaign, change="an idea of one's own")
    text = call(lab, "ideas", "--state", "refuted")
    assert f"     trials  {opened[0].id}, {opened[1].id}\n     note    worse[31m\n" in text
    (record,) = json.loads(call(lab, "ideas", "--json"))
    assert (record["state"], record["trials"]) == ("refuted", [trial.id for trial in opened])
    assert call(lab, "ideas", "--state", "adopted").endswith("cites a paper and is adopted\n")


def test_ideas_need_a_campaign(tmp_path: Path, call: Call) -> None:
    with pytest.raises(LabError, match=r"has run here yet|there is no lab"):
        call(write_toy(tmp_path / "new"), "ideas")
    with pytest.raises(LabError, match=r"no task\.yaml"):
        call(tmp_path, "ideas")
