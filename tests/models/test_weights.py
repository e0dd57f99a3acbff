"""Weight files: every published layout loads, every misfit is named once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.backbones.edgenext import EdgeNeXt
from models.checkpoints import Container
from models.inspection import inspect_checkpoint
from models.weights import check_spec_weights, load_spec_weights, load_weights, read_checkpoint
from search_spaces.errors import CheckpointError
from search_spaces.spec import load_spec
from tests.models.files import (
    State,
    edgenext,
    lightning,
    mono,
    prefixed,
    renamed,
    same,
    saved,
    stereo,
    tao_stereo,
    tao_trunk,
    without_prefix,
)


@pytest.fixture(scope="module")
def source() -> State:
    return dict(mono(0).state_dict())


@pytest.fixture(scope="module")
def trunk() -> State:
    return edgenext(0)


@pytest.fixture(scope="module")
def nvlabs() -> State:
    return dict(stereo(0).state_dict())


# --- layouts -------------------------------------------------------------------------------------------------------------------


def test_depth_anything_flat(tmp_path: Path, source: State) -> None:
    network = mono(1)
    report = load_weights(network, saved(tmp_path / "dav2.pth", source))
    assert same(network, source)
    assert (report.loaded, report.missing, report.unexpected, report.encoder) == (len(source), 0, 0, "vitt")


def test_safetensors(tmp_path: Path, source: State) -> None:
    save_file(source, tmp_path / "dav2.safetensors")
    network = mono(1)
    load_weights(network, tmp_path / "dav2.safetensors")
    assert same(network, source)


def test_tao_relative(tmp_path: Path, source: State) -> None:
    network = mono(1)
    load_weights(network, saved(tmp_path / "tao.pth", lightning(source)))
    assert same(network, source)


def test_tao_metric_head_is_renamed(tmp_path: Path, source: State) -> None:
    network = mono(1, relative=False)
    named = renamed(source, (r"^depth_head\.", "metric_depth_head."))
    load_weights(network, saved(tmp_path / "tao.pth", lightning(named)))
    assert same(network, source)


def test_our_own_file_carries_its_spec(tmp_path: Path, source: State) -> None:
    spec = {"model": {"model_type": "MetricDepthAnything"}, "dataset": {"max_depth": 5.0}}
    path = saved(tmp_path / "best.pth", lightning(source, spec=spec, metrics={"val/loss": 0.5}))
    info, report = inspect_checkpoint(path), load_weights(mono(1, relative=False), path)
    assert (info.container, info.output, info.epoch, info.step, info.metrics) == (Container.OURS, "depth", 3, 40, {"val/loss": 0.5})
    assert info.max_depth_m == 5.0
    assert report.notes == ("it was trained with dataset.max_depth=5 m, this network scales by 10.0",)


def test_weights_beside_the_network_are_set_aside(tmp_path: Path, source: State) -> None:
    content = lightning(source)
    content["state_dict"] = {**prefixed(source, "model."), "loss.scale": torch.ones(1)}
    report = load_weights(mono(1), saved(tmp_path / "a.pth", content))
    assert (report.unexpected, report.set_aside) == (1, ("loss.scale",))


@pytest.mark.parametrize("prefix", ["", "pretrained."])
def test_encoder_from_dinov2_and_from_depth_anything(tmp_path: Path, source: State, prefix: str) -> None:
    network = mono(1)
    head = network.depth_head.scratch.output_conv1.weight.clone()
    state = without_prefix(source, "pretrained.") if prefix == "" else source
    report = load_weights(network, saved(tmp_path / "a.pth", state), part="mono_backbone")
    assert same(network.pretrained, without_prefix(source, "pretrained."))
    assert torch.equal(network.depth_head.scratch.output_conv1.weight, head)
    assert report.loaded == len(network.pretrained.state_dict())


def test_an_idle_tensor_may_be_missing(tmp_path: Path, source: State) -> None:
    state = {name: tensor for name, tensor in source.items() if name != "pretrained.mask_token"}
    assert load_weights(mono(1), saved(tmp_path / "a.pth", state)).missing == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_timm_trunk_leaves_its_classifier(tmp_path: Path, trunk: State, wrapped: bool) -> None:
    classifier = {"head.norm.weight": torch.ones(304), "head.fc.weight": torch.ones(10, 304)}
    state = {**trunk, **classifier}
    network = EdgeNeXt()
    report = load_weights(network, saved(tmp_path / "a.pth", {"state_dict": state} if wrapped else state))
    assert same(network, trunk)
    assert report.set_aside == tuple(classifier)


def test_tao_trunk_into_a_stereo_network(tmp_path: Path, trunk: State) -> None:
    network = stereo(1)
    state = {**tao_trunk(trunk), "norm.weight": torch.ones(304), "head.weight": torch.ones(10, 304)}
    report = load_weights(network, saved(tmp_path / "a.pth", {"state_dict": state}), part="trunk")
    own = network.feature.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in trunk.items())
    assert (report.loaded, report.unexpected) == (len(trunk), 2)


def test_side_network_from_a_tao_mono_checkpoint(tmp_path: Path, source: State) -> None:
    network = stereo(1)
    load_weights(network, saved(tmp_path / "a.pth", lightning(source)), part="side_network")
    assert same(network.feature.dino.depth_anything, source)


@pytest.mark.parametrize("wrapped", [False, True])
def test_published_stereo(tmp_path: Path, nvlabs: State, wrapped: bool) -> None:
    network = stereo(1)
    content = {"model": nvlabs, "global_step": np.int64(200000), "epoch": np.float64(12)} if wrapped else nvlabs
    load_weights(network, saved(tmp_path / "a.pth", content))
    assert same(network, nvlabs)


@pytest.mark.parametrize("wrapped", [False, True])
def test_tao_stereo(tmp_path: Path, wrapped: bool) -> None:
    network, expected = stereo(1, variant="tao"), dict(stereo(0, variant="tao").state_dict())
    named = tao_stereo(expected)
    assert "feature.downsample_layers.0.0.weight" in named
    path = saved(tmp_path / "a.pth", lightning(named) if wrapped else named)
    load_weights(network, path)
    assert same(network, expected)
    assert inspect_checkpoint(path).traits.variant == "tao"


@pytest.mark.parametrize("variant", ["nvlabs", "tao"])
def test_our_own_stereo_file(tmp_path: Path, variant: str) -> None:
    network, expected = stereo(1, variant=variant), dict(stereo(0, variant=variant).state_dict())
    load_weights(network, saved(tmp_path / "best.pth", lightning(expected, spec={"model": {"variant": variant}})))
    assert same(network, expected)


def test_all_files_of_a_spec(tmp_path: Path, source: State, trunk: State) -> None:
    side, edge = saved(tmp_path / "side.pth", source), saved(tmp_path / "edge.pth", trunk)
    keys = [f"depth_anything_v2_pretrained_path={side}", f"edgenext_pretrained_path={edge}"]
    overrides = ["model.model_type=FoundationStereo", "model.encoder=vitt", *(f"model.stereo_backbone.{key}" for key in keys)]
    reports = load_spec_weights(stereo(1), load_spec(None, overrides))
    assert [report.part for report in reports] == ["side_network", "trunk"]


def test_files_of_a_spec_are_checked_without_a_network(tmp_path: Path, source: State) -> None:
    path = saved(tmp_path / "a.pth", source)
    spec = load_spec(None, ["model.model_type=RelativeDepthAnything", "model.encoder=vitt", f"train.pretrained_model_path={path}"])
    assert [report.loaded for report in check_spec_weights(spec)] == [len(source)]


def test_an_error_names_the_key_of_the_spec() -> None:
    spec = load_spec(None, ["model.model_type=RelativeDepthAnything", "model.encoder=vitt", "train.pretrained_model_path=none.pth"])
    with pytest.raises(CheckpointError, match=r"^train.pretrained_model_path: weight file none.pth does not exist"):
        check_spec_weights(spec)


def test_an_empty_path_loads_nothing() -> None:
    spec = load_spec(None, ["model.model_type=RelativeDepthAnything", "model.encoder=vitt", "train.pretrained_model_path="])
    assert load_spec_weights(mono(1), spec) == []


# --- misfits -------------------------------------------------------------------------------------------------------------------


def error_of(network: nn.Module, path: Path, part: str = "all") -> CheckpointError:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, path, part=part)  # type: ignore[arg-type]
    assert same(network, before)  # a refused file changes nothing
    return caught.value


def test_another_encoder_is_named(tmp_path: Path, source: State) -> None:
    error = error_of(mono(1), saved(tmp_path / "a.pth", {**source, "pretrained.pos_embed": torch.zeros(1, 1370, 384)}))
    assert "it was trained with model.encoder vits, the spec says vitt" in error.message
    assert error.hint == "set model.encoder=vits"


def test_batch_norm_in_the_head_is_named(tmp_path: Path) -> None:
    error = error_of(mono(1), saved(tmp_path / "a.pth", mono(0, use_bn=True).state_dict()))
    assert error.hint == "set model.mono_backbone.use_bn=true"


def test_the_layout_decides_the_variant(tmp_path: Path, nvlabs: State) -> None:
    error = error_of(stereo(1, variant="tao"), saved(tmp_path / "a.pth", nvlabs))
    assert "it was trained with model.variant nvlabs, the spec says tao" in error.message
    assert (error.hint or "").startswith("set model.variant=nvlabs (the two graphs differ in norms")


def test_another_lookup_radius_is_explained(tmp_path: Path, nvlabs: State) -> None:
    error = error_of(stereo(1, corr_radius=6), saved(tmp_path / "a.pth", nvlabs))
    assert "it was trained with model.corr_radius 4, the spec says 6" in error.message
    assert (error.hint or "").startswith("set model.corr_radius=4 (levels and radius of the lookup are layer shapes")


@pytest.mark.parametrize(
    ("knob", "setting"),
    [
        ({"corr_levels": 1}, "model.corr_levels=1"),
        ({"n_gru_layers": 2}, "model.n_gru_layers=2"),
        ({"hidden_dims": (48, 48, 48)}, "model.hidden_dims=[48,48,48]"),
        ({"use_bn": True}, "model.stereo_backbone.use_bn=true"),
        ({"use_clstoken": True}, "model.stereo_backbone.use_clstoken=true"),
        ({"encoder": "vits"}, "model.encoder=vits"),
    ],
)
def test_every_size_that_differs_is_a_key_to_set(tmp_path: Path, knob: dict[str, object], setting: str) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in stereo(0, **knob).state_dict().items()}
    one = torch.zeros(())  # names and shapes decide; one shared number stands for all the values
    path = saved(tmp_path / "a.pth", {name: one.expand(shape) for name, shape in shapes.items()})
    with torch.device("meta"), pytest.raises(CheckpointError) as caught:
        load_weights(stereo(1), path)
    key, _, value = setting.partition("=")
    assert f"does not fit: it was trained with {key} {value}, the spec says" in caught.value.message
    assert (caught.value.hint or "").startswith(f"set {setting}")


def test_a_relative_head_does_not_feed_a_metric_network(tmp_path: Path, source: State) -> None:
    error = error_of(mono(1, relative=False), saved(tmp_path / "a.pth", lightning(source)))
    assert "is a RelativeDepthAnything checkpoint, the spec says model.model_type=MetricDepthAnything" in error.message
    assert "model.mono_backbone.pretrained_path" in (error.hint or "")


def test_a_bare_encoder_is_not_a_whole_network(tmp_path: Path, source: State) -> None:
    error = error_of(mono(1), saved(tmp_path / "a.pth", without_prefix(source, "pretrained.")))
    assert "is a DINOv2 encoder file, but a Depth Anything network needs Depth Anything V2" in error.message
    assert "model.mono_backbone.pretrained_path" in (error.hint or "")


def test_another_edgenext_is_named(tmp_path: Path, trunk: State) -> None:
    error = error_of(EdgeNeXt(), saved(tmp_path / "a.pth", {**trunk, "stem.0.weight": torch.zeros(32, 3, 4, 4)}))
    assert "is an EdgeNeXt of width 32" in error.message


def test_missing_and_unexpected_tensors_are_counted(tmp_path: Path, source: State) -> None:
    state = {**source, "pretrained.extra": torch.zeros(1)}
    del state["pretrained.norm.weight"]
    error = error_of(mono(1), saved(tmp_path / "a.pth", state))
    assert f"fills {len(source) - 1} of {len(source)} tensors" in error.message
    assert "1 missing: pretrained.norm.weight; 1 unexpected: pretrained.extra" in error.message


def test_another_shape_is_shown(tmp_path: Path, source: State) -> None:
    state = {**source, "pretrained.norm.weight": torch.zeros(3)}
    assert "pretrained.norm.weight (3,) instead of (96,)" in error_of(mono(1), saved(tmp_path / "a.pth", state)).message


def test_a_stranger_is_not_loaded(tmp_path: Path) -> None:
    error = error_of(mono(1), saved(tmp_path / "a.pth", {"conv1.weight": torch.zeros(3)}))
    assert "holds 1 tensors of no known network; the first are conv1.weight" in error.message


def test_a_network_without_the_part(tmp_path: Path, source: State) -> None:
    assert "DepthAnything has no part 'trunk'" in error_of(mono(1), saved(tmp_path / "a.pth", source), "trunk").message


# --- files ---------------------------------------------------------------------------------------------------------------------


class Stranger:
    """Something that only unpickling could rebuild."""


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return caught.value


def test_objects_are_refused(tmp_path: Path) -> None:
    error = refused(saved(tmp_path / "a.pth", {"weights": torch.zeros(1), "config": Stranger()}))
    assert "is refused: besides tensors it holds an object of tests.models.test_weights.Stranger" in error.message


def test_a_cut_file(tmp_path: Path, source: State) -> None:
    whole = saved(tmp_path / "a.pth", source).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "is damaged or cut short" in refused(tmp_path / "cut.pth").message


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"hello, no weights here", "is not a PyTorch weight file")])
def test_no_weight_file(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert words in refused(tmp_path / "a.pth").message


def test_damaged_safetensors(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x10\x00\x00\x00")
    assert "is damaged or not a safetensors file" in refused(tmp_path / "a.safetensors").message


def test_a_missing_file_names_its_neighbour(tmp_path: Path, source: State) -> None:
    saved(tmp_path / "best.pth", source)
    assert refused(tmp_path / "bets.pth").hint == f"did you mean {tmp_path / 'best.pth'}?"


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path).message


def test_an_engine(tmp_path: Path) -> None:
    (tmp_path / "a.engine").write_bytes(b"x")
    assert "is a TensorRT engine" in refused(tmp_path / "a.engine").message


def test_an_encrypted_file(tmp_path: Path) -> None:
    assert "is encrypted" in refused(saved(tmp_path / "a.pth", {"state_dict_encrypted": True, "state_dict": b"..."})).message


def test_a_file_without_tensors(tmp_path: Path) -> None:
    assert "holds no tensors (its keys: epoch)" in refused(saved(tmp_path / "a.pth", {"epoch": 3})).message
