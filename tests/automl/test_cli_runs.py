"""The commands as a user runs them, from a spec to a promoted model, at the smallest size that trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from automl import cli, depth_net
from automl.carry import CHOICE_FILE
from automl.config import load_config
from automl.dashboard import find_database, find_pages
from automl.entry import DONE, MISUSED, run_app
from automl.mirror import MlflowWriter
from automl.plain import RUN_FILE
from automl.status import PROMOTION_FILE
from automl.tracking import tracking_for
from tests.automl.samples import small_mono_spec
from tests.machine import onnx_name

MONO = ("--skill", "depth_net_mono", "-e", "mono.yaml")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples and one finished study of two trials, made by `automl run`; the spec names its lists relative to the folder."""
    place = tmp_path_factory.mktemp("place")
    spec = small_mono_spec(place)
    spec.write_text(spec.read_text().replace(f"{place}/", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("automl.launch.measure", lambda spec: None)
        assert automl("run", *MONO, "--trials", "2", "--engine", "inline", "--results", "results/mine", "--yes") == DONE
    return place


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def automl(*arguments: str) -> int:
    return run_app(cli.app, "automl", arguments)


def action(*arguments: str) -> int:
    return run_app(depth_net.app, "depth_net", arguments)


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert automl("status", "results/mine", "--json") == DONE
    data: dict[str, object] = json.loads(capsys.readouterr().out)
    return data


def registered(folder: str):
    config = load_config(Path(folder))
    writer = MlflowWriter(tracking_for(Path(folder), config.name, str(config.notes["study_id"])))
    return writer._client.search_model_versions("name = 'depth_net_mono'")


def runs(folder: str, study_id: str):
    writer = MlflowWriter(tracking_for(Path(folder), Path(folder).name, study_id))
    return writer._client.search_runs([writer.experiment_id])


def test_the_search_ends_with_a_promoted_model(capsys: pytest.CaptureFixture[str]):
    data = status(capsys)
    assert data["state"] == "exhausted"
    assert data["promotion"]["promoted"] is True
    assert Path("results/mine/promotion/model.onnx").is_file()
    assert Path("results/mine/report.html").is_file()


def test_the_test_list_was_measured_once_for_the_winner(capsys: pytest.CaptureFixture[str]):
    choice = status(capsys)["choice"]
    assert choice["test"]["num_images"] == 1
    assert "test/abs_rel" in choice["test"]["metrics"]


def test_mlflow_holds_both_trials_the_study_and_the_champion():
    study_id = next(line.split()[1] for line in Path("results/mine/study.yaml").read_text().splitlines() if "study_id" in line)
    found = runs("results/mine", study_id)
    assert sorted(run.data.tags["kind"] for run in found) == ["study", "trial", "trial"]
    assert all(run.info.status == "FINISHED" for run in found)
    trial = next(run for run in found if run.data.tags["kind"] == "trial")
    assert {"val/loss", "train/loss"} <= set(trial.data.metrics)
    writer = MlflowWriter(tracking_for(Path("results/mine"), "mine", study_id))
    version = writer._client.get_model_version_by_alias("depth_net_mono", "champion")
    assert version.tags["study_id"] == study_id
    assert version.tags["data_hash"]


def test_the_dashboard_opens_at_the_trials_of_the_study():
    study_id = next(line.split()[1] for line in Path("results/mine/study.yaml").read_text().splitlines() if "study_id" in line)
    database = find_database(Path("results/mine"))
    assert database == find_database(Path("results")) == Path("results/mlflow.db").resolve()
    pages = find_pages(f"sqlite:///{database}", study_id)
    assert pages.runs.startswith("#/experiments/")
    assert pages.compare is not None
    assert pages.compare.startswith("#/compare-runs?runs=%5B%22")


def test_resuming_a_finished_study_changes_nothing():
    files = [Path("results/mine") / CHOICE_FILE, Path("results/mine") / PROMOTION_FILE]
    before = [path.read_bytes() for path in files]
    assert automl("resume", "results/mine") == DONE
    assert [path.read_bytes() for path in files] == before


def test_the_champion_measures_alike_as_checkpoint_and_as_onnx(capsys: pytest.CaptureFixture[str]):
    checkpoint = status(capsys)["choice"]["checkpoint"]
    spec = "results/mine/promotion/spec.yaml"
    assert action("evaluate", "-e", spec, "evaluate.results_dir=onnx") == DONE
    resize = "dataset.test_dataset.augmentation.evaluation=resize"
    assert action("evaluate", "-e", spec, f"evaluate.checkpoint={checkpoint}", resize, "evaluate.results_dir=torch") == DONE
    first, second = (json.loads(Path(folder, "results.json").read_text()) for folder in ("onnx", "torch"))
    assert (first["runtime"], second["runtime"]) == (onnx_name(), "torch")
    assert first["evaluation_hash"] == second["evaluation_hash"]
    assert first["abs_rel"] == pytest.approx(second["abs_rel"], rel=1e-4)
    last = json.loads(Path("onnx/status.json").read_text().splitlines()[-1])
    assert last["status"] == "SUCCESS"
    assert last["kpi"]["val/abs_rel"] == pytest.approx(first["abs_rel"])


def test_inference_needs_nothing_but_the_promoted_spec():
    assert action("inference", "-e", "results/mine/promotion/spec.yaml", "inference.results_dir=pictures") == DONE
    assert list(Path("pictures").rglob("*.png"))


def test_a_checkpoint_brings_its_own_network(capsys: pytest.CaptureFixture[str]):
    checkpoint = status(capsys)["choice"]["checkpoint"]
    source = {"data_file": "scenes/mono_test.txt", "dataset_name": "MetricMonoDataset"}
    split = {"data_sources": [source], "augmentation": {"crop_size": [42, 56]}}
    Path("data.yaml").write_text(json.dumps({"results_dir": "own", "dataset": {"test_dataset": split}}))
    assert action("evaluate", "-e", "data.yaml", f"evaluate.checkpoint={checkpoint}") == DONE
    assert "model_type: MetricDepthAnything" in Path("own/evaluate/experiment.yaml").read_text()


def test_a_spec_that_contradicts_its_checkpoint_is_refused(capsys: pytest.CaptureFixture[str]):
    checkpoint = status(capsys)["choice"]["checkpoint"]
    arguments = (f"evaluate.checkpoint={checkpoint}", "model.encoder=vits", "evaluate.results_dir=no")
    assert action("evaluate", "-e", "results/mine/promotion/spec.yaml", *arguments) == MISUSED
    assert "model.encoder is vitt in the checkpoint, vits in the spec" in capsys.readouterr().err
    assert not Path("no").exists()


def test_export_writes_once():
    arguments = ("export", "-e", "results/mine/promotion/spec.yaml", "export.onnx_file=out/model.onnx")
    assert action(*arguments) == DONE
    assert action(*arguments) == MISUSED


def test_plain_training_is_tracked_alike(capsys: pytest.CaptureFixture[str]):
    assert automl("off", *MONO, "--results", "results/plain", "--yes") == DONE
    assert "Best epoch: 1" in capsys.readouterr().out
    study_id = json.loads(Path("results/plain", RUN_FILE).read_text())["study_id"]
    (run,) = runs("results/plain", study_id)
    assert (run.data.tags["kind"], run.info.status) == ("plain", "FINISHED")
    assert "val/abs_rel" in run.data.metrics


def test_policy_off_is_automl_off():
    assert automl("run", *MONO, "--policy", "off", "--results", "results/policy", "--yes") == DONE
    assert Path("results/policy/train/best.pth").is_file()


def test_the_winner_can_be_trained_again_from_any_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    values = status(capsys)["choice"]["values"]
    monkeypatch.chdir(tmp_path)
    assert automl("off", "--from", str(place / "results/mine"), "--results", "again", "--seed", "5", "--yes") == DONE
    text = Path("again/train/experiment.yaml").read_text()
    assert "seed: 5" in text
    assert str(values["train.clip_grad_norm"]) in text


def test_a_validation_list_is_cut_out_of_the_training_list():
    arguments = ("dataset.val_dataset.data_sources=[]", "--val-fraction", "0.5", "--results", "results/cut", "--yes")
    assert automl("off", *MONO, *arguments, "dataset.train_dataset.batch_size=1") == DONE
    lists = sorted(path.name.rsplit("_", 1)[1] for path in Path("results/cut/data").iterdir())
    assert lists == ["train.txt", "val.txt"]


def test_a_dry_run_writes_nothing_and_gives_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("automl.launch.measure", lambda spec: None)
    before = sorted(Path().rglob("*"))
    assert automl("run", *MONO, "--trials", "6", "--epochs", "9", "--results", "dry", "--dry-run", "--json") == DONE
    assert sorted(Path().rglob("*")) == before
    data = json.loads(capsys.readouterr().out)
    assert (data["metric"], data["budget"]["rungs"], data["budget"]["most_epochs"]) == ("val/loss", [1, 3, 9], 72)
    assert data["first_configurations"][0]["train.optim.lr"] == 1e-4
    assert all(one["reason"] for one in data["dropped"])
    source = data["data"][0]
    assert source["source"]["dataset_name"] == "MetricMonoDataset"
    assert source["values"].keys() == {"low", "p1", "median", "p99", "high"}
    assert source["sizes"] == [[64, 96]]


def test_the_training_loss_is_said_to_be_a_proxy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("automl.launch.measure", lambda spec: None)
    arguments = ("dataset.val_dataset.data_sources=[]", "--metric", "train/loss", "--results", "dry", "--dry-run")
    assert automl("run", *MONO, *arguments) == DONE
    assert "train/loss is a proxy" in " ".join(capsys.readouterr().out.split())


def test_samples_come_with_specs_that_are_never_overwritten():
    assert action("sample", "--out", "fresh", "--scenes", "3") == DONE
    Path("fresh/stereo.yaml").write_text("# mine\n")
    assert action("sample", "--out", "fresh", "--scenes", "3") == DONE
    assert Path("fresh/stereo.yaml").read_text() == "# mine\n"
    assert action("sample", "--out", "fresh", "--scenes", "4") == MISUSED


def test_a_study_is_extended_and_another_trial_promoted_from_any_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    more = str(place / "elsewhere/more")  # with a database of its own
    shutil.copytree("results/mine", more)
    monkeypatch.chdir(tmp_path)
    assert automl("extend", more, "--trials", "+1", "--yes") == DONE
    assert "extended study: 3 trials instead of 2" in capsys.readouterr().out
    chosen = json.loads(Path(more, CHOICE_FILE).read_text())
    assert chosen["among"] == [3, 0]
    other = next(number for number in (0, 1, 2) if number != chosen["trial"])
    assert automl("promote", more, "--trial", str(other)) == DONE
    assert "alias champion" in capsys.readouterr().out
    shipped = json.loads(Path(more, CHOICE_FILE).read_text())
    assert (shipped["trial"], shipped["reason"], shipped["test"]) == (other, f"trial {other} was chosen by hand", None)
    assert automl("promote", more, "--to", "onnx,int8", "--height", "28", "--width", "42") == DONE
    assert "model.int8.onnx" in capsys.readouterr().out
    version = next(one for one in registered(more) if one.tags["trial"] == str(chosen["trial"]))
    assert version.tags["files"] == "model.int8.onnx, model.onnx"
    assert {"onnxruntime int8/abs_rel", "onnxruntime int8/p50_ms_batch_1"} <= version.tags.keys()
    assert json.loads(Path(more, "promotion/model.json").read_text())["width"] == 42
    assert json.loads(Path(more, CHOICE_FILE).read_text())["trial"] == chosen["trial"]
    Path(more, "report.html").unlink()
    assert automl("export-report", more) == DONE
    assert "Which parameters mattered" in Path(more, "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "told"), [(("--to", "onnx,itn8"), "promoted to onnx, openvino, int8, engine"), (("--height", "30"), "--height 28 --width")]
)
def test_a_promotion_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str):
    assert automl("promote", "results/mine", *options) == MISUSED
    assert told in capsys.readouterr().err


def test_an_earlier_study_warms_the_next_one_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("automl.launch.measure", lambda spec: None)
    Path("points.yaml").write_text("- {train.optim.lr: 0.0005}\n")
    arguments = ("--warm-start", "results/mine", "--enqueue", "points.yaml", "--max-hours", "2", "--results", "dry", "--dry-run", "--json")
    assert automl("run", *MONO, "--trials", "4", *arguments) == DONE
    data = json.loads(capsys.readouterr().out)
    assert data["first_configurations"][1]["train.optim.lr"] == 5e-4
    assert data["budget"]["limits"] == {"max_hours": 2.0}
    assert any("results/mine is alike: mfgp learns from 2 of its trials" in note for note in data["notes"])
