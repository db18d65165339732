"""Which model agents talk to, and one line for everything that can be wrong with it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from autolab.errors import LabError
from autolab.harness.models import ModelLimits, find_model, find_models
from autolab.harness.opencode.binary import find_opencode

OWN = {
    "model": "mine/small",
    "provider": {
        "mine": {
            "options": {"baseURL": "http://127.0.0.1:9/v1/", "apiKey": "{env:MINE_KEY}"},
            "models": {
                "small": {"limit": {"context": 4096}, "cost": {"input": 2, "output": 6}, "tool_call": False}
            },
        }
    },
}


def home(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), **more}


def test_the_one_that_opencode_is_set_up_with_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "opencode.json").write_text("// mine\n" + json.dumps(OWN)[:-1] + ",}", encoding="utf-8")
    model = find_model(None, tmp_path, home(tmp_path, MINE_KEY="k"))
    assert (model.name, model.id, model.base_url, model.key) == (
        "mine/small",
        "small",
        "http://127.0.0.1:9/v1",
        "k",
    )
    assert (model.context, model.tools, model.cost(1_000_000, 1_000_000)) == (4096, False, 8.0)
    assert "k" not in repr(model).split("key")[0] and "key=" not in repr(model)


def test_known_providers_need_only_a_name_and_their_key(tmp_path: Path) -> None:
    assert find_model("ollama/qwen3-coder", tmp_path, home(tmp_path)).base_url == "http://127.0.0.1:11434/v1"
    model = find_model("hf/Qwen/Qwen3-Coder", tmp_path, home(tmp_path, HF_TOKEN="hf_x"))
    assert (model.id, model.key) == ("Qwen/Qwen3-Coder", "hf_x")


def test_several_models_share_the_work_by_their_weights(tmp_path: Path) -> None:
    shares = find_models("ollama/a=3, vllm/b/c", tmp_path, home(tmp_path))
    assert {model.name: share for model, share in shares.items()} == {"ollama/a": 0.75, "vllm/b/c": 0.25}
    (only,) = find_models(None, tmp_path, home(tmp_path, AUTOLAB_MODEL="ollama/a"))
    assert only.name == "ollama/a" and only.limits == ModelLimits()
    for wrong in ("ollama/a=much", "ollama/a=0", "ollama/a=-1", "ollama/a=nan", "ollama/a=inf"):
        with pytest.raises(LabError, match="is no weight"):
            find_models(wrong, tmp_path, home(tmp_path))


def test_a_model_has_the_limits_that_its_entry_says(tmp_path: Path) -> None:
    entry = {"limit": {"context": 4096}, "autolab": {"requests_per_minute": 30, "usd": 2.5, "stream": False}}
    own = {"provider": {"mine": {"options": {"baseURL": "http://h/v1"}, "models": {"small": entry}}}}
    (tmp_path / "opencode.json").write_text(json.dumps(own), encoding="utf-8")
    model = find_model("mine/small", tmp_path, home(tmp_path))
    assert model.limits == ModelLimits(requests_per_minute=30, usd=2.5, stream=False)
    for wrong in ({"rpm": 3}, {"usd": "2"}, {"in_flight": True}, {"usd": 0}, {"stream": 1}):
        own["provider"]["mine"]["models"]["small"]["autolab"] = wrong  # type: ignore[index]
        (tmp_path / "opencode.json").write_text(json.dumps(own), encoding="utf-8")
        with pytest.raises(
            LabError, match=r"mine/small: autolab: .* is no limit \(one of requests_per_minute"
        ):
            find_model("mine/small", tmp_path, home(tmp_path))


def test_a_key_from_opencode_auth_login_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".local" / "share" / "opencode"
    folder.mkdir(parents=True)
    (folder / "auth.json").write_text(json.dumps({"hf": {"type": "api", "key": "stored"}}), encoding="utf-8")
    assert find_model("hf/x", tmp_path, home(tmp_path)).key == "stored"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (None, "{}", r"no model is configured \(--model hf/"),
        ("justaname", "{}", "'justaname' is not PROVIDER/MODEL"),
        ("nobody/x", "{}", "no provider 'nobody' with an address .*one of hf, llamacpp, vllm, ollama"),
        ("hf/x", "{}", r"HF_TOKEN is not set \(export HF_TOKEN="),
        (None, json.dumps(OWN), r"MINE_KEY is not set \(export MINE_KEY="),
        (None, "{", "opencode.json: is not valid JSON"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_mend(
    tmp_path: Path, name: str | None, text: str, problem: str
) -> None:
    (tmp_path / "opencode.json").write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match=problem) as raised:
        find_model(name, tmp_path, home(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("echo 1.4.11", "OpenCode 1.4.11 is too old"),
        ("echo 2.0.22", "OpenCode 2.0.22 is of the second generation"),
        ("echo hello", "is no OpenCode"),
        ("exit 1", "is no OpenCode"),
    ],
)
def test_an_opencode_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, problem: str
) -> None:
    binary = tmp_path / "opencode"
    binary.write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("AUTOLAB_OPENCODE", str(binary))
    with pytest.raises(LabError, match=problem) as raised:
        find_opencode()
    assert "npm install" in str(raised.value)


def test_no_opencode_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOLAB_OPENCODE", str(tmp_path / "absent"))
    with pytest.raises(LabError, match=r"OpenCode is not installed \(`make opencode`"):
        find_opencode()
