"""The real client pointed at the stand-in, and a lab's scripts run in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from stand_ins.hub.server import ALICE, HubServer

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def use(monkeypatch: pytest.MonkeyPatch, hub: HubServer, home: Path, token: str = ALICE) -> None:
    """Point the client of this process, and of those that it starts, at the stand-in.

    The client reads its settings when it is imported, which another test may have done long ago.
    """
    settings = {"HF_ENDPOINT": hub.base, "HF_HOME": str(home), "HF_XET_CACHE": str(home / "xet"),
                "HF_TOKEN_PATH": str(home / "token"), "HF_TOKEN": token, "AUTOLAB_POLL_SECONDS": "0.1"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name in (
        "AUTOLAB_BRIDGE",
        "AUTOLAB_LAB",
        "AUTOLAB_TRIAL",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.base)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.base + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))


def run_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lab: Path, script: str, *words: str
) -> tuple[int, str]:
    """Run `scripts/<script>.py words…` in a lab; its exit code and everything that it printed."""
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [f"scripts/{script}.py", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err
