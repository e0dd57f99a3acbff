"""int8 files and engines of a promotion: made of its model, judged with it, shipped with their figures or kept aside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deploy.engine_runtime import check_batch
from deploy.forms import MAKERS, Made, Maker, check_formats, formats_of, make_int8
from deploy.judgement import Stage
from deploy.onnx_runtime import OnnxPredictor
from deploy.parity import Candidate, tolerance_for
from deploy.promotion import Promotion, promote
from deploy.sidecar import write_json
from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec, with_values
from tests.deploy.networks import mono_spec, network_of, save_checkpoint
from tests.deploy.test_promotion import broken, with_lists
from tests.machine import onnx_name
from trials.data.sample import write_samples


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    scenes = write_samples(tmp_path_factory.mktemp("scenes"), scenes=6, height=64, width=96, max_disparity=32)
    return with_lists(mono_spec, scenes, "mono", "MetricMonoDataset")


@pytest.fixture(scope="module")
def checkpoint(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(network_of(spec), spec, tmp_path_factory.mktemp("trial") / "best.pth")


@pytest.fixture(scope="module")
def with_int8(spec: Spec, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    return promote(checkpoint, tmp_path_factory.mktemp("promotion"), spec=spec, formats=["onnx", "int8"], samples=2)


def make_double(source: Path, target: Path, spec: Spec, _: Stage) -> Made:
    """An engine's place is taken by a copy of the ONNX file, which a machine without a GPU can run."""
    model = shutil.copyfile(source, target.with_suffix(".copy.onnx"))
    target.write_bytes(b"plan")
    write_json(target.with_name(f"{target.name}.json"), {"engine": {}})
    return made_of(model, spec)


def made_of(model: Path, spec: Spec) -> Made:
    predictor = OnnxPredictor(model)
    predictor.name = "tensorrt bf16"
    details = {"precision": "BF16", "tensorrt_version": "11.0", "gpu": "H200", "size_bytes": 4}
    return Made(candidate=Candidate(predictor=predictor, tolerance=tolerance_for(spec), decides=False), details=details)


def make_wrong(source: Path, target: Path, spec: Spec, stage: Stage) -> Made:
    made = make_double(source, target, spec, stage)
    return replace(made, candidate=made_of(broken(target.with_suffix(".copy.onnx"), "output_conv1.weight", 1.5), spec).candidate)


def failing(error: Exception) -> Callable[[Path, Path, Spec, Stage], Made]:
    def make(_: Path, __: Path, ___: Spec, ____: Stage) -> Made:
        raise error

    return make


def engine_of(
    spec: Spec, checkpoint: Path, folder: Path, make: Callable[[Path, Path, Spec, Stage], Made]
) -> tuple[Promotion, dict[str, Any]]:
    """What becomes of the engine that `make` makes on any machine."""
    makers = {"engine": Maker(check=lambda _: None, make=make)}
    promotion = promote(checkpoint, folder, spec=spec, formats=["onnx", "engine"], samples=1, makers=makers)
    return promotion, json.loads((folder / "promotion.json").read_text())


def test_int8_is_shipped_with_its_figures(with_int8: Promotion) -> None:
    told = json.loads((with_int8.folder / "promotion.json").read_text())
    assert (told["int8"]["built"], told["int8"]["file"], told["int8"]["reason"]) == (True, "model.int8.onnx", None)
    assert told["int8"]["details"]["calibrated_on"].startswith("4 of 4 images of the train lists")
    runtimes = [onnx_name(), f"{onnx_name()} int8"]
    assert told["checks"][runtimes[1]]["tolerance"]["metric_drop"] == 0.05
    assert set(told["metrics"]) == {"torch", *runtimes}
    assert [row["runtime"] for row in told["latency"]["rows"]] == ["torch", *runtimes]
    assert sorted(told["files"]) == ["model.int8.onnx", "model.onnx"]


def test_the_card_describes_int8(with_int8: Promotion) -> None:
    card = (with_int8.folder / "MODEL_CARD.md").read_text()
    assert "nodes in int8 (minmax), calibrated on 4 of 4 images of the train lists" in card
    assert f"| {onnx_name()} int8 |" in card
    assert "abs_rel up to 5 % worse" in card


