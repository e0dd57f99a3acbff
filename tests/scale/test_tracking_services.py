"""MLflow as a server with its tables in PostgreSQL and its artifacts in S3, all three really started: a study is mirrored whole."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl.board import Board
from automl.engine import run_inline
from automl.events import StudyEvent
from automl.mirror import Mirror, MlflowWriter, ModelRecord, RunRecord
from automl.study import Study
from automl.tracking import StudyMirror, tracking_for
from tests.automl.toy import ToyRun, toy_config
from tests.scale.services import HOST, Postgres, free_port, served

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

BUCKET = "mlflow"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server with one bucket; credentials stand in the environment."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("the S3 server is not installed: pip install -e '.[scale]'")
    import boto3

    port = free_port()
    address = f"http://{HOST}:{port}"
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with served(["moto.server", "-H", HOST, "-p", str(port)], port):
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture
def tracking_server(store: str, postgres: Postgres) -> Iterator[str]:
    """The address of MLflow's server over both."""
    port = free_port()
    backend = postgres.create("mlflow").replace("postgresql:", "postgresql+psycopg:")
    command = ["mlflow", "server", "--backend-store-uri", backend, "--artifacts-destination", f"s3://{BUCKET}/runs", "--host", HOST]
    env = {"MLFLOW_S3_ENDPOINT_URL": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with served([*command, "--port", str(port), "--workers", "1"], port, path="/health", env=env):
        yield f"http://{HOST}:{port}"


def test_a_study_is_mirrored_and_its_winner_lies_in_s3(
    tmp_path: Path, store: str, tracking_server: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    study = Study.create(tmp_path / "s", toy_config(trials=3, storage=postgres.url))
    tracking = tracking_for(study.folder, "toy", study.config.record_name)
    mirror, board = Mirror(tracking, warn=pytest.fail), Board(study.config)
    follow = StudyMirror(mirror, study.config)

    def on_event(event: StudyEvent) -> None:
        board.apply(event)
        follow.on_event(event, board)

    snapshot = run_inline(study, run=ToyRun(), on_event=on_event)
    mirror.put(RunRecord(key="study", name="study", status="FINISHED", tags={"kind": "study"}, artifacts=[study.folder / "study.yaml"]))
    assert mirror.close()
    study.close()
    model = tmp_path / "promotion"
    model.mkdir()
    (model / "model.onnx").write_bytes(b"graph")
    assert mirror.register(ModelRecord(name="depth", key="k", run_key="trial-0000", folder=model, tags={})) == 1

    client = MlflowClient(tracking_uri=tracking_server)
    experiment = MlflowWriter(tracking).experiment_id
    runs = {run.data.tags["kind"] + run.data.tags.get("trial", ""): run for run in client.search_runs([experiment])}
    assert set(runs) == {"study", "trial0", "trial1", "trial2"}
    for trial in snapshot.trials:
        history = client.get_metric_history(runs[f"trial{trial.number}"].info.run_id, "best_value")
        assert [entry.value for entry in history] == [trial.value]
    kept = boto3.client("s3", endpoint_url=store).list_objects_v2(Bucket=BUCKET)["Contents"]
    assert sorted(item["Key"].rsplit("/", 1)[-1] for item in kept) == ["model.onnx", "study.yaml"]
    source = client.get_model_version_by_alias("depth", "champion").source
    assert source == f"runs:/{runs['trial0'].info.run_id}/promotion-k"
