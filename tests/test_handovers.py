"""What colleagues tell each other stays in the ledger, once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import start

from autolab.ledger import handovers
from autolab.ledger.store import Ledger


def test_what_is_told_again_replaces_what_was_told(toy: Path) -> None:
    lab = start(toy)
    name = lab.campaign.id
    for text in ("first", "second"):
        handovers.add(
            lab.ledger, name, round="hierarchy:1", role="worker", kind="learning", text=text, surface="loss"
        )
    handovers.add(
        lab.ledger, name, round="hierarchy:1", role="worker", kind="concern", text="third", surface="loss"
    )
    handovers.add(
        lab.ledger, name, round="hierarchy:1", role="worker", kind="handover", text="fourth", trial=1
    )
    handovers.add(lab.ledger, name, round="hierarchy:2", role="planner", kind="plan", text="fifth")
    told = handovers.of_round(lab.ledger, name, "hierarchy:1")
    assert [one.text for one in told] == ["second", "third", "fourth"]
    assert [one.text for one in handovers.of_round(lab.ledger, name, "hierarchy:1", "concern")] == ["third"]
    assert handovers.of_round(lab.ledger, "another-1", "hierarchy:1") == []


@settings(max_examples=30, deadline=None)
@given(text=st.text() | st.text(alphabet="\ud800\x00x"))
def test_any_text_can_be_told(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        campaign = ledger.create_campaign(name="x", task="x", key="", config={}, baseline="")
        handovers.add(ledger, campaign.id, round="", role="worker", kind="concern", text=2000 * text)
        (one,) = handovers.of_round(ledger, campaign.id, "")
        assert len(one.text) <= handovers.MAX_TEXT
