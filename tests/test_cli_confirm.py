"""`autolab confirm` and `autolab certify`, with real measurements of the toy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import EVALUATE, TASK, write_toy
from scripted import search
from test_known_defects import autolab

from autolab.lab import Lab
from autolab.ledger.observations import looks

SEALED = TASK.replace("bounds: [0, 100]", "bounds: [0, 100], sealed: sealed_loss")
CERTIFYING = EVALUATE.replace(
    '{"loss": 1.0', '{"sealed_loss" if os.environ["AUTOLAB_STAGE"] == "certify" else "loss": 1.0'
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A worse trial, and one that was promoted and certified."""
    toy = write_toy(tmp_path_factory.mktemp("confirm") / "toy", task=SEALED)
    (toy / "evaluate.py").write_text(CERTIFYING)
    lab, _, _ = search(toy, [0.3, 0.9])
    return lab


@pytest.mark.slow
def test_a_promotion_is_certified_on_the_way(searched: Lab) -> None:
    promoted = searched.ledger.trial(searched.ledger.master(searched.campaign.id).trial)
    assert promoted.verdict == "certified"
    assert [look.asked_by for look in looks(searched.ledger, searched.campaign.id)] == ["promotion"] * 2


def test_certify_says_again_what_the_one_look_saw(searched: Lab) -> None:
    done = autolab("certify", "-C", searched.root)
    assert done.returncode == 0 and "certified: +0." in done.stdout, done.stderr
    assert len(looks(searched.ledger, searched.campaign.id)) == 2


def test_confirm_takes_a_finished_trial_up_again(searched: Lab) -> None:
    done = autolab("confirm", "2", "--runs", "4", "-C", searched.root, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert told["verdict"] == "worse" and told["promoted"] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("confirm", "1"), "is the baseline"),
        (("confirm", "master"), "is the master"),
        (("confirm", "99"), "there is no trial"),
        (("certify", "2"), "was never promoted"),
        (("certify", "1"), "the baseline replaced nothing"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(searched: Lab, words: tuple[str, ...], said: str) -> None:
    done = autolab(*words, "-C", searched.root)
    text = done.stdout + done.stderr
    assert done.returncode == 2 and len(text.strip().splitlines()) == 1
    assert said in text


@pytest.mark.slow
def test_without_a_sealed_split_certify_says_what_to_write(toy: Path) -> None:
    search(toy, [])
    done = autolab("certify", "-C", toy)
    assert done.returncode == 2 and "metric.sealed" in done.stderr
