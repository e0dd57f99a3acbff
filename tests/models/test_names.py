"""Names of other programs, each way, and files written for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints import read_checkpoint
from models.inspection import content_of
from models.names import encoder_from_hugging_face, mono_name, stereo_name, tao_mono_name, tao_stereo_name, tao_trunk_name, trunk_name
from models.rewrite import Names, rewrite
from models.weights import load_weights
from search_spaces.errors import CheckpointError
from tests.models.files import State, edgenext, hugging_face, lightning, mono, same, saved, stereo, tao_metric, tao_trunk, without_prefix


@pytest.fixture(scope="module")
def source() -> State:
    return dict(mono(0).state_dict())


def written(tmp_path: Path, content: object, names: Names, name: str = "a.pth") -> Path:
    out = tmp_path / "out.pth"
    rewrite(content_of(read_checkpoint(saved(tmp_path / name, content))), names, out)
    return out


@pytest.mark.parametrize(
    ("case", "tensors"), [("foundation_stereo_tao_vits_128x160_d128", 1147), ("foundation_stereo_vits_96x224_d192", 1192)]
)
def test_published_stereo_names_go_round(parity_folder: Path, case: str, tensors: int) -> None:
    names = list(json.loads((parity_folder / f"{case}.keys.json").read_text()))
    assert len({stereo_name(name) for name in names}) == tensors
    if "_tao_" in case:
        assert [tao_stereo_name(stereo_name(name)) for name in names] == names
    else:
        assert [stereo_name(name) for name in names] == names


def test_trunk_and_head_names_go_round(source: State) -> None:
    timm = [*edgenext(0), "head.norm.weight", "head.fc.bias"]
    assert [trunk_name(tao_trunk_name(name)) for name in timm] == timm
    assert [tao_trunk_name(name) for name in edgenext(0)] == list(tao_trunk(edgenext(0)))
    assert [mono_name(tao_mono_name(name, metric=True)) for name in source] == list(source)


def test_hugging_face_depth_anything_is_the_same_network(tmp_path: Path, source: State) -> None:
    network = mono(1)
    report = load_weights(network, saved(tmp_path / "a.pth", hugging_face(source)))
    assert same(network, source)
    assert report.layout == "Depth Anything V2, Hugging Face names"


def test_hugging_face_dinov2_is_the_same_encoder(tmp_path: Path, source: State) -> None:
    network = mono(1)
    load_weights(network, saved(tmp_path / "a.pth", without_prefix(hugging_face(source), "backbone.")), part="mono_backbone")
    assert same(network.pretrained, without_prefix(source, "pretrained."))


def test_hugging_face_names_of_the_giant_encoder() -> None:
    names = [f"encoder.layer.0.mlp.weights_{side}.weight" for side in ("in", "out")]
    assert list(encoder_from_hugging_face(dict.fromkeys(names, torch.zeros(1)))) == ["blocks.0.mlp.w12.weight", "blocks.0.mlp.w3.weight"]


def test_a_metric_checkpoint_of_ours_is_written_for_tao(tmp_path: Path, source: State) -> None:
    ours = lightning(source, spec={"model": {"model_type": "MetricDepthAnything"}, "dataset": {}})
    content = torch.load(written(tmp_path, ours, "tao"), weights_only=True)
    assert list(content["state_dict"]) == [f"model.{name}" for name in tao_metric(source)]
    assert content["pytorch-lightning_version"] == "2.5.0"


def test_a_tao_checkpoint_is_written_as_it_was_published(tmp_path: Path, source: State) -> None:
    content = torch.load(written(tmp_path, lightning(tao_metric(source)), "published"), weights_only=True)
    assert list(content) == list(source)


def test_the_tao_graph_is_written_for_tao_and_comes_back(tmp_path: Path) -> None:
    source = dict(stereo(0, variant="tao").state_dict())
    out = written(tmp_path, lightning(source, spec={"model": {"variant": "tao"}}), "tao")
    assert "model.cost_agg.atts.cost_vol_disp.sa.0.norm1.weight" in read_checkpoint(out).state_dict
    network = stereo(1, variant="tao")
    load_weights(network, out)
    assert same(network, source)


def test_the_nvlabs_graph_is_written_as_it_was_published(tmp_path: Path) -> None:
    source = dict(stereo(0).state_dict())
    content = torch.load(written(tmp_path, lightning(source, spec={"model": {"variant": "nvlabs"}}), "published"), weights_only=True)
    assert (list(content["model"]), content["global_step"], content["epoch"]) == (list(source), 40, 3)


def test_one_graph_is_not_written_as_the_other(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its graph is nvlabs, that of TAO is tao") as caught:
        written(tmp_path, dict(stereo(0).state_dict()), "tao")
    assert caught.value.hint == "train with model.variant=tao to get weights for TAO"


@pytest.mark.parametrize("names", ["tao", "published"])
def test_parts_are_written_as_their_program_reads_them(tmp_path: Path, source: State, names: Names) -> None:
    trunk, encoder = edgenext(0), without_prefix(source, "pretrained.")
    content = torch.load(written(tmp_path, trunk, names), weights_only=True)
    assert list(content["state_dict"] if names == "tao" else content) == list(tao_trunk(trunk) if names == "tao" else trunk)
    (tmp_path / "out.pth").unlink()
    assert list(torch.load(written(tmp_path, encoder, names), weights_only=True)) == list(encoder)


def test_a_head_that_nothing_names_is_not_written_for_tao(tmp_path: Path, source: State) -> None:
    with pytest.raises(CheckpointError, match="whether its head is relative or metric"):
        written(tmp_path, source, "tao")
    assert written(tmp_path, source, "tao", "depth_anything_v2_vits.pth").is_file()


def test_a_file_that_exists_is_kept(tmp_path: Path, source: State) -> None:
    (tmp_path / "out.pth").write_text("mine")
    with pytest.raises(CheckpointError, match="exists"):
        written(tmp_path, source, "published")
    assert (tmp_path / "out.pth").read_text() == "mine"
