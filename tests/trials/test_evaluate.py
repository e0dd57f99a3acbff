"""Evaluation of a known predictor on sample scenes, in every mode, and for a predictor of one fixed size."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.spec import Spec, spec_from_dict, with_values
from tests.trials.small import SmallStereo, always_continue, mono_spec, parts, stereo_spec, trial
from trials.data.sample import SampleSet
from trials.evaluate import evaluate, fitted_spec
from trials.evaluation_files import worst_images, write_evaluation
from trials.failures import NonFiniteError
from trials.run import run_trial
from trials.scoring import NOT_FINITE


class Five:
    """Says 5 everywhere; `fixed_size` on request.  Remembers the sizes it was given."""

    name = "five"

    def __init__(self, fixed_size: tuple[int, int] | None = None, value: float = 5.0) -> None:
        self.fixed_size = fixed_size
        self.value = value
        self.sizes: set[tuple[int, ...]] = set()

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        self.sizes.add(tuple(images[0].shape[-2:]))
        return torch.full((images[0].shape[0], 1, *images[0].shape[-2:]), self.value)


def spec_of(scenes: SampleSet, *, mode: str = "native", batch: int = 1) -> Spec:
    spec = spec_from_dict(stereo_spec(scenes))
    return with_values(spec, {"dataset.val_dataset.augmentation.evaluation": mode, "dataset.val_dataset.batch_size": batch})


def true_disparities(scenes: SampleSet) -> list[Tensor]:
    from trials.data import build_dataset

    dataset = build_dataset(spec_from_dict(stereo_spec(scenes)), "val", training=False)
    return [dataset[index]["target"][dataset[index]["valid"]].double() for index in range(len(dataset))]


def test_native_evaluation_scores_every_pixel_at_its_own_size(scenes: SampleSet) -> None:
    predictor = Five()
    done = evaluate(predictor, spec_of(scenes), "val")
    truth = true_disparities(scenes)
    assert done.metrics["epe"] == pytest.approx(sum(float((values - 5).abs().mean()) for values in truth) / len(truth))
    assert (done.num_images, done.num_pixels, done.mode) == (2, sum(len(values) for values in truth), "native")
    assert predictor.sizes == {(64, 96)}


def test_a_resized_disparity_is_measured_in_pixels_of_the_ground_truth(scenes: SampleSet) -> None:
    predictor = Five(fixed_size=(64, 32))
    done = evaluate(predictor, spec_of(scenes), "val")
    truth = true_disparities(scenes)
    assert predictor.sizes == {(64, 32)}
    assert done.mode == "resize"
    # 5 px of 32 columns are 15 px of 96
    assert done.metrics["epe"] == pytest.approx(sum(float((values - 15).abs().mean()) for values in truth) / len(truth), rel=1e-5)


def test_center_crop_of_the_predictors_own_size_stays(scenes: SampleSet) -> None:
    spec = with_values(spec_of(scenes, mode="center_crop"), {"dataset.val_dataset.augmentation.crop_size": [32, 64]})
    assert fitted_spec(spec, "val", (32, 64)) == spec
    assert fitted_spec(spec, "val", (64, 64)).dataset.val_dataset.augmentation.evaluation == "resize"


def test_batch_size_does_not_matter(scenes: SampleSet) -> None:
    one, two = (evaluate(Five(), spec_of(scenes, batch=batch), "val") for batch in (1, 2))
    assert one.metrics == pytest.approx(two.metrics)


def test_different_modes_have_different_hashes(scenes: SampleSet) -> None:
    hashes = {evaluate(Five(), spec_of(scenes, mode=mode), "val").evaluation_hash for mode in ("native", "center_crop", "resize")}
    assert len(hashes) == 3


def test_training_and_evaluation_agree(scenes: SampleSet, tmp_path: Any) -> None:
    spec = stereo_spec(scenes)
    result = run_trial(trial(tmp_path, spec, epochs=1), always_continue, parts=parts())
    network = SmallStereo().eval()
    content = torch.load(tmp_path / "train" / "best.pth", weights_only=True)
    network.load_state_dict({name.removeprefix("model."): value for name, value in content["state_dict"].items()})

    class Loaded:
        name = "loaded"
        fixed_size = None

        def predict(self, images: tuple[Tensor, ...]) -> Tensor:
            with torch.inference_mode():
                return network(*images)

    done = evaluate(Loaded(), spec_from_dict(spec), "val")
    ours = {name.removeprefix("val/"): value for name, value in result.metrics.items() if name.startswith("val/")}
    assert ours == pytest.approx(dict(done.metrics), rel=1e-6)


def test_a_nan_prediction_names_the_image(scenes: SampleSet) -> None:
    with pytest.raises(NonFiniteError, match=r"left\.png is not finite"):
        evaluate(Five(value=float("nan")), spec_of(scenes), "val")


class Sometimes(Five):
    """NaN for the second image."""

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        self.value = float("nan") if self.sizes else 5.0
        return super().predict(images)


def test_with_keep_going_a_nan_image_is_left_out_and_named(scenes: SampleSet) -> None:
    done = evaluate(Sometimes(), spec_of(scenes), "val", keep_going=True)
    assert done.metrics["epe"] == pytest.approx(float((true_disparities(scenes)[0] - 5).abs().mean()))
    assert (done.num_images, done.skipped, [Path(path).parts[-2:] for path in done.not_finite]) == (1, 0, [("scene_0007", "left.png")])


def test_the_table_has_a_line_for_each_image_of_the_list(scenes: SampleSet, tmp_path: Path) -> None:
    done = evaluate(Sometimes(), spec_of(scenes), "val", keep_going=True)
    write_evaluation(tmp_path, done, runtime="five", model=Path("m.onnx"))
    header, first, second = csv.reader((tmp_path / "per_image.csv").read_text().splitlines())
    assert header == ["path", "loss", "epe", "bp1", "bp2", "bp3", "d1", "rmse", "num_pixels", "skipped"]
    assert [Path(row[0]).parent.name for row in (first, second)] == ["scene_0006", "scene_0007"]
    assert float(first[header.index("epe")]) == done.metrics["epe"]
    assert (first[-1], second[1:-2], second[-1]) == ("", [""] * 7, NOT_FINITE)


def test_the_summary_holds_metrics_counts_and_conditions(scenes: SampleSet, tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluate(Five(), spec_of(scenes), "val"), runtime="five", model=Path("m.onnx"))
    summary = json.loads((tmp_path / "results.json").read_text())
    assert (summary["num_images"], summary["skipped"], summary["not_finite"], summary["evaluation"]) == (2, 0, 0, "native")
    assert {"loss", "epe", "bp1", "bp2", "bp3", "d1", "rmse", "num_pixels", "evaluation_hash", "runtime", "model"} < set(summary)
    assert not {"abs_rel", "sq_rel", "rmse_log", "d2", "d3"} & set(summary)


def test_the_worst_images_come_first(scenes: SampleSet) -> None:
    done = evaluate(Five(), spec_of(scenes), "val")
    errors = [float((values - 5).abs().mean()) for values in true_disparities(scenes)]
    assert [image.metrics["epe"] for image in worst_images(done, "stereo", count=3)] == pytest.approx(sorted(errors, reverse=True))
    assert len(worst_images(done, "stereo", count=1)) == 1


def test_raw_predictions_are_written_when_the_spec_asks(scenes: SampleSet, tmp_path: Path) -> None:
    spec = with_values(spec_of(scenes), {"inference.save_raw_pfm": True})
    evaluate(Five(), spec, "val", maps=tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "scene_0006/left_disp.pfm",
        "scene_0007/left_disp.pfm",
    ]


def test_an_empty_split_is_refused(scenes: SampleSet) -> None:
    with pytest.raises(DataError, match="test"):
        evaluate(Five(), spec_of(scenes), "test")


def test_metric_depth_is_measured_in_metres(scenes: SampleSet) -> None:
    done = evaluate(Five(), spec_from_dict(mono_spec(scenes)), "val")
    assert {"d1", "abs_rel", "rmse", "silog", "loss"} <= set(done.metrics)
    assert done.seconds_per_image > 0
