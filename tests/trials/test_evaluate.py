"""Evaluation of a known predictor on sample scenes, in every mode, and for a predictor of one fixed size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.spec import Spec, spec_from_dict, with_values
from tests.trials.small import SmallStereo, mono_spec, parts, stereo_spec, trial
from trials.contract import always_continue
from trials.data.sample import SampleSet
from trials.evaluate import evaluate, fitted_spec
from trials.failures import NonFiniteError
from trials.run import run_trial


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
    predictor = Five(fixed_size=(32, 32))
    done = evaluate(predictor, spec_of(scenes), "val")
    truth = true_disparities(scenes)
    assert predictor.sizes == {(32, 32)}
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


def test_an_empty_split_is_refused(scenes: SampleSet) -> None:
    with pytest.raises(DataError, match="test"):
        evaluate(Five(), spec_of(scenes), "test")


def test_metric_depth_is_measured_in_metres(scenes: SampleSet) -> None:
    done = evaluate(Five(), spec_from_dict(mono_spec(scenes)), "val")
    assert {"d1", "abs_rel", "rmse", "silog", "loss"} <= set(done.metrics)
    assert done.seconds_per_image > 0
