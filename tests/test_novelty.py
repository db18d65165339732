"""What repeats another trial is refused before it costs a run: the same program, the same edit, the same idea."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import TRAIN
from hypothesis import given
from hypothesis import strategies as st

from autolab.harness import Ticket
from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger.claims import RECENT, Claim, keep_claim
from autolab.ledger.records import Proposal, Status, Trial, TrialState, Verdict
from autolab.ledger.store import Ledger
from autolab.program.change import Change, change_between
from autolab.program.edits import edits_between
from autolab.program.hashing import Files
from autolab.search import embeddings
from autolab.search.novelty import described, refusal, sketch


def begun(directory: Path, **config: object) -> Lab:
    """A lab with a master, whose gate is on."""
    ledger = open_lab(directory, create=True)
    config = {"seed": 0, "window": 4, "novelty": True, **config}
    lab = begin_campaign(directory, ledger, name=None, profile="cpu", config=config)
    promote(lab, lab.ledger.trial(1))
    return lab


@pytest.fixture
def lab(toy: Path) -> Iterator[Lab]:
    lab = begun(toy)
    yield lab
    lab.ledger.close()


def promote(lab: Lab, trial: Trial) -> Trial:
    """Measure a trial as the new master."""
    scored = {"verdict": Verdict.CONFIRMED, "score": 1.4, "interval": (1.3, 1.5)}
    done = lab.ledger.finish_trial(trial.number, Status.OK, **scored)  # type: ignore[arg-type]
    lab.ledger.promote(done, score=1.4, interval=(1.3, 1.5), gain=0.1, reason="better")
    return done


def changed(files: Files, *pairs: tuple[str, str]) -> dict[str, str]:
    """The recipe with some passages replaced."""
    text = files["train.py"]
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return {"train.py": text}


def proposed(ticket: Ticket, hypothesis: str, *pairs: tuple[str, str], move: str = "") -> Proposal:
    edits = edits_between(ticket.parent_files, changed(ticket.parent_files, *pairs))
    return Proposal(hypothesis, edits, surface="optimizer", move=move)


def submitted(lab: Lab, hypothesis: str, *pairs: tuple[str, str], move: str = "") -> Trial:
    """Propose to replace some passages of today's master."""
    ticket = lab.open_trial(role="worker", agent="a", surface="optimizer")
    return lab.submit(ticket, proposed(ticket, hypothesis, *pairs, move=move))


def ended(
    lab: Lab, trial: Trial, status: Status = Status.OK, verdict: Verdict | None = Verdict.WORSE
) -> Trial:
    if status is not Status.OK:
        return lab.ledger.finish_trial(trial.number, status, note="shape mismatch")
    return lab.ledger.finish_trial(trial.number, status, verdict=verdict, score=1.6, delta=-0.2)


def master_changes(lab: Lab) -> None:
    """Another trial becomes master: one that changes what no test here looks at."""
    count = len(lab.ledger.promotions(lab.campaign.id))
    recipe = lab.ledger.program(lab.ledger.master(lab.campaign.id).program)["train.py"]
    last = recipe.splitlines()[-1]
    words = ("alpha", "beta", "gamma", "delta")[count]
    promote(lab, submitted(lab, f"{words} of its own", (last, f"{last}\n    print({count})")))


RAISE = ("RATE = 0.5", "RATE = 0.7")
MORE = ("STEPS = 10", "STEPS = 20")
ANSWER = ('return state["value"]', 'return state["value"] * 1.01')


# changes ----------------------------------------------------------------------------------------------


def change(*pairs: tuple[str, str], text: str = TRAIN) -> object:
    return change_between({"train.py": text}, changed({"train.py": text}, *pairs))


def test_comments_white_space_and_how_a_number_is_written_are_no_part_of_a_change() -> None:
    plain = change(RAISE)
    assert plain == change(("RATE = 0.5", "RATE=0.70  # bolder")) == change(("RATE = 0.5", "RATE   =  7e-1"))
    assert plain == change(RAISE, ("def answer", "# what it says\n\ndef answer"))
    assert plain != change(("RATE = 0.5", "RATE = 0.8"))


