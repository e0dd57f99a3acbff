"""Names, shapes, rules and silence of the ONNX export."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from deploy.onnx_export import ExportReport, export_onnx, nearest_legal_size
from deploy.sidecar import METADATA_KEY, ModelFacts, file_sha256
from search_spaces.errors import SpecError, UnsupportedError, UserError
from search_spaces.spec import Spec
from tests.deploy.networks import mono_spec, network_of, stereo_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return mono_spec()


@pytest.fixture(scope="module")
def network(spec: Spec) -> nn.Module:
    return network_of(spec)


@pytest.fixture(scope="module")
def report(spec: Spec, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_onnx(network, spec, tmp_path_factory.mktemp("mono") / "model.onnx", height=28, width=42)


@pytest.fixture(scope="module")
def stereo_report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    spec = stereo_spec()
    return export_onnx(network_of(spec), spec, tmp_path_factory.mktemp("stereo") / "model.onnx", height=64, width=96, batch=1)


def test_mono_names_and_shapes(report: ExportReport) -> None:
    assert report.inputs == {"images": (None, 3, 28, 42)}
    assert report.outputs == {"outputs": (None, 28, 42)}


def test_stereo_names_and_shapes(stereo_report: ExportReport) -> None:
    assert stereo_report.inputs == {"left_image": (1, 3, 64, 96), "right_image": (1, 3, 64, 96)}
    assert stereo_report.outputs == {"disparity": (1, 1, 64, 96)}


def test_the_report_says_what_the_file_holds(report: ExportReport) -> None:
    model = onnx.load(report.path)
    assert report.opset == model.opset_import[0].version == 17
    assert report.nodes >= len(model.graph.node) > 0
    assert report.size_bytes == report.path.stat().st_size


def test_one_file_and_its_sidecar_and_nothing_else(report: ExportReport) -> None:
    assert sorted(path.name for path in report.path.parent.iterdir()) == ["model.json", "model.onnx"]


def test_the_sidecar_tells_the_same_as_the_file(report: ExportReport) -> None:
    held = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    told = json.loads(report.sidecar.read_text(encoding="utf-8"))
    assert ModelFacts.from_text(held[METADATA_KEY], place="file") == report.facts
    assert told["sha256"] == file_sha256(report.path)
    assert (told["model_type"], told["encoder"], told["height"], told["width"], told["max_depth"]) == (
        "MetricDepthAnything",
        "vitt",
        28,
        42,
        20,
    )


def test_stereo_facts_hold_disparity_and_iterations(stereo_report: ExportReport) -> None:
    facts = stereo_report.facts
    assert (facts.variant, facts.max_disparity, facts.iterations, facts.max_depth, facts.batch) == ("nvlabs", 64, 2, None, 1)


@pytest.mark.parametrize("opset", [17, 18])
def test_the_opset_is_the_one_asked_for(spec: Spec, network: nn.Module, tmp_path: Path, opset: int) -> None:
    assert export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42, opset=opset).opset == opset


def test_an_existing_file_is_kept(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match="not overwritten"):
        export_onnx(network, spec, path, height=28, width=42)
    assert path.read_bytes() == b"mine"


def test_overwrite_replaces_it(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")
    assert export_onnx(network, spec, path, height=28, width=42, overwrite=True).size_bytes > 4


def test_a_json_file_of_one_s_own_is_not_taken_for_the_description(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"mine": true}')
    with pytest.raises(UserError, match=r"model\.json, where the model's description goes, is there already"):
        export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42)


def test_a_description_whose_model_is_gone_is_replaced(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42).path.unlink()
    assert export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42).sidecar.is_file()


def test_a_failed_export_leaves_nothing(spec: Spec, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    with pytest.raises(UnsupportedError, match=r": no$"):
        export_onnx(Broken(), spec, tmp_path / "model.onnx", height=28, width=42)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [17, 18])
def test_an_operator_that_cannot_be_exported_is_one_error_and_no_graph(
    spec: Spec, tmp_path: Path, capfd: pytest.CaptureFixture[str], opset: int
) -> None:
    class Unknown(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(images[..., :28, :28]).abs()[:, 0]

    with pytest.raises(UnsupportedError, match=f"cannot draw this network for opset {opset}") as caught:
        export_onnx(Unknown(), spec, tmp_path / "model.onnx", height=28, width=42, opset=opset)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_illegal_size_names_the_nearest_legal_one(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="multiples of 14") as caught:
        export_onnx(network, spec, tmp_path / "model.onnx", height=30, width=42)
    assert "28x42" in str(caught.value.hint)


def test_nearest_legal_size() -> None:
    assert nearest_legal_size(575, 10, 32) == (576, 32)


def test_an_opset_out_of_range_is_refused(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="opset_version"):
        export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42, opset=11)


def test_weights_beyond_protobuf_are_refused(spec: Spec, tmp_path: Path) -> None:
    with torch.device("meta"):
        huge = nn.Linear(30000, 30000)
    with pytest.raises(UnsupportedError, match=r"3\.6 GB"):
        export_onnx(huge, spec, tmp_path / "model.onnx", height=28, width=42)


def test_the_network_is_left_as_it_was(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    network.train()
    before = copy.deepcopy(network.state_dict())
    export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42)
    assert network.training
    assert any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("opset", [17, 18])
def test_nothing_is_printed(spec: Spec, network: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str], opset: int) -> None:
    export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42, opset=opset)
    assert capfd.readouterr() == ("", "")


def test_grey_images_are_refused(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="3 channels"):
        export_onnx(network, mono_spec("export.input_channel=1"), tmp_path / "model.onnx", height=28, width=42)
