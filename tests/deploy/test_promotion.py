"""Export, gate and verdict on generated scenes: what is written, what is refused, what a second run leaves."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from PIL import Image
from torch import nn

from deploy.judgement import judge
from deploy.model_card import model_card
from deploy.onnx_export import export_onnx
from deploy.onnx_runtime import OnnxPredictor
from deploy.parity import Candidate, Tolerance, tolerance_for
from deploy.promotion import Promotion, promote
from deploy.torch_runtime import TorchPredictor
from search_spaces.spec import Spec, load_spec, spec_to_dict, with_values
from tests.deploy.networks import mono_spec, network_of, save_checkpoint, stereo_spec
from tests.machine import lacks_for_engines, onnx_name, where_engines_are_built
from trials.data.sample import SampleSet, write_samples
from trials.data.transforms import normalise

PACKAGE = ["MODEL_CARD.md", "model.json", "model.onnx", "predict.py", "promotion.json", "spec.yaml"]
NOTHING_PASSES = Tolerance(max_abs=0.0, mean_abs=0.0, unit="m")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return write_samples(tmp_path_factory.mktemp("scenes"), scenes=6, height=64, width=96, max_disparity=32)


def with_lists(spec_of, scenes: SampleSet, kind: str, data_class: str) -> Spec:  # type: ignore[no-untyped-def]
    lists = {split: scenes.list_file(kind, split) for split in ("train", "val")}
    sources = [f"dataset.{split}_dataset.data_sources=[{{data_file: {path}, dataset_name: {data_class}}}]" for split, path in lists.items()]
    spec: Spec = spec_of(*sources, "dataset.val_dataset.workers=0")
    return spec


@pytest.fixture(scope="module")
def spec(scenes: SampleSet) -> Spec:
    return with_lists(mono_spec, scenes, "mono", "MetricMonoDataset")


@pytest.fixture(scope="module")
def network(spec: Spec) -> nn.Module:
    return network_of(spec)


@pytest.fixture(scope="module")
def checkpoint(spec: Spec, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(network, spec, tmp_path_factory.mktemp("trial") / "best.pth")


@pytest.fixture(scope="module")
def promotion(spec: Spec, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    return promote(checkpoint, tmp_path_factory.mktemp("study") / "promotion", spec=spec)


def verdict(folder: Path) -> dict:  # type: ignore[type-arg]
    data: dict = json.loads((folder / "promotion.json").read_text(encoding="utf-8"))  # type: ignore[type-arg]
    return data


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_good_export_is_promoted(promotion: Promotion) -> None:
    assert promotion.promoted, promotion.reason
    assert names(promotion.folder) == sorted([*PACKAGE, *where_engines_are_built("model.engine", "model.engine.json")])


def test_the_verdict_holds_the_figures(promotion: Promotion) -> None:
    told = verdict(promotion.folder)
    assert told["promoted"] is True
    assert told["check"]["max_abs"] <= told["check"]["tolerance"]["max_abs"]
    assert told["check"]["unit"] == "m"
    assert told["metrics"]["torch"]["abs_rel"] == pytest.approx(told["metrics"][onnx_name()]["abs_rel"], rel=1e-4)
    assert told["model"] == told["export"]["path"] == "model.onnx"


def test_the_spec_beside_the_model_draws_it_again(promotion: Promotion) -> None:
    export, facts = load_spec(promotion.folder / "spec.yaml").export, promotion.export.facts
    assert (export.input_height, export.input_width, export.batch_size) == (facts.height, facts.width, facts.batch)
    assert export.valid_iters is None  # those of the network, as here


def test_the_latency_table_has_every_runtime(promotion: Promotion) -> None:
    rows = verdict(promotion.folder)["latency"]["rows"]
    assert [row["runtime"] for row in rows] == ["torch", onnx_name(), *where_engines_are_built("tensorrt bf16")]
    assert all(0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"] for row in rows)


def test_the_engine_section_says_what_the_machine_lacks(promotion: Promotion) -> None:
    told, lacking = verdict(promotion.folder), lacks_for_engines()
    assert (told["engine"]["built"], told["engine"]["reason"]) == (lacking is None, lacking)
    assert told["int8"] is None


def test_a_model_over_tolerance_is_kept_aside_with_its_figures(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promotion = promote(checkpoint, tmp_path, spec=spec, formats=["onnx"], tolerance=NOTHING_PASSES)
    assert not promotion.promoted
    assert names(tmp_path) == ["model.rejected.json", "model.rejected.onnx", "promotion.json", "spec.yaml"]
    assert "allowed are 0" in verdict(tmp_path)["reason"]


def test_a_second_run_replaces_the_first(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"], tolerance=NOTHING_PASSES)
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"])
    assert names(tmp_path) == PACKAGE


def test_an_earlier_model_is_kept_when_a_later_one_is_rejected(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"])
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"], tolerance=NOTHING_PASSES)
    assert "model.onnx" not in names(tmp_path)
    assert "model.previous.onnx" in names(tmp_path)
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"])  # of which the earlier one is no part
    assert list(verdict(tmp_path)["files"]) == ["model.onnx"]
    assert "previous" not in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_crash_between_the_steps_leaves_no_claim(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"])
    (tmp_path / "spec.yaml").unlink()
    (tmp_path / "spec.yaml").mkdir()  # the step before the last one cannot be done
    with pytest.raises(OSError, match=r"spec\.yaml"):
        promote(checkpoint, tmp_path, spec=spec, formats=["onnx"])
    assert "promotion.json" not in names(tmp_path)


def broken(path: Path, name_end: str, factor: float) -> Path:
    """The same file with one initializer multiplied by `factor`."""
    model = onnx.load(path)
    (chosen,) = (value for value in model.graph.initializer if value.name.endswith(name_end))
    changed = onnx.numpy_helper.to_array(chosen) * np.float32(factor)
    chosen.CopyFrom(onnx.numpy_helper.from_array(changed, chosen.name))
    onnx.save(model, path)
    return path


def candidates(path: Path, spec: Spec) -> list[Candidate]:
    return [Candidate(predictor=OnnxPredictor(path), tolerance=tolerance_for(spec))]


def test_a_broken_export_is_stopped(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    path = export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42).path
    judgement = judge(network, candidates(broken(path, "output_conv1.weight", 1.5), spec), spec)
    assert not judgement.check.passed
    assert "difference" in str(judgement.check.reason)


def test_a_model_that_answers_nan_is_stopped(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    path = export_onnx(network, spec, tmp_path / "model.onnx", height=28, width=42).path
    judgement = judge(network, candidates(broken(path, "output_conv1.weight", float("nan")), spec), spec)
    assert (judgement.check.passed, judgement.check.max_abs) == (False, None)
    assert judgement.metrics[onnx_name()] == {}


@pytest.fixture(scope="module")
def stereo(scenes: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    """A stereo model of 64x64, of scenes of 64x96."""
    spec, folder = with_lists(stereo_spec, scenes, "stereo", "GenericDataset"), tmp_path_factory.mktemp("stereo")
    checkpoint = save_checkpoint(network_of(spec), spec, folder / "best.pth")
    return promote(checkpoint, folder / "promotion", spec=spec, formats=["onnx"], height=64, width=64)


def test_stereo_is_promoted_at_the_shape_asked_for(stereo: Promotion) -> None:
    promotion = stereo
    assert promotion.promoted, promotion.reason
    assert promotion.export.outputs == {"disparity": (1, 1, 64, 64)}
    assert promotion.judgement.metrics["torch"]["epe"] == pytest.approx(promotion.judgement.metrics[onnx_name()]["epe"], abs=1e-3)


def test_the_card_has_data_metrics_and_limits(promotion: Promotion) -> None:
    card = (promotion.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| val | mono_val.txt (MetricMonoDataset) | " in card
    assert "| runtime | batch | p50 ms | p95 ms | least ms |" in card
    assert "- Depths up to 20 m." in card
    assert "No weights of others" in card
    assert "also in the train lists" not in card


def test_the_card_warns_of_metrics_on_images_of_the_training(promotion: Promotion, spec: Spec, checkpoint: Path) -> None:
    known = with_values(spec, {"dataset.val_dataset.data_sources": list(spec_to_dict(spec)["dataset"]["train_dataset"]["data_sources"])})
    continued = with_values(known, {"train.pretrained_model_path": str(checkpoint)})
    told = verdict(promotion.folder)
    card = model_card(continued, told, promotion.export.facts, promotion.judgement.latency, checkpoint=checkpoint, folder=promotion.folder)
    assert re.search(r"\*\*(\d+) of these \1 images are also in the train lists", card)
    assert "`best.pth` (train.pretrained_model_path): trained by this program" in card


def test_the_card_names_gpu_and_processor(promotion: Promotion, spec: Spec, checkpoint: Path) -> None:
    measured = promotion.judgement.latency
    latency = replace(measured, machine=replace(measured.machine, gpu="H200", processor="EPYC", cores=16))
    told, facts = verdict(promotion.folder), promotion.export.facts
    card = model_card(spec, told, facts, latency, checkpoint=checkpoint, folder=promotion.folder)
    assert "runtimes taking turns; H200, EPYC, 16 cores, " in card


ALONE = """
import runpy, sys
for name in ("torch", "onnx", "cv2", "PIL", "deploy", "models", "trials", "search_spaces", "automl"):
    sys.modules[name] = None  # importing it fails
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_example(promotion: Promotion, *paths: Path, code: str = ALONE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(promotion.folder / "predict.py"), *map(str, paths)]
    return subprocess.run(command, check=False, cwd=paths[0].parent, capture_output=True, text=True)


