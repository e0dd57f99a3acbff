"""The dashboard command around MLflow's server: what is on its command line, and a server that is gone."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from automl import dashboard
from automl.dashboard import find_pages, free_port, serve
from automl.engine import run_inline
from automl.entry import FAILED
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, toy_config
from trials.copy_notes import write_notes


class EndsAtOnce:
    """Stands in for the server's process: says a word with a password in it and is over."""

    def __init__(self, command: list[str], *, stderr: IO[str], env: dict[str, str], **_: Any) -> None:
        self.command, self.environment = command, env
        stderr.write("cannot open postgresql://me:pass@word@host/db\n")
        started.append(self)

    def poll(self) -> int:
        return 1

    def terminate(self) -> None:
        """It is over."""

    def wait(self, timeout: float | None = None) -> int:
        return 1


started: list[EndsAtOnce] = []


def test_no_address_of_a_database_stands_on_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(dashboard, "subprocess", SimpleNamespace(Popen=EndsAtOnce, DEVNULL=subprocess.DEVNULL))
    assert serve(tmp_path, None) == FAILED
    server = started[-1]
    assert not any("sqlite" in word for word in server.command)
    assert server.environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert capsys.readouterr().err.endswith("error: MLflow did not start:\ncannot open postgresql://host/db\n")


def test_a_server_that_is_gone_is_one_error_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Study.create(tmp_path / "s", toy_config(notes={"study_id": "1"})).close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pass@word@{dashboard.HOST}:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StudyError, match=r"^MLflow at http://127\.0\.0\.1:\d+ does not answer: API request to http://127") as raised:
        serve(tmp_path / "s", None)
    assert "word" not in raised.value.message


def test_the_records_of_a_study_in_a_store_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = Study.create(tmp_path / "one", toy_config(trials=2))
    run_inline(study, run=ToyRun())
    study.close()
    write_notes(study.folder, {"url": "s3://data/one"})
    monkeypatch.setattr(dashboard, "subprocess", SimpleNamespace(Popen=EndsAtOnce, DEVNULL=subprocess.DEVNULL))
    assert serve(study.folder, None) == FAILED
    pages = find_pages(started[-1].environment["MLFLOW_BACKEND_STORE_URI"], study.config.study_id)
    assert pages.compare is not None
    assert pages.compare.count("%22") == 2 * 2 + 2  # two runs and their experiment
    assert "handing MLflow 2 trials of s3://data/one, as they stand now ..." in capsys.readouterr().out
