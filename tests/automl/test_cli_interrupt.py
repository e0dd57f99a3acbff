"""Ctrl-C or SIGTERM during a search and during plain training: a clean end, exit code 130, and a way to go on that works."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from automl import cli
from automl.entry import DONE, INTERRUPTED, run_app
from automl.reader import read_snapshot
from automl.status import status_data
from tests.automl.samples import small_mono_spec

AUTOML = Path(sys.executable).with_name("automl")
MONO = ("--skill", "depth_net_mono", "-e", "mono.yaml", "--yes")


def interrupted_at(mark: str, place: Path, *arguments: str, by: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
    """Runs automl in `place` until a line holds `mark`, then sends a signal; gives exit code, stdout from there, stderr."""
    process = subprocess.Popen(
        [AUTOML, *arguments], cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if mark in line:
                process.send_signal(by)
                break
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


def automl(*arguments: str) -> int:
    return run_app(cli.app, "automl", arguments)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small_mono_spec(tmp_path)
    return tmp_path


def test_a_search_can_be_interrupted_and_resumed(place: Path):
    options = ("--trials", "2", "--epochs", "6", "--engine", "inline", "--fidelity", "full", "--results", "s")
    code, out, _ = interrupted_at("trial 1 epoch 1/6", place, "run", *MONO, *options)
    assert code == INTERRUPTED
    assert "automl resume s" in out
    assert status_data(read_snapshot(Path("s")))["state"] == "interrupted"
    assert automl("resume", "s", "--yes") == DONE
    ended = status_data(read_snapshot(Path("s")))
    assert [(trial["state"], trial["epoch"]) for trial in ended["trials"]] == [("complete", 6), ("complete", 6)]
    assert ended["trials"][0]["segments"] == 1
    assert ended["promotion"]["promoted"] is True


@pytest.mark.ray
def test_sigterm_of_a_search_on_ray_is_as_clean_as_ctrl_c(place: Path):
    options = ("--trials", "1", "--epochs", "60", "--fidelity", "full", "--results", "s")
    code, out, err = interrupted_at("trial 0 epoch 1/60", place, "run", *MONO, *options, by=signal.SIGTERM)
    assert (code, err) == (INTERRUPTED, "")
    assert "automl resume s" in out
    snapshot = status_data(read_snapshot(Path("s")))
    assert [snapshot["state"], *(trial["state"] for trial in snapshot["trials"])] == ["interrupted", "waiting"]


def test_plain_training_can_be_interrupted_and_resumed(place: Path):
    options = ("--epochs", "9", "--results", "p")
    code, _, err = interrupted_at("epoch 1/9", place, "off", *MONO, *options)
    assert code == INTERRUPTED
    assert "train.resume=auto" in err
    assert automl("off", *MONO, *options, "train.resume=auto") == DONE
    epochs = [json.loads(line)["epoch"] for line in (place / "p" / "train" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 10))
