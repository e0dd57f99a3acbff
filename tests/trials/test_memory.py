"""Memory of a training step: told, refused with values that fit, and halved after it was too little."""

from __future__ import annotations

import re
from typing import Any

import pytest

from search_spaces.errors import UnsupportedError
from search_spaces.spec import Spec, spec_from_dict, with_values
from trials import memory
from trials.memory import check_training_memory, lighter, out_of_memory_text, training_volumes_mib


def spec(family: str = "stereo", **values: Any) -> Spec:
    """Stereo: 2 crops of 320 x 736, 192 disparities; mono: 2 crops of 518 x 518."""
    model, crop = ("FoundationStereo", [320, 736]) if family == "stereo" else ("MetricDepthAnything", [518, 518])
    split = {"batch_size": 2, "augmentation": {"crop_size": crop}}
    data = {"model": {"model_type": model, "max_disparity": 192}, "dataset": {"train_dataset": split}}
    return with_values(spec_from_dict(data), {key.replace("__", "."): value for key, value in values.items()})


def test_volumes_by_hand() -> None:
    # 38 of 28 channels at a quarter of each side and of the disparities, float32, for each of 2 crops
    assert training_volumes_mib(spec()) == pytest.approx(2 * 38 * 28 * 48 * 80 * 184 * 4 / 2**20)
    assert training_volumes_mib(spec("mono")) is None


def test_16_bit_arithmetic_takes_half() -> None:
    assert training_volumes_mib(spec(model__mixed_precision=True)) == pytest.approx(0.5 * (training_volumes_mib(spec()) or 0))


def test_what_fits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory_mib", lambda: 8192.0)
    assert check_training_memory(spec()) == (
        "the cost volumes of a training step (2 x 736x320, 192 disparities) take about 5.6 GiB of 8.0 GiB"
    )


def test_what_does_not_fit_is_refused_with_values_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory_mib", lambda: 2048.0)
    with pytest.raises(UnsupportedError, match=re.escape("take about 5.6 GiB, but there are 2.0 GiB")) as caught:
        check_training_memory(spec())
    for override in re.findall(r"[\w.]+=(?:\[\d+,\d+\]|\d+)", str(caught.value.hint)):
        key, _, value = override.partition("=")
        fitted = with_values(spec(), {key: [int(side) for side in value.strip("[]").split(",")] if "," in value else int(value)})
        assert (training_volumes_mib(fitted) or 0) <= 1024


def test_overrides_are_legal_and_take_half() -> None:
    crop = "dataset.train_dataset.augmentation.crop_size"
    assert lighter(spec(), 0.5) == ["dataset.train_dataset.batch_size=1", "model.max_disparity=96", f"{crop}=[224,512]"]
    assert lighter(spec("mono"), 0.5) == ["dataset.train_dataset.batch_size=1", f"{crop}=[364,364]"]


def test_the_smallest_run_has_one_way_left() -> None:
    least = {"dataset__train_dataset__batch_size": 1, "dataset__train_dataset__augmentation__crop_size": [64, 64]}
    assert lighter(spec(model__max_disparity=32, **least), 0.5) == ["a machine with more memory"]


def test_too_little_memory_names_what_trades_time_for_it() -> None:
    told, hint = out_of_memory_text(spec())
    assert "take about 5.6 GiB of " in told
    assert hint.endswith("train.activation_checkpoint=true (more time)")
    assert "activation_checkpoint" not in out_of_memory_text(spec(train__activation_checkpoint=True))[1]
    assert out_of_memory_text(spec("mono"))[0] == ""
