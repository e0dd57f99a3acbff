"""An export takes its name only when it gives the checkpoint's answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
from torch import nn

from deploy.gated_export import Draw, Gated, export_gated
from deploy.onnx_export import ExportReport, export_onnx
from deploy.pairing import pairing_notes, shape_notes
from deploy.samples import made_up_images
from search_spaces.errors import DataError
from search_spaces.spec import Spec, with_values
from tests.deploy.networks import mono_spec, network_of, stereo_spec
from tests.deploy.test_promotion import broken, with_lists
from tests.machine import onnx_name
from trials.data.sample import write_samples


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    scenes = write_samples(tmp_path_factory.mktemp("scenes"), scenes=6, height=64, width=96, max_disparity=32)
    return with_lists(mono_spec, scenes, "mono", "MetricMonoDataset")


@pytest.fixture(scope="module")
def network(spec: Spec) -> nn.Module:
    return network_of(spec)


def drawn(network: nn.Module, spec: Spec) -> Draw:
    return functools.partial(export_onnx, network, spec, height=28, width=42, batch=1)


def gated(network: nn.Module, spec: Spec, folder: Path, draw: Draw | None = None, *, split: str | None = "val") -> Gated:
    return export_gated(
        network, spec, folder / "m.onnx", draw or drawn(network, spec), size=(28, 42), samples=2, split=split, openvino=False
    )


def perturbed(network: nn.Module, spec: Spec) -> Draw:
    def draw(path: Path) -> ExportReport:
        report = drawn(network, spec)(path)
        broken(path, "output_conv1.weight", 1.02)
        return report

    return draw


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_good_export_gets_its_name_and_its_figures(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    done = gated(network, spec, tmp_path)
    assert (done.reason, names(tmp_path)) == (None, ["m.json", "m.onnx"])
    told = json.loads((tmp_path / "m.json").read_text())["parity"]
    assert (told["passed"], told["compared_on"], told["runtimes"][onnx_name()]["metric"]) == (True, "val", "abs_rel")


def test_one_changed_weight_is_stopped_and_kept_aside(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"earlier")
    done = gated(network, spec, tmp_path, perturbed(network, spec))
    assert done.reason is not None
    assert names(tmp_path) == ["m.onnx", "m.rejected.json", "m.rejected.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"earlier"
    assert json.loads((tmp_path / "m.rejected.json").read_text())["parity"]["passed"] is False


def test_images_that_cannot_be_read_are_said_before_anything_is_drawn(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("gone.png gone.pfm\n")
    lists = with_values(
        spec, {"dataset.val_dataset.data_sources": [{"data_file": str(tmp_path / "val.txt"), "dataset_name": "MetricMonoDataset"}]}
    )
    with pytest.raises(DataError):
        gated(network, lists, tmp_path, lambda path: pytest.fail(f"{path} was drawn"))


def test_made_up_images_find_it_too(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    assert gated(network, spec, tmp_path, perturbed(network, spec), split=None).reason is not None


def test_openvino_is_written_and_checked(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install -e '.[openvino]'")
    done = export_gated(network, spec, tmp_path / "m.onnx", drawn(network, spec), size=(28, 42), samples=1, split="val", openvino=True)
    assert (done.reason, sorted(done.checks)) == (None, [onnx_name(), "openvino"])
    assert names(tmp_path) == ["m.bin", "m.json", "m.onnx", "m.xml"]
    gated(network, spec, tmp_path)  # the files of the one before are of another model
    assert names(tmp_path) == ["m.json", "m.onnx"]


def test_files_of_others_beside_an_export_stay(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("mine")
    gated(network, spec, tmp_path)
    assert names(tmp_path) == ["m.json", "m.onnx", "m.xml"]


def test_made_up_views_differ_by_a_shift() -> None:
    ((left, right),) = made_up_images("stereo", (32, 64), 1)
    assert left.shape == (1, 3, 32, 64)
    assert left[..., 8:].equal(right[..., :-8])


@pytest.mark.parametrize(("opset", "notes"), [(16, 0), (17, 0), (20, 1)])
def test_opsets_of_stereo_fp16_engines(opset: int, notes: int) -> None:
    spec = stereo_spec("gen_trt_engine.tensorrt.data_type=FP16", f"export.opset_version={opset}")
    assert len(pairing_notes(spec)) == notes


def test_sizes_that_are_not_the_model_s_are_told() -> None:
    key = "dataset.test_dataset.augmentation"
    spec = mono_spec(f"{key}.evaluation=pad", f"{key}.crop_size=[28,56]")
    (note,) = shape_notes(spec, {f"{key}.crop_size"}, size=(28, 42))
    assert note.startswith(f"{key}.crop_size is 28x56, but the model takes 28x42")
