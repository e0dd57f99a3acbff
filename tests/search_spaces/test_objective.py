"""Metric names and directions."""

from __future__ import annotations

import pytest

from search_spaces.errors import SpecError
from search_spaces.objective import metric_info, metrics_of, objective_for, objectives_for


def test_d1_is_lower_better_in_stereo_and_higher_better_in_mono() -> None:
    assert objective_for("stereo", "val/d1").direction == "minimize"
    assert objective_for("mono", "val/d1").direction == "maximize"


@pytest.mark.parametrize("spelling", ["val/loss", "val_loss", "loss"])
def test_spellings_of_one_metric(spelling: str) -> None:
    assert objective_for("stereo", spelling).metric == "val/loss"


def test_only_mono_accuracies_are_maximised() -> None:
    ups = {(info.family, info.name) for family in ("stereo", "mono") for info in metrics_of(family) if info.direction == "maximize"}  # type: ignore[arg-type]
    assert ups == {("mono", "d1"), ("mono", "d2"), ("mono", "d3")}


def test_names_of_each_family() -> None:
    assert [info.name for info in metrics_of("stereo")] == ["loss", "epe", "bp1", "bp2", "bp3", "d1", "rmse"]
    assert [info.name for info in metrics_of("mono", relative=True)] == ["loss", "d1", "d2", "d3", "abs_rel"]
    assert len(metrics_of("mono")) == 10


def test_unit_and_definition() -> None:
    info = metric_info("mono", "test/rmse")
    assert (info.unit, info.family) == ("m", "mono")
    assert info.definition


@pytest.mark.parametrize(
    ("family", "metric", "relative", "hint"),
    [
        ("stereo", "val/epee", False, "did you mean val/epe?"),
        ("stereo", "val/abs_rel", False, "known are"),
        ("mono", "val/rmse", True, "known are"),
        ("mono", "val/epe", False, "known are"),
        ("stereo", "train/epe", False, "use val/epe"),
    ],
)
def test_unknown_metrics_are_refused(family: str, metric: str, relative: bool, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        objective_for(family, metric, relative=relative)  # type: ignore[arg-type]
    assert hint in (caught.value.hint or "")


def test_train_loss_is_an_objective() -> None:
    assert objective_for("mono", "train_loss").metric == "train/loss"


def test_better() -> None:
    assert objective_for("stereo", "epe").better(1.0, 2.0)
    assert objective_for("mono", "d1").better(0.9, 0.8)


def test_costs_have_no_split_and_less_of_them_is_better() -> None:
    assert [(one.metric, one.direction, one.is_cost) for one in objectives_for("mono", ["d1", "latency_ms", "parameters"])] == [
        ("val/d1", "maximize", False),
        ("latency_ms", "minimize", True),
        ("parameters", "minimize", True),
    ]
    assert metric_info("stereo", "peak_memory_mib").unit == "MiB"


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (["latency_ms", "val/epe"], "put another one first: --metric val/epe --metric latency_ms"),
        (["parameters"], "put another one first: --metric val/epe --metric parameters"),
        (["val/epe", "epe"], "name each once"),
        (["val/epe", "val/latency_ms"], "did you mean latency_ms?"),
        (["val/epe", "latency"], "did you mean latency_ms?"),
    ],
)
def test_objectives_that_cannot_stand_together_are_refused(metrics: list[str], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        objectives_for("stereo", metrics)
    assert told in str(caught.value.hint)
