"""What the review says of the budget, before anything starts."""

from __future__ import annotations

import pytest

from automl.console import screen
from automl.fidelity import rule_of
from automl.policy import Route
from automl.review import Review, review_view
from search_spaces.spec import spec_from_dict
from tests.automl.toy import LR, toy_config


@pytest.mark.parametrize(
    ("epochs", "searched", "compared"),
    [
        (1, "every trial to the end, too short for asha to stop any", "12 of up to 1 epoch, every trial to the end"),
        (3, "asha stops early", "12 of up to 3 epochs, compared after epoch 1"),
        (27, "asha stops early", "12 of up to 27 epochs, compared after epochs 1, 3 and 9"),
    ],
)
def test_search_and_budget_agree(epochs: int, searched: str, compared: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config(epochs=epochs)
    rule = rule_of(config)
    review = Review(
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
        times=None,
        tracking="",
        notes=(),
    )
    screen().print(review_view(review))
    out = capsys.readouterr().out
    assert searched in out
    assert compared in out
    assert [line.split() for line in out.splitlines() if line.startswith("lr ")] == [["lr", "1e-4", "0.002"]]
