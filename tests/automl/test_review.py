"""What the review says of the budget, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from automl.console import screen
from automl.fidelity import rule_of
from automl.policy import Route
from automl.review import Review, review_view
from automl.timing import StepTimes
from search_spaces.spec import spec_from_dict
from tests.automl.toy import LR, toy_config


def review_of(times: StepTimes | None = None, **changes: Any) -> Review:
    config = toy_config(**changes)
    rule = rule_of(config)
    return Review(
        config=config,
        folder="s",
        route=Route(search=True, why="asked for"),
        spec=spec_from_dict(config.spec),
        dropped=(),
        first=({LR: 1e-4}, {LR: 0.002}),
        rungs=rule.rungs,
        search_epochs=rule.likely_epochs(config.trials),
        sources=(),
        device="CPU",
        times=times,
        tracking="",
        notes=(),
    )


@pytest.mark.parametrize(
    ("epochs", "searched", "compared"),
    [
        (1, "every trial to the end, too short for asha to stop any", "12 of 1 epoch, every trial to the end"),
        (3, "asha stops early", "12 of up to 3 epochs, compared after epoch 1"),
        (27, "asha stops early", "12 of up to 27 epochs, compared after epochs 1, 3 and 9"),
    ],
)
def test_search_and_budget_agree(epochs: int, searched: str, compared: str, capsys: pytest.CaptureFixture[str]) -> None:
    review = review_of(epochs=epochs)
    screen().print(review_view(review))
    out = capsys.readouterr().out
    assert searched in out
    assert compared in out
    assert [line.split() for line in out.splitlines() if line.startswith("lr ")] == [["lr", "1e-4", "0.002"]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"finalists": 2}, "the 2 best trained again with another seed"),
        ({"finalists": 1, "finalist_seeds": 3}, "the best one trained again with 3 other seeds"),
        ({"finalists": 0, "trials": 3}, "none: too few trials"),
        ({"finalists": 0}, "none, as the settings say"),
    ],
)
def test_finalists_are_told_as_they_will_be(changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen().print(review_view(review_of(**changes)))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finalists")]
    assert line.split(maxsplit=1)[1].strip() == told


@pytest.mark.parametrize(("address", "epoch_s"), [(None, 10.0), ("head:6379", 2.5)])
def test_trials_on_a_cluster_share_no_cores(address: str | None, epoch_s: float) -> None:
    times = StepTimes(step_s=1.0, image_s=0.0, steps=10, images=0)
    assert review_of(times, parallel=4, address=address).seconds(1) == epoch_s


def test_in_eighty_columns_names_are_short_and_no_value_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    review = review_of()
    console = Console(width=80, no_color=True)
    console.print(review_view(review, console.width))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    head = rows.index(["parameter", "range", "spec's", "value", "only", "if", "why"])
    assert rows[head + 1] == ["lr", "in", "[1e-06,", "0.01]", "(log)", "1e-4"]
