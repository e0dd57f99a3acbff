"""What people bring: each kind of published file under each key that takes it, and the ways in which TAO loads nothing or stops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from models.inspection import inspect_checkpoint
from models.mono.depth_anything import DepthAnything
from models.registry import build_network
from models.stereo.foundation_stereo import FoundationStereo
from models.weights import LoadReport, load_spec_weights
from search_spaces.errors import CheckpointError
from search_spaces.spec import Spec, load_spec
from search_spaces.spec.weights import MONO, SIDE, TRUNK, WHOLE, first_weights
from tests.models.files import (
    State,
    edgenext,
    hugging_face,
    mono,
    same,
    saved,
    stereo,
    tao,
    tao_metric,
    tao_stereo,
    tao_trunk,
    without_prefix,
)
from trials.checkpoints import read_resume

RELATIVE, METRIC, STEREO = "RelativeDepthAnything", "MetricDepthAnything", "FoundationStereo"


@pytest.fixture(scope="module")
def source() -> State:
    return dict(mono(0).state_dict())


@pytest.fixture(scope="module")
def trunk() -> State:
    return edgenext(0)


def spec_of(model_type: str, *overrides: str) -> Spec:
    size = ["model.max_disparity=64", "dataset.max_disparity=64"] if model_type == STEREO else []
    return load_spec(None, [f"model.model_type={model_type}", "model.encoder=vitt", *size, *overrides])


def loaded(spec: Spec) -> tuple[nn.Module, list[LoadReport]]:
    torch.manual_seed(1)
    network = build_network(spec)
    return network, load_spec_weights(network, spec)


def mono_loaded(spec: Spec) -> tuple[DepthAnything, str]:
    """The network with its weights, and what is said of them."""
    network, (report,) = loaded(spec)
    assert isinstance(network, DepthAnything)
    return network, str(report)


def stereo_loaded(spec: Spec) -> FoundationStereo:
    network, _ = loaded(spec)
    assert isinstance(network, FoundationStereo)
    return network


def refused(spec: Spec) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        loaded(spec)
    return caught.value


def untrained_head(network: DepthAnything, spec: Spec) -> bool:
    torch.manual_seed(1)
    fresh = build_network(spec)
    assert isinstance(fresh, DepthAnything)
    return same(network.depth_head, fresh.depth_head.state_dict())


# --- mono ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", [RELATIVE, METRIC])
def test_a_raw_dinov2_file_is_the_encoder_of_either_network(tmp_path: Path, source: State, model_type: str) -> None:
    encoder = without_prefix(source, "pretrained.")
    spec = spec_of(model_type, f"{MONO}={saved(tmp_path / 'dinov2_pretrain.pth', encoder)}")
    network, _ = mono_loaded(spec)
    assert same(network.pretrained, encoder)
    assert untrained_head(network, spec)
    assert first_weights(spec).random == ("the head",)


@pytest.mark.parametrize("model_type", [RELATIVE, METRIC])
@pytest.mark.parametrize("written", ["tao", "public", "hugging face"])
def test_the_encoder_of_a_relative_file_starts_either_network(tmp_path: Path, source: State, model_type: str, written: str) -> None:
    content = {"tao": tao(source), "public": source, "hugging face": hugging_face(source)}[written]
    spec = spec_of(model_type, f"{MONO}={saved(tmp_path / 'relative.pth', content)}")
    network, _ = mono_loaded(spec)
    assert same(network.pretrained, without_prefix(source, "pretrained."))
    assert untrained_head(network, spec)


def test_relative_finetune_from_tao(tmp_path: Path, source: State) -> None:
    spec = spec_of(RELATIVE, f"{WHOLE}={saved(tmp_path / 'dn_model_latest.pth', tao(source))}")
    assert same(mono_loaded(spec)[0], source)
    assert first_weights(spec).random == ()


def test_relative_finetune_from_the_public_file(tmp_path: Path, source: State) -> None:
    network, said = mono_loaded(spec_of(RELATIVE, f"{WHOLE}={saved(tmp_path / 'depth_anything_v2_vits.pth', source)}"))
    assert same(network, source)
    assert said.endswith("127 tensors loaded, 0 missing, 0 unexpected")


def test_metric_finetune_from_tao(tmp_path: Path, source: State) -> None:
    spec = spec_of(METRIC, f"{WHOLE}={saved(tmp_path / 'metric.pth', tao(tao_metric(source)))}")
    assert same(mono_loaded(spec)[0], source)


def test_metric_finetune_from_the_public_file(tmp_path: Path, source: State) -> None:
    path = saved(tmp_path / "depth_anything_v2_metric_hypersim_vits.pth", source)
    network, said = mono_loaded(spec_of(METRIC, f"{WHOLE}={path}"))
    assert same(network, source)
    assert said.endswith("; it was trained with dataset.max_depth=20 m, this network scales by 10.0")


def test_a_head_that_nothing_names_is_said(tmp_path: Path, source: State) -> None:
    _, said = mono_loaded(spec_of(METRIC, f"{WHOLE}={saved(tmp_path / 'mine.pth', source)}"))
    assert said.endswith("; nothing in the file says whether its head is relative or metric; it is taken as MetricDepthAnything")


@pytest.mark.parametrize("name", ["depth_anything_v2_vits.pth", "tao.pth"])
def test_a_relative_head_is_kept_from_a_metric_network(tmp_path: Path, source: State, name: str) -> None:
    error = refused(spec_of(METRIC, f"{WHOLE}={saved(tmp_path / name, tao(source) if name == 'tao.pth' else source)}"))
    assert "is a RelativeDepthAnything checkpoint, the spec says model.model_type=MetricDepthAnything" in error.message
    assert MONO in (error.hint or "")


def test_hugging_face_settings_say_what_the_head_is(tmp_path: Path, source: State) -> None:
    settings = {"depth_estimation_type": "metric", "max_depth": 80, "backbone_config": {"out_indices": [1, 2, 3, 4]}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    info = inspect_checkpoint(saved(tmp_path / "model.pth", hugging_face(source)))
    assert (info.output, info.max_depth_m, info.tensors) == ("depth", 80.0, len(source))


def test_depth_anything_v1_is_not_taken_for_v2(tmp_path: Path, source: State) -> None:
    by_name = spec_of(RELATIVE, f"{WHOLE}={saved(tmp_path / 'depth_anything_vits14.pth', source)}")
    assert "is Depth Anything V1" in refused(by_name).message
    (tmp_path / "config.json").write_text(json.dumps({"backbone_config": {"out_indices": [9, 10, 11, 12]}}))
    side = spec_of(STEREO, f"{SIDE}={saved(tmp_path / 'model.pth', hugging_face(source))}")
    assert "is Depth Anything V1" in refused(side).message


# --- stereo --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["timm", "tao"])
def test_stereo_from_its_two_feature_networks(tmp_path: Path, source: State, trunk: State, written: str) -> None:
    classifier = {"head.norm.weight": torch.ones(304), "head.fc.weight": torch.ones(10, 304)}
    named = {**trunk, **classifier} if written == "timm" else {"state_dict": tao_trunk(trunk)}
    side, edge = saved(tmp_path / "depth_anything_v2_vits.pth", source), saved(tmp_path / "edgenext_small.pth", named)
    spec = spec_of(STEREO, f"{SIDE}={side}", f"{TRUNK}={edge}")
    network = stereo_loaded(spec)
    own = network.feature.state_dict()
    assert same(network.feature.dino.depth_anything, source)
    assert all(torch.equal(own[name], tensor) for name, tensor in trunk.items())
    assert (first_weights(spec).random, first_weights(spec).warning) == (("the stereo layers",), None)


def test_stereo_side_network_from_a_tao_mono_checkpoint(tmp_path: Path, source: State) -> None:
    network = stereo_loaded(spec_of(STEREO, f"{SIDE}={saved(tmp_path / 'tao.pth', tao(tao_metric(source)))}"))
    assert same(network.feature.dino.depth_anything, source)


def test_stereo_finetune_from_tao(tmp_path: Path) -> None:
    source = dict(stereo(0, variant="tao").state_dict())
    spec = spec_of(STEREO, "model.variant=tao", f"{WHOLE}={saved(tmp_path / 'dn_model_latest.pth', tao(tao_stereo(source)))}")
    assert same(stereo_loaded(spec), source)


def test_stereo_finetune_from_the_research_release(tmp_path: Path) -> None:
    source = dict(stereo(0).state_dict())
    path = saved(tmp_path / "model_best_bp2.pth", {"model": source, "global_step": np.int64(200000), "epoch": np.float64(12)})
    (tmp_path / "cfg.yaml").write_text("vit_size: vits\nmax_disp: 416\nhidden_dims: [128, 128, 128]\n")
    network, (report,) = loaded(spec_of(STEREO, f"{WHOLE}={path}"))
    assert same(network, source)
    assert report.notes == ("it was trained with model.max_disparity=416, this network has 64",)
    assert (inspect_checkpoint(path).step, inspect_checkpoint(path).epoch) == (200000, 12)


def test_weights_of_one_graph_are_kept_from_the_other(tmp_path: Path) -> None:
    path = saved(tmp_path / "tao.pth", tao(tao_stereo(stereo(0, variant="tao").state_dict())))
    error = refused(spec_of(STEREO, f"{WHOLE}={path}"))
    assert "it was trained with model.variant tao, the spec says nvlabs" in error.message
    assert (error.hint or "").startswith("set model.variant=tao (the two graphs differ in norms, attention and one convolution")


def test_a_missing_trunk_file_is_an_error() -> None:
    error = refused(spec_of(STEREO, f"{TRUNK}=weights/edgenext.pth"))
    assert error.message == f"{TRUNK}: weight file weights/edgenext.pth does not exist"


def test_no_feature_files_are_a_loud_random_start() -> None:
    first = first_weights(spec_of(STEREO, "model.encoder=vits", f"{TRUNK}=null"))
    assert first.random == ("the side network (frozen, so it never learns)", "the EdgeNeXt trunk", "the stereo layers")
    assert first.warning is not None
    assert first.warning.endswith(f"set {SIDE} and {TRUNK}")


# --- resume --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"spec": {"train": {"num_epochs": 3}}}])
def test_a_tao_checkpoint_starts_a_run_and_does_not_resume_one(tmp_path: Path, source: State, settings: dict[str, object]) -> None:
    path = saved(tmp_path / "dn_model_latest.pth", tao(source, hyper_parameters=OmegaConf.create(settings) if settings else {}))
    with pytest.raises(CheckpointError, match="holds a training state of another program") as caught:
        read_resume(path, objective="val/loss")
    assert f"set train.pretrained_model_path={path}" in (caught.value.hint or "")
