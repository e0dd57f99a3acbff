"""OpenVINO gives torch's answers in float32, nearly so in bfloat16, and keeps the model's description."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deploy.onnx_export import export_onnx
from deploy.openvino_runtime import write_openvino
from deploy.runtime import OpenVinoPredictor, TorchPredictor, load_predictor
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError
from search_spaces.spec import Spec
from tests.deploy.networks import images_of, mono_spec, network_of, stereo_spec

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install -e '.[openvino]'")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Path, Tensor]:
    return write(mono_spec(), tmp_path_factory.mktemp("xml"))


def write(spec: Spec, folder: Path) -> tuple[Spec, Path, Tensor]:
    """The spec, an `.xml` whose batch is 2, and torch's answer to three images."""
    network = network_of(spec)
    height, width = images_of(spec, 1)[0].shape[-2:]
    model = export_onnx(network, spec, folder / "model.onnx", height=height, width=width, batch=2).path
    xml, _ = write_openvino(model, folder / "model.xml")
    return spec, xml, TorchPredictor(network, spec.family, device="cpu").predict(images_of(spec, 3))


@pytest.mark.parametrize(("runtime", "largest"), [("auto", 1e-4), ("bf16", 0.1)])
def test_it_answers_as_torch_does(written: tuple[Spec, Path, Tensor], runtime: str, largest: float) -> None:
    spec, xml, expected = written
    torch.testing.assert_close(load_predictor(xml, spec, runtime=runtime).predict(images_of(spec, 3)), expected, atol=largest, rtol=0)


def test_stereo_too(tmp_path: Path) -> None:
    spec, xml, expected = write(stereo_spec("model.valid_iters=1"), tmp_path)
    torch.testing.assert_close(load_predictor(xml, spec).predict(images_of(spec, 3)), expected, atol=1e-4, rtol=0)


def test_the_file_keeps_size_and_description(written: tuple[Spec, Path, Tensor]) -> None:
    spec, xml, expected = written
    predictor = OpenVinoPredictor(xml)
    assert predictor.facts is not None
    assert (predictor.family, predictor.batch, predictor.fixed_size) == (spec.family, 2, tuple(expected.shape[-2:]))
    assert predictor.facts.model_type == spec.model.model_type


def test_two_files_and_nothing_else_are_written(written: tuple[Spec, Path, Tensor]) -> None:
    assert sorted(path.name for path in written[1].parent.iterdir()) == ["model.bin", "model.json", "model.onnx", "model.xml"]


def test_another_network_is_explained(written: tuple[Spec, Path, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="mono in the file, stereo in the spec"):
        load_predictor(written[1], stereo_spec())


def test_a_provider_of_onnx_runtime_is_not_for_it(written: tuple[Spec, Path, Tensor]) -> None:
    with pytest.raises(SpecError, match=r"runtime=tensorrt is not for \.xml files"):
        load_predictor(written[1], written[0], runtime="tensorrt")


def test_a_file_that_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<a/>")
    with pytest.raises(CheckpointError, match="OpenVINO cannot load the model"):
        OpenVinoPredictor(tmp_path / "model.xml")


def test_without_the_library_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UnsupportedError, match="not installed") as caught:
        OpenVinoPredictor(tmp_path / "model.xml")
    assert "[openvino]" in str(caught.value.hint)
