"""The Ray of a search and its workers: whose code they run, what they load, how many GPUs there must be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from automl.ray_engine import run_ray
from automl.ray_session import check_gpus, ray_session, short_folder, start_patiently
from automl.snapshot import TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError, UnsupportedError
from tests.automl.toy import ToyRun, toy_config

pytestmark = pytest.mark.ray


def test_workers_with_other_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tmp_path / "foreign" / "models"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(foreign.parent))
    study = Study.create(tmp_path / "s", toy_config(trials=2))
    answer = signal.getsignal(signal.SIGTERM)
    before = os.environ.get("RAY_AUTH_TOKEN")
    with ray_session(study.folder, slots=1) as session:
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64  # no file that others may read
        with pytest.raises(StudyError, match="holds a package named models"):
            run_ray(study, session, run=ToyRun())
    assert os.environ.get("RAY_AUTH_TOKEN") == before
    assert study.trial(0).status is TrialStatus.WAITING
    assert signal.getsignal(signal.SIGTERM) is answer  # Ray would answer with a dump of its stack


def test_a_worker_loads_nothing_of_the_driver() -> None:
    code = "import sys, automl.ray_worker; print(*{name.split('.')[0] for name in sys.modules}, *sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "optuna", "mlflow", "onnx", "onnxruntime", "matplotlib", "scipy", "automl.study"} & set(loaded)


def test_a_ray_that_starts_at_the_third_attempt_is_taken() -> None:
    late = Exception("The current node timed out during startup. This could")
    attempts = iter([late, late, None])

    def start() -> None:
        error = next(attempts)
        if error is not None:
            raise error

    undone: list[None] = []
    start_patiently(start, undo=lambda: undone.append(None))
    assert (len(undone), list(attempts)) == (2, [])


def test_a_ray_that_does_not_start_is_one_error() -> None:
    def start() -> None:
        raise Exception("The current node timed out during startup. This could happen because")

    with pytest.raises(StudyError, match=r"Ray does not start on this machine: The current node timed out during startup$"):
        start_patiently(start, undo=lambda: None)


def test_more_gpus_than_there_are_is_refused() -> None:
    check_gpus(wanted=1, present=1)
    with pytest.raises(UnsupportedError, match="a trial is to have 2 GPUs, but this machine has 1"):
        check_gpus(wanted=2, present=1)


def test_only_scratch_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    mine = tmp_path / "automl-ray-99999999-of-the-user"
    mine.mkdir()
    with short_folder(tmp_path) as living:
        dead = tmp_path / "automl-ray-dead"
        shutil.copytree(living, dead)  # a lock file that nobody holds
        with short_folder(tmp_path) as second:
            assert sorted(tmp_path.iterdir()) == sorted([mine, living, second])
    assert list(tmp_path.iterdir()) == [mine]