def test_a_change_is_the_same_on_another_parent() -> None:
    other = TRAIN.replace("SHIFT = 0.0", "SHIFT = 0.1").replace("value = RATE", "total = 1; value = RATE")
    assert change(ANSWER) == change(ANSWER, text=other)
    assert change(RAISE) == change(RAISE, text=other)


def test_a_change_of_constants_alone_says_which_and_from_what_to_what() -> None:
    found = change_between({"train.py": TRAIN}, changed({"train.py": TRAIN}, RAISE, MORE))
    assert found.constants == (("RATE", "0.5", "0.7"), ("STEPS", "10", "20"))
    assert found.touched == {"RATE", "STEPS"}
    both = change_between({"train.py": TRAIN}, changed({"train.py": TRAIN}, RAISE, ANSWER))
    assert both.constants == () and "RATE" in both.touched and len(both.touched) == 2


def test_nothing_changed_is_no_change() -> None:
    assert change_between({"train.py": TRAIN}, {"train.py": TRAIN + "\n# the end\n"}).edit_hash == ""


@given(st.text(), st.text())
def test_any_two_texts_have_a_change(old: str, new: str) -> None:
    found = change_between({"train.py": old, "a.txt": new}, {"train.py": new, "a.txt": old})
    assert len(found.edit_hash) in (0, 16) and len(found.touched) <= 64


# the gate ---------------------------------------------------------------------------------------------


def test_the_same_program_is_a_duplicate_whatever_came_of_it(lab: Lab) -> None:
    first = ended(lab, submitted(lab, "go up", RAISE), verdict=Verdict.NO_DIFFERENCE)
    again = submitted(lab, "quite another reason", ("RATE = 0.5", "RATE = 0.7  # bold"))
    assert again.status is Status.DUPLICATE and again.repeats == first.number and first.id in again.note


@pytest.mark.parametrize("pair", [RAISE, ANSWER])
def test_the_same_edit_on_another_parent_is_refused_while_it_is_under_way(
    lab: Lab, pair: tuple[str, str]
) -> None:
    first = submitted(lab, "go up", pair)
    master_changes(lab)
    again = submitted(lab, "some other words", pair)
    assert again.status is Status.DUPLICATE and again.repeats == first.number
    assert again.note == f"makes the same edit as trial {first.id}, which is queued or running"


@pytest.mark.parametrize("status", [Status.OK, Status.CRASH, Status.OOM])
def test_a_dead_end_is_refused_until_the_master_has_changed_twice(lab: Lab, status: Status) -> None:
    first = ended(lab, submitted(lab, "go up", RAISE), status)
    master_changes(lab)
    again = submitted(lab, "some other words", RAISE)
    assert again.status is Status.DUPLICATE and "a dead end until the master changes" in again.note
    assert (
        f"trial {first.id}, which ended {'worse, score 1.6, -0.2' if status is Status.OK else status}"
        in again.note
    )
    master_changes(lab)
    assert submitted(lab, "some other words", RAISE).state is TrialState.QUEUED


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (Status.OK, Verdict.NO_DIFFERENCE),
        (Status.OK, Verdict.PROVISIONAL),
        (Status.INFRA_ERROR, None),
        (Status.TAMPERED, None),
    ],
)
def test_what_is_no_evidence_against_an_edit_does_not_stop_it_on_another_parent(
    lab: Lab, status: Status, verdict: Verdict | None
) -> None:
    ended(lab, submitted(lab, "go up", RAISE), status, verdict)
    master_changes(lab)
    assert submitted(lab, "go up", RAISE).state is TrialState.QUEUED


@pytest.mark.parametrize("status", [Status.INFRA_ERROR, Status.TAMPERED])
def test_what_the_machine_or_the_data_did_leaves_the_program_free(lab: Lab, status: Status) -> None:
    ended(lab, submitted(lab, "go up", RAISE), status)
    assert submitted(lab, "go up", RAISE).state is TrialState.QUEUED