def test_int8_that_costs_too_much_falls_alone(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    def make(*given: Any) -> Made:
        made = make_int8(*given)
        better = replace(made.candidate.tolerance, metric_drop=-0.9)  # a tenth of the error, which no rounding reaches
        return replace(made, candidate=replace(made.candidate, tolerance=better))

    makers = {**MAKERS, "int8": Maker(check=lambda _: None, make=make)}
    promotion = promote(checkpoint, tmp_path, spec=spec, formats=["onnx", "int8"], samples=1, makers=makers)
    form = promotion.forms["int8"]
    assert promotion.promoted
    assert (form.built, form.file) == (False, "model.int8.rejected.onnx")
    assert "max_metric_drop allows -90 %" in str(form.reason)
    assert (tmp_path / "model.int8.rejected.json").is_file()


def test_a_later_promotion_without_int8_leaves_none(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx", "int8"], samples=1)
    promote(checkpoint, tmp_path, spec=spec, formats=["onnx"], samples=1)
    assert not list(tmp_path.glob("*int8*"))


def test_an_engine_that_was_built_is_told(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    _, told = engine_of(spec, checkpoint, tmp_path, make_double)
    assert (told["engine"]["built"], told["engine"]["file"], told["engine"]["details"]["precision"]) == (True, "model.engine", "BF16")
    assert (tmp_path / "model.engine").read_bytes() == b"plan"
    assert (tmp_path / "model.engine.json").is_file()
    assert "model.engine" in told["files"]


def test_an_engine_that_answers_otherwise_is_kept_aside(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    promotion, told = engine_of(spec, checkpoint, tmp_path, make_wrong)
    assert promotion.promoted
    assert (told["engine"]["built"], told["engine"]["file"]) == (False, "model.rejected.engine")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsupportedError("TensorRT built no engine: no kernel", hint="another GPU"), "TensorRT built no engine: no kernel"),
        (RuntimeError("CUDA error: out of memory"), "out of memory: RuntimeError: CUDA error: out of memory"),
    ],
)
def test_an_engine_that_cannot_be_built_stops_nothing(spec: Spec, checkpoint: Path, tmp_path: Path, error: Exception, reason: str) -> None:
    promotion, told = engine_of(spec, checkpoint, tmp_path, failing(error))
    assert promotion.promoted
    assert (told["engine"]["built"], told["engine"]["reason"]) == (False, reason)


@pytest.mark.usefixtures("without_gpu")
def test_an_engine_that_is_asked_for_without_a_gpu_is_refused_before_any_work(spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="an NVIDIA GPU"):
        promote(tmp_path / "absent.pth", tmp_path / "promotion", spec=spec, formats=["engine"])
    assert "engine" not in formats_of(spec)


def test_formats_that_nobody_makes_are_refused(spec: Spec) -> None:
    with pytest.raises(SpecError, match="promoted to onnx, openvino, int8, engine, but got itn8") as caught:
        check_formats(["onnx", "itn8"], spec)
    assert caught.value.hint == "did you mean int8?"


def test_int8_without_images_is_refused(spec: Spec) -> None:
    with pytest.raises(SpecError, match="needs images to calibrate on"):
        check_formats(["int8"], with_values(spec, {"dataset.train_dataset.data_sources": []}))


def test_the_largest_batch_of_the_profile_is_timed_as_well(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    wide = with_values(spec, {"gen_trt_engine.tensorrt.max_batch_size": 3})
    promotion = promote(checkpoint, tmp_path, spec=wide, formats=["onnx"], samples=1)
    assert promotion.export.facts.batch is None
    rows = [(row.runtime, row.batch) for row in promotion.judgement.latency.rows]
    assert rows == [("torch", 1), (onnx_name(), 1), ("torch", 3), (onnx_name(), 3)]


def test_an_engine_is_judged_within_its_profile(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    def make(*given: Any) -> Made:
        made = make_double(*given)
        predictor = made.candidate.predictor
        predict = predictor.predict

        def within(images: tuple[Tensor, ...]) -> Tensor:
            check_batch(tuple(images[0].shape), (1, 1, 2), tmp_path)
            return predict(images)

        predictor.predict = within  # type: ignore[method-assign]
        return made

    keys = {"gen_trt_engine.tensorrt.max_batch_size": 2, "dataset.train_dataset.batch_size": 4}
    makers = {"engine": Maker(check=lambda _: None, make=make)}
    promotion = promote(
        checkpoint, tmp_path, spec=with_values(spec, keys), formats=["onnx", "engine"], split="train", samples=1, makers=makers
    )
    assert promotion.forms["engine"].built


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="an engine is built on a GPU")
def test_an_engine_of_the_winner_is_built_judged_and_shipped(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT comes from NVIDIA's own index: pip install -e '.[tensorrt]'")
    promotion = promote(checkpoint, tmp_path, spec=spec, formats=["onnx", "engine"], samples=2)
    assert promotion.forms["engine"].built, promotion.forms["engine"].reason
    assert "tensorrt bf16" in promotion.judgement.metrics