def example_on(promotion: Promotion, *images: Path, code: str = ALONE) -> np.ndarray:
    target = images[0].with_suffix(".map.npy")
    done = run_example(promotion, *images, target, code=code)
    assert done.returncode == 0, done.stderr
    return np.asarray(np.load(target))


def test_the_example_needs_numpy_and_onnxruntime_alone_and_agrees(
    promotion: Promotion, spec: Spec, network: nn.Module, tmp_path: Path
) -> None:
    lines = (promotion.folder / "predict.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20
    pixels = np.random.default_rng(0).integers(0, 256, (28, 42, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", pixels)
    image = torch.from_numpy(normalise(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))[None]
    expected = TorchPredictor(network, "mono", device="cpu").predict((image,))[0, 0].numpy()
    np.testing.assert_allclose(example_on(promotion, tmp_path / "image.npy"), expected, atol=1e-4)


def test_the_example_reads_pictures_of_any_size(promotion: Promotion, tmp_path: Path) -> None:
    Image.fromarray(np.full((50, 70, 3), 128, np.uint8)).save(tmp_path / "image.png")
    assert example_on(promotion, tmp_path / "image.png", code=ALONE.replace('"PIL", ', "")).shape == (50, 70)


def test_the_example_gives_disparity_in_pixels_of_its_own_image(stereo: Promotion, tmp_path: Path) -> None:
    """All columns are alike, so that an image of three times the width shows the model the same: disparities three times as large."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 1, 3), dtype=np.uint8).repeat(64, axis=1)
    for name, times in (("narrow", 1), ("wide", 3)):
        np.save(tmp_path / f"{name}.npy", pixels.repeat(times, axis=1))
    narrow, wide = (example_on(stereo, *[tmp_path / f"{name}.npy"] * 2) for name in ("narrow", "wide"))
    assert wide.shape == (64, 192)
    np.testing.assert_allclose(wide[:, 1::3], 3 * narrow, rtol=1e-4, atol=1e-4)


def test_the_example_says_what_it_takes(stereo: Promotion, tmp_path: Path) -> None:
    done = run_example(stereo, tmp_path / "one.png", tmp_path / "map.npy")
    assert done.returncode == 1
    assert done.stderr.endswith("need no Pillow.\nThis model takes left_image and right_image.\n")


def test_openvino_is_part_of_the_package_where_the_spec_asks_for_it(scenes: SampleSet, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install -e '.[openvino]'")
    spec = with_lists(functools.partial(mono_spec, "export.format=openvino"), scenes, "mono", "MetricMonoDataset")
    promote(checkpoint, tmp_path, spec=spec, samples=1)
    told = verdict(tmp_path)
    assert sorted(told["files"]) == sorted(["model.bin", "model.onnx", "model.xml", *where_engines_are_built("model.engine")])
    runtimes = [onnx_name(), "openvino", *where_engines_are_built("tensorrt bf16")]
    assert list(told["checks"]) == runtimes
    assert [row["runtime"] for row in told["latency"]["rows"]] == ["torch", *runtimes]


def test_training_images_serve_where_there_is_no_validation_list(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promotion = promote(checkpoint, tmp_path, spec=spec, formats=["onnx"], split="train", samples=2)
    assert (promotion.judgement.split, promotion.judgement.check.samples) == ("train", 2)
