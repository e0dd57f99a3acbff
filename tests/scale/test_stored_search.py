"""A whole search in an S3 store, by the console script: its machine is lost in the middle, another one finishes it from the store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.automl.samples import small_mono_spec
from tests.s3_server import S3Server

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

AUTOML = Path(sys.executable).with_name("automl")
URL = "s3://data/studies/lost"
LIMIT_S = 400


def automl(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUTOML, *arguments], cwd=place, check=False, capture_output=True, text=True, timeout=LIMIT_S)


def lose_with(key: str, store: S3Server, place: Path, *arguments: str) -> None:
    """Runs automl until the store has something at `key`; then the whole machine is gone, with everything that was on it."""
    process = subprocess.Popen(
        [AUTOML, *arguments], cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for _ in process.stdout:
        if store.client.exists(key):
            process.kill()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])


def test_another_machine_finishes_what_a_lost_one_began(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small_mono_spec(tmp_path)
    begun = ("run", "--skill", "depth_net_mono", "-e", "mono.yaml", "--results", URL, "--engine", "inline", "--yes")
    lose_with("data/studies/lost/study.journal", s3, tmp_path, *begun, "--trials", "3", "--epochs", "9", "--seed", "1")
    refused = automl(tmp_path, *begun)
    assert (refused.returncode, f"{URL} already holds a study" in refused.stderr) == (2, True)
    resumed = automl(tmp_path, "resume", URL, "--yes")
    assert resumed.returncode == 0, resumed.stderr
    assert f"Everything is in {URL}" in resumed.stdout
    shutil.rmtree(tmp_path / "cache")
    told = json.loads(automl(tmp_path, "status", URL, "--json").stdout)
    assert told["state"] == "exhausted"
    assert [trial["number"] for trial in told["trials"]] == list(range(3))
    assert s3.client.exists("data/studies/lost/promotion/model.onnx")
    assert s3.client.exists("data/studies/lost/report.html")
    assert str(tmp_path / "cache") not in s3.client.cat_file("data/studies/lost/promotion/spec.yaml").decode()