def test_the_same_line_at_another_place_of_the_same_parent_is_another_edit(lab: Lab) -> None:
    here, there = "RATE = 0.5\n", "SHIFT = 0.0\n"
    ended(lab, submitted(lab, "print it at once", (here, f"{here}print(1)\n")))
    later = submitted(lab, "some other words", (there, f"{there}print(1)\n"))
    assert later.state is TrialState.QUEUED, later.note


def test_words_of_any_script_are_compared(lab: Lab) -> None:
    step = "уменьшить шаг в конце обучения, и тогда потери ниже"
    ended(lab, submitted(lab, step, RAISE))
    assert submitted(lab, step, ("RATE = 0.5", "RATE = 0.7001")).status is Status.DUPLICATE
    up, down = "把学习率提高到零点九", "把批量降低一半再试一次"
    ended(lab, submitted(lab, up, ("RATE = 0.5", "RATE = 0.9")))
    assert submitted(lab, down, ("RATE = 0.5", "RATE = 0.9001")).state is TrialState.QUEUED
    assert submitted(lab, up, ("RATE = 0.5", "RATE = 0.9002")).status is Status.DUPLICATE


LONG = "a larger rate gets further within the same budget of tokens"


def test_similar_words_alone_are_no_reason(lab: Lab) -> None:
    submitted(lab, LONG, RAISE)
    assert submitted(lab, LONG, MORE).state is TrialState.QUEUED
    assert submitted(lab, LONG, ("RATE = 0.5", "RATE = 0.3")).state is TrialState.QUEUED
    assert submitted(lab, LONG, ("RATE = 0.5", "RATE = 0.9")).state is TrialState.QUEUED


def test_similar_words_with_nearly_the_same_values_are_refused(lab: Lab) -> None:
    first = submitted(lab, LONG, RAISE)
    again = submitted(lab, f"I think {LONG}", ("RATE = 0.5", "RATE = 0.71"))
    assert again.status is Status.DUPLICATE and again.repeats == first.number
    assert submitted(lab, "momentum for stability", ("RATE = 0.5", "RATE = 0.705")).state is TrialState.QUEUED


def test_similar_words_at_the_same_lines_are_refused_unless_they_may_be_a_repair(lab: Lab) -> None:
    first = submitted(lab, LONG, ANSWER)
    other = ('return state["value"]', 'return 1.02 * state["value"]')
    assert submitted(lab, LONG, other).repeats == first.number
    ended(lab, first, Status.CRASH)
    assert submitted(lab, LONG, other).state is TrialState.QUEUED


def test_a_campaign_without_the_gate_refuses_only_the_same_program(toy: Path) -> None:
    lab = begun(toy, novelty=False)
    ended(lab, submitted(lab, LONG, RAISE))
    master_changes(lab)
    assert submitted(lab, LONG, RAISE).state is TrialState.QUEUED
    assert submitted(lab, LONG, ("RATE = 0.5", "RATE = 0.70")).status is Status.DUPLICATE


def test_an_objection_is_what_a_submission_would_meet_and_changes_nothing(lab: Lab) -> None:
    submitted(lab, "go up", RAISE)
    master_changes(lab)
    ticket = lab.open_trial(role="worker", agent="a")
    proposal = proposed(ticket, "some other words", RAISE)
    before = lab.ledger.rows.total_changes
    objection = lab.objection(ticket, proposal)
    assert objection is not None and lab.ledger.rows.total_changes == before
    refused = lab.submit(ticket, proposal)
    assert objection == (refused.status, refused.note)


