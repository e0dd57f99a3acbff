"""The MLflow mirror against a real SQLite database: complete, idempotent, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from automl.board import Board
from automl.config import StudyConfig
from automl.events import TrialEnded, TrialReported, TrialStarted
from automl.mirror import Mirror, MlflowWriter, ModelRecord, RunRecord, Tracking, prepare_database, without_credentials
from automl.snapshot import TrialStatus
from automl.tracking import StudyMirror, default_uri, read_history, tracking_for
from search_spaces.space import Parameter, SearchSpace
from trials.contract import Decision, Report, State, TrialResult, report_to_json


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one prepared database; each test uses a study of its own in it."""
    folder = tmp_path_factory.mktemp("tracking")
    prepare_database(tracking(folder, "first"))
    return folder


def tracking(folder: Path, study_id: str) -> Tracking:
    return Tracking(uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="stereo", study_id=study_id, artifacts=folder / "artifacts")


def report(epoch: int, value: float) -> Report:
    return Report(number=3, epoch=epoch, step=10 * epoch, metrics={"val/epe": value, "val/d1": None}, elapsed_s=float(epoch))


def record(history: Sequence[Report], status: str = "RUNNING") -> RunRecord:
    tags = {"kind": "trial", "trial": "3"}
    return RunRecord(
        key="trial-0003", name="trial 3", status=status, tags=tags, params={"train.optim.lr": "0.1"}, history=history, started_s=5
    )


def runs_of(writer: MlflowWriter):
    return writer._client.search_runs([writer.experiment_id])


def history_of(writer: MlflowWriter, run_id: str) -> list[tuple[int, float]]:
    return [(entry.step, entry.value) for entry in writer._client.get_metric_history(run_id, "val/epe")]


def test_making_the_database_says_nothing(tmp_path: Path):
    code = f"from tests.automl.test_tracking import *; prepare_database(tracking(Path({str(tmp_path)!r}), 'x'))"
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_run_holds_params_tags_and_metrics_by_epoch(database: Path):
    writer = MlflowWriter(tracking(database, "content"))
    writer.write(record([report(1, 2.0), report(2, 1.5)], status="FINISHED"))
    (run,) = runs_of(writer)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "trial 3")
    assert run.data.params == {"train.optim.lr": "0.1"}
    assert run.data.tags["trial"] == "3"
    assert history_of(writer, run.info.run_id) == [(1, 2.0), (2, 1.5)]


def test_a_second_process_finds_the_run_again_and_doubles_nothing(database: Path):
    MlflowWriter(tracking(database, "twice")).write(record([report(1, 2.0)]))
    writer = MlflowWriter(tracking(database, "twice"))
    writer.write(record([report(1, 2.0), report(2, 1.5)]))
    writer.write(record([report(1, 2.0), report(2, 1.5)]))
    (run,) = runs_of(writer)
    assert history_of(writer, run.info.run_id) == [(1, 2.0), (2, 1.5)]


def test_two_studies_of_one_name_have_two_experiments(database: Path):
    first, second = (MlflowWriter(tracking(database, name)) for name in ("one", "other"))
    assert first.experiment_id != second.experiment_id
    assert MlflowWriter(tracking(database, "one")).experiment_id == first.experiment_id


def test_the_winner_is_registered_once_and_leads_back(database: Path, tmp_path: Path):
    writer = MlflowWriter(tracking(database, "winner"))
    writer.write(record([]))
    winner = ModelRecord(
        name="depth_net_stereo", key="winner-abc", run_key="trial-0003", folder=tmp_path, tags={"trial": "3", "data_hash": "d"}
    )
    assert writer.register(winner) == MlflowWriter(tracking(database, "winner")).register(winner)
    version = writer._client.get_model_version_by_alias("depth_net_stereo", "champion")
    assert (version.tags["trial"], version.tags["data_hash"]) == ("3", "d")
    assert version.run_id == runs_of(writer)[0].info.run_id


def test_a_registered_version_stays_what_it_was(database: Path, tmp_path: Path):
    """The next promotion replaces the files of the folder, and a repetition of the trial is registered from the same run."""
    import mlflow

    writer, folder = MlflowWriter(tracking(database, "kept")), tmp_path / "promotion"
    folder.mkdir()
    writer.write(record([]))
    for key in ("study-first", "study-second"):
        (folder / "model.onnx").write_text(key)
        version = writer.register(ModelRecord(name="kept", key=key, run_key="trial-0003", folder=folder, tags={}))
        assert version == (1 if key == "study-first" else 2)
    uri = writer._tracking.uri
    for version, key in ((1, "study-first"), (2, "study-second")):
        source = writer._client.get_model_version("kept", str(version)).source
        found = mlflow.artifacts.download_artifacts(source, dst_path=str(tmp_path / key), tracking_uri=uri)
        assert (Path(found) / "model.onnx").read_text() == key


