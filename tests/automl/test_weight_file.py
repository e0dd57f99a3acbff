"""A weight file on the command line: shown, written for another program, and taken at its word about the layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from automl.depth_net import app
from automl.entry import MISUSED, run_app
from automl.from_weights import fitted, template_of
from automl.tracking import params_of
from search_spaces.spec import read_spec, spec_to_dict
from tests.models.files import mono, saved, stereo, tao, tao_metric, tao_stereo


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("made") / "metric.pth", tao(tao_metric(mono(0).state_dict())))


@pytest.fixture(scope="module")
def tao_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = stereo(0, variant="tao", hidden_dims=(48, 48, 48), corr_radius=2)
    return saved(tmp_path_factory.mktemp("made") / "stereo.pth", tao(tao_stereo(network.state_dict())))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert run_app(app, "depth_net", ["inspect", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:10].strip(): line[10:].strip() for line in lines if line[:10].strip()}


def test_a_file_says_what_it_is(metric: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, str(metric))
    assert rows["layout"] == "TAO metric Depth Anything V2 (Lightning checkpoint)"
    assert rows["predicts"] == "depth, m"
    assert rows["progress"] == "epoch 3, step 40"
    assert rows["spec"] == "model.model_type=MetricDepthAnything model.encoder=vitt"
    assert "train.pretrained_model_path" in rows["goes to"]


def test_it_is_written_for_the_project_that_published_it(metric: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "public.pth"
    assert run_app(app, "depth_net", ["inspect", str(metric), "--write", str(out), "--names", "published"]) == 0
    assert "with the published names" in capsys.readouterr().out
    assert "depth_head.projects.0.weight" in torch.load(out, weights_only=True)


@pytest.mark.parametrize(
    ("options", "words"), [(["--names", "tao"], "--write and --names go together"), (["--names", "timm"], "tao, published")]
)
def test_a_wrong_request_writes_nothing(metric: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "depth_net", ["inspect", str(metric), *options]) == MISUSED
    assert words in capsys.readouterr().err


def test_a_file_of_nobody_known_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "depth_net", ["inspect", str(saved(tmp_path / "a.pth", {"conv1.weight": torch.zeros(3)}))]) == MISUSED
    assert "holds 1 tensors of no known network" in capsys.readouterr().err


def test_training_takes_the_sizes_of_its_checkpoint(tao_graph: Path) -> None:
    wanted = ["model.model_type=FoundationStereo", f"train.pretrained_model_path={tao_graph}"]
    loaded = fitted(read_spec(None, wanted))
    model = loaded.spec.model
    assert (model.variant, model.encoder, model.hidden_dims, model.corr_radius) == ("tao", "vitt", (48, 48, 48), 2)
    assert loaded.assumed[-1].endswith(f"taken from {tao_graph}")


def test_lines_on_what_was_typed_stay(tao_graph: Path) -> None:
    wanted = ["model.model_type=FoundationStereo", f"train.pretrained_model_path={tao_graph}", "wandb.enable=false", "export.verbose=true"]
    loaded = read_spec(None, wanted, action="train")
    assert fitted(loaded).warnings == loaded.warnings == ("wandb.enable has no effect: runs are tracked in MLflow",)


def test_what_the_user_says_is_kept(tao_graph: Path) -> None:
    wanted = ["model.model_type=FoundationStereo", "model.variant=nvlabs", f"train.pretrained_model_path={tao_graph}"]
    assert fitted(read_spec(None, wanted)).spec.model.variant == "nvlabs"


@pytest.mark.parametrize("path", ["nothing.pth", "", "{metric}"])
def test_a_file_that_says_nothing_of_the_network_changes_nothing(metric: Path, path: str) -> None:
    given = read_spec(None, ["model.model_type=FoundationStereo", f"train.pretrained_model_path={path.format(metric=metric)}"])
    assert fitted(given) is given


def test_evaluation_needs_no_word_on_the_network(tao_graph: Path) -> None:
    spec = read_spec(None, [], template=template_of(tao_graph)).spec
    assert (spec.model.model_type, spec.model.variant, spec.model.corr_radius) == ("FoundationStereo", "tao", 2)


def test_a_published_range_is_taken_from_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "depth_anything_v2_metric_vkitti_vits.pth", mono(0).state_dict())
    assert read_spec(None, [], template=template_of(path)).spec.dataset.max_depth == 80.0


def test_first_weights_are_a_parameter_of_the_tracked_run() -> None:
    spec = read_spec(None, ["model.model_type=MetricDepthAnything", "model.mono_backbone.pretrained_path=a.pth"]).spec
    assert params_of(spec_to_dict(spec), {})["first_weights"] == "model.mono_backbone.pretrained_path=a.pth; random: the head"
