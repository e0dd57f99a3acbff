"""Two objectives from the console to two registered models, at the smallest size that trains: loss against the size of the network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from automl import cli
from automl.entry import DONE, MISUSED, run_app
from automl.journal import JOURNAL_FILE
from automl.mirror import MlflowWriter
from automl.reader import read_snapshot
from automl.shipping import is_shipped
from automl.status import CHOICE_FILE, read_json
from automl.tracking import tracking_for
from tests.automl.samples import small_mono_spec

MONO = ("--skill", "depth_net_mono", "-e", "mono.yaml", "--engine", "inline", "--yes")
OBJECTIVES = ("--metric", "val/loss", "--metric", "parameters")
BN = "model.mono_backbone.use_bn"
FOLDER = Path("results/front")


def automl(*arguments: str) -> int:
    return run_app(cli.app, "automl", arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study: the baseline is better and larger, trial 1 worse (its rate is too high) and smaller."""
    place = tmp_path_factory.mktemp("place")
    small_mono_spec(place)
    (place / "points.yaml").write_text(f"- {{train.optim.lr: 0.001, {BN}: false}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("automl.launch.measure", lambda spec: None)
        search = ("--params", f"lr,{BN}", "--enqueue", "points.yaml", "--trials", "2", "--fidelity", "full", "--seed", "1")
        own = ("train.optim.lr=0.00001", f"{BN}=true")
        assert automl("run", *MONO, *OBJECTIVES, *search, "--results", str(FOLDER), *own) == DONE
    return place


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert automl("status", str(FOLDER), "--json") == DONE
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_both_ends_of_the_trade_are_the_front(capsys: pytest.CaptureFixture[str]) -> None:
    data = status(capsys)
    assert [one["metric"] for one in data["objectives"]] == ["val/loss", "parameters"]
    assert (data["front"], data["best"]["number"]) == ([0, 1], 0)
    larger, smaller = (trial["objectives"] for trial in data["trials"])
    assert larger["val/loss"] < smaller["val/loss"]
    assert larger["parameters"] > smaller["parameters"] > 900_000


def test_every_member_is_promoted_in_a_place_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    entries = status(capsys)["choice"]["front"]
    assert [(one["trial"], one["folder"], one["aliases"]) for one in entries] == [
        (0, "promotion", ["champion"]),
        (1, "front/0001", ["best-parameters"]),
    ]
    assert all((FOLDER / one["folder"] / "model.onnx").is_file() for one in entries)


def test_any_optuna_program_reads_the_front() -> None:
    study = optuna.load_study(study_name="front", storage=JournalStorage(JournalFileBackend(str(FOLDER / JOURNAL_FILE))))
    assert {trial.number for trial in study.best_trials} == {0, 1}


def test_mlflow_has_a_version_for_each_member_and_every_value() -> None:
    writer = MlflowWriter(tracking_for(FOLDER, "front", str(read_snapshot(FOLDER).config.notes["study_id"])))
    champion = writer._client.get_model_version_by_alias("depth_net_mono", "champion")
    smallest = writer._client.get_model_version_by_alias("depth_net_mono", "best-parameters")
    assert (champion.tags["trial"], smallest.tags["trial"], smallest.tags["front"]) == ("0", "1", "0, 1")
    run = writer._client.search_runs([writer.experiment_id], filter_string="tags.`automl.key` = 'trial-0001'")[0]
    assert run.data.metrics["objective/parameters"] == float(smallest.tags["parameters"])


def test_the_front_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert automl("status", str(FOLDER)) == DONE
    assert "front of val/loss and parameters: trials 0 and 1" in capsys.readouterr().out
    page = (FOLDER / "report.html").read_text()
    assert "<code>front/0001/model.onnx</code>" in page
    assert "Front: val/loss against parameters" in page


def test_a_finished_study_has_nothing_left_to_do() -> None:
    before = (FOLDER / CHOICE_FILE).stat().st_mtime_ns
    assert automl("resume", str(FOLDER), "--yes") == DONE
    assert (FOLDER / CHOICE_FILE).stat().st_mtime_ns == before


def test_a_driver_that_died_between_two_members_goes_on(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "front")
    trials = read_snapshot(FOLDER).trials
    assert is_shipped(tmp_path / "front", trials, ())
    (tmp_path / "front/front/0001/promotion.json").unlink()
    assert not is_shipped(tmp_path / "front", trials, ())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--metric", "parameters", "--metric", "val/loss"), "but parameters is no result of training"),
        ((*OBJECTIVES, "--params", "lr,weight_decay"), "parameters would be the same for every trial"),
        ((*OBJECTIVES, "--params", f"lr,{BN}", "--algorithm", "bohb"), "the searcher bohb takes one objective"),
        ((*OBJECTIVES, "--params", f"lr,{BN}", "--algorithm", "pbt"), "the searcher pbt takes one objective"),
        ((*OBJECTIVES, "--params", f"lr,{BN}", "--algorithm", "hes"), "hyperband_es stops every trial"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.launch.measure", lambda spec: None)
    capsys.readouterr()
    assert automl("run", *MONO, *options, "--results", "results/never") == MISUSED
    assert told in capsys.readouterr().err
    assert not Path("results/never").exists()


def test_a_trial_by_hand_is_shipped_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path / FOLDER)
    monkeypatch.chdir(tmp_path)
    assert automl("promote", str(FOLDER), "--trial", "1") == DONE
    choice, promotion = read_json(FOLDER / CHOICE_FILE), read_json(FOLDER / "promotion/promotion.json")
    assert choice is not None
    assert promotion is not None
    assert (choice["trial"], choice["front"], promotion["promoted"]) == (1, [], True)
    assert promotion["checkpoint"] == choice["checkpoint"]