def test_a_mirror_that_cannot_write_warns_once_and_catches_up(database: Path, tmp_path: Path):
    taken = tmp_path / "mlflow.db"
    taken.mkdir()  # a folder where the database should be
    warnings: list[str] = []
    mirror = Mirror(tracking(tmp_path, "late"), warn=warnings.append)
    mirror.put(record([report(1, 2.0)]))
    mirror.put(record([report(1, 2.0), report(2, 1.5)]))
    assert not mirror.close()
    assert len(warnings) == 1
    taken.rmdir()
    again = Mirror(tracking(database, "late"), warn=warnings.append)
    again.put(record([report(1, 2.0), report(2, 1.5)]))
    assert again.close()
    writer = MlflowWriter(tracking(database, "late"))
    assert history_of(writer, runs_of(writer)[0].info.run_id) == [(1, 2.0), (2, 1.5)]


def test_credentials_never_reach_tags_or_params(database: Path):
    writer = MlflowWriter(tracking(database, "secret"))
    secret = RunRecord(key="k", name="n", status="RUNNING", tags={"from": "https://me:pass@host/x"}, params={"p": "s3://key:word@bucket"})
    writer.write(secret)
    (run,) = runs_of(writer)
    assert run.data.tags["from"] == "https://host/x"
    assert run.data.params["p"] == "s3://bucket"
    assert without_credentials("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_the_database_lies_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = tracking_for(tmp_path / "results" / "a", "a", "id")
    assert found.uri == default_uri(tmp_path / "results" / "b") == f"sqlite:///{tmp_path}/results/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pass@server")
    assert tracking_for(tmp_path / "a", "a", "id").shown == "https://server"


def test_a_folder_may_have_signs_in_its_name_that_mean_something_in_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = tracking_for(tmp_path / "a?b#c%20d" / "s", "s", "id")
    assert found.file == tmp_path / "a?b#c%20d" / "mlflow.db"
    assert found.shown == f"sqlite:///{found.file}"
    found.file.parent.mkdir()
    prepare_database(found)
    assert [path.name for path in tmp_path.rglob("*")] == ["a?b#c%20d", "mlflow.db"]


def test_history_is_read_from_the_trial_even_with_a_torn_last_line(tmp_path: Path):
    (tmp_path / "train").mkdir()
    lines = [json.dumps(report_to_json(report(epoch, value))) for epoch, value in ((1, 3.0), (1, 2.0), (2, 1.0))]
    (tmp_path / "train" / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b'\n\x00\xff\n{}\n{"number": 3, "epo')
    assert [(one.epoch, one.metrics["val/epe"]) for one in read_history(tmp_path)] == [(1, 2.0), (2, 1.0)]


def test_events_of_a_trial_become_one_finished_run(database: Path, tmp_path: Path):
    parameter = Parameter(key="train.optim.lr", kind="float", low=1e-6, high=1e-2, log=True, default=1e-4)
    space = SearchSpace(skill="depth_net_stereo", parameters=(parameter,))
    spec = {"model": {"encoder": "vitt"}}
    config = StudyConfig(
        name="s", skill="depth_net_stereo", spec=spec, space=space, objective="val/epe", direction="minimize", trials=1, epochs=2
    )
    board, mirror = Board(config), Mirror(tracking(database, "events"), warn=pytest.fail)
    study = StudyMirror(mirror, config, data_hash="hash")
    common = {"number": 3, "segment": 1}
    result = TrialResult(
        number=3, state=State.COMPLETE, metrics={"val/epe": 1.0}, best_epoch=2, checkpoint=None, elapsed_s=4.0, peak_memory_mib=None
    )
    for event in (
        TrialStarted(values={"train.optim.lr": 1e-3}, seed=7, folder=tmp_path, from_epoch=0, until_epoch=2, max_epochs=2, **common),
        *(
            TrialReported(
                number=3,
                epoch=epoch,
                step=epoch,
                metrics={"val/epe": value},
                value=value,
                elapsed_s=epoch,
                decision=Decision.CONTINUE,
                until_epoch=2,
            )
            for epoch, value in ((1, 2.0), (2, 1.0))
        ),
        TrialEnded(status=TrialStatus.COMPLETE, result=result, value=1.0, **common),
    ):
        board.apply(event)
        study.on_event(event, board)
    assert mirror.close()
    writer = MlflowWriter(tracking(database, "events"))
    (run,) = runs_of(writer)
    assert (run.info.status, run.data.tags["state"], run.data.tags["data_hash"]) == ("FINISHED", "complete", "hash")
    started = {"first_weights": "random: the encoder, the head"}
    assert run.data.params == {"model.encoder": "vitt", "train.optim.lr": "0.001", **started}
    assert history_of(writer, run.info.run_id) == [(1, 2.0), (2, 1.0)]
    assert board.trials[3].value == 1.0
    assert board.trials[3].elapsed_s == 4.0