@pytest.mark.parametrize("when", ["while it is asked", "afterwards"])
def test_who_claims_the_same_after_an_agent_asked_is_not_overlooked(
    lab: Lab, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = lab.open_trial(role="worker", agent="a")
    proposal = proposed(ticket, "some other words", RAISE)
    other = replace(lab, ledger=Ledger(lab.ledger.path), weighed=[])
    master_changes(lab)  # so that the same edit is another program

    def ask(*values: Any) -> Any:
        found = refusal(*values)
        if when == "while it is asked":
            submitted(other, "go up", RAISE)
        return found

    monkeypatch.setattr("autolab.lab.refusal", ask)
    assert lab.objection(ticket, proposal) is None
    if when == "afterwards":
        submitted(other, "go up", RAISE)
    assert lab.submit(ticket, proposal).status is Status.DUPLICATE
    other.ledger.close()


def test_what_is_asked_of_the_ledger_does_not_grow_with_it(lab: Lab) -> None:
    """However many claims there are, the gate reads the newest, and what the indexes name."""
    ticket = lab.open_trial(role="worker", agent="a")
    claim = described(ticket.parent_files, changed(ticket.parent_files, RAISE), Proposal(LONG, ()), gate=True)
    steps = []
    for _ in range(2):
        _claim_many(lab, RECENT + 50)
        ticks = iter(range(10**9))
        lab.ledger.rows.set_progress_handler(lambda ticks=ticks: next(ticks) < 0, 20)  # type: ignore[misc]
        refusal(lab.ledger, ticket.number, claim)
        lab.ledger.rows.set_progress_handler(None, 0)
        steps.append(next(ticks))
    assert steps[1] <= 1.2 * steps[0]


def _claim_many(lab: Lab, count: int) -> None:
    """Other trials under way, each with a claim of its own."""
    known = {"role": "", "agent": "", "surface": "", "parent_program": None, "parent_trial": None}
    with lab.ledger.transaction():
        for _ in range(count):
            other = lab.ledger.open_trial(lab.campaign.id, **known)  # type: ignore[arg-type]
            edit = Change(f"{other.number:016x}", (), frozenset({str(other.number)}))
            keep_claim(lab.ledger, other.number, Claim("", edit, sketch(f"rate {other.number}")))


# words and embeddings ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["rate", "warm", "decay", "layer", "norm", "head", "loss"]), max_size=9))
def test_a_sketch_is_of_the_words_and_not_of_their_order(words: list[str]) -> None:
    assert sketch(" ".join(words)) == sketch(", ".join(reversed(words)))
    assert -(2**63) <= sketch(" ".join(words)) < 2**63


class Embedder(BaseHTTPRequestHandler):
    """`/embeddings`: texts about the same thing in different words stand together."""

    asked: list[str]
    broken = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked += body["input"]
        (text,) = body["input"]
        vector = [1.0, 0.1] if "rate" in text or "step size" in text else [0.1, 1.0]
        answer = json.dumps({"data": [{"embedding": vector}]}).encode()
        self.send_response(500 if self.broken else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Embedder]]:
    """An endpoint that the gate asks."""
    handler = type("Fresh", (Embedder,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(embeddings.VARIABLE, f"http://127.0.0.1:{server.server_port}/v1#small")
    monkeypatch.setattr(embeddings, "_rests_until", 0.0)
    yield handler
    server.shutdown()
    server.server_close()


def test_an_endpoint_finds_the_same_idea_in_other_words(lab: Lab, endpoint: type[Embedder]) -> None:
    first = submitted(lab, "raise the rate", RAISE)
    near = ("RATE = 0.5", "RATE = 0.71")
    assert submitted(lab, "bigger step size", near).repeats == first.number
    assert submitted(lab, "quite something else", near).state is TrialState.QUEUED
    assert endpoint.asked == ["raise the rate", "bigger step size", "quite something else"]


def test_an_endpoint_that_fails_is_told_of_once_and_costs_no_trial(
    lab: Lab, endpoint: type[Embedder]
) -> None:
    endpoint.broken = True
    with pytest.warns(RuntimeWarning, match="compared by their words") as told:
        first = submitted(lab, LONG, RAISE)
        again = submitted(lab, f"I think {LONG}", ("RATE = 0.5", "RATE = 0.71"))
    assert len(told) == 1 and len(endpoint.asked) == 1
    assert first.state is TrialState.QUEUED and again.repeats == first.number
