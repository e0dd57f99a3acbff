"""Parameters, conditions, checking, applying, fingerprint."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.space import Condition, Parameter, SearchSpace
from search_spaces.spec import spec_from_dict

SCHEDULER = Parameter(
    key="train.optim.lr_scheduler", kind="categorical", choices=("MultiStepLR", "CosineAnnealingLR"), default="MultiStepLR"
)
LR = Parameter(key="train.optim.lr", kind="float", low=1e-6, high=1e-2, log=True, default=1e-4)
MIN_LR = Parameter(
    key="train.optim.min_lr",
    kind="float",
    low=1e-8,
    high=1e-5,
    log=True,
    condition=Condition(key="train.optim.lr_scheduler", values=("CosineAnnealingLR",)),
)
BATCH = Parameter(key="dataset.train_dataset.batch_size", kind="int", low=2, high=8, step=2)
FLIP = Parameter(key="dataset.train_dataset.augmentation.do_flip", kind="bool")
SPACE = SearchSpace(skill="s", parameters=(SCHEDULER, LR, MIN_LR, BATCH, FLIP))
VALUES: dict[str, Any] = {SCHEDULER.key: "MultiStepLR", LR.key: 1e-3, BATCH.key: 4, FLIP.key: True}


def test_a_conditional_parameter_counts_only_with_its_parent_value() -> None:
    assert MIN_LR not in SPACE.active(VALUES)
    assert MIN_LR in SPACE.active({**VALUES, SCHEDULER.key: "CosineAnnealingLR"})
    assert MIN_LR not in SPACE.active({})


def test_active_of_a_spec_and_its_own_values() -> None:
    spec = spec_from_dict({"train": {"optim": {"lr_scheduler": "CosineAnnealingLR"}}})
    assert MIN_LR in SPACE.active(spec)
    assert SPACE.values_of(spec)[MIN_LR.key] == 1e-7


def test_apply_sets_every_value_and_nothing_else() -> None:
    spec = spec_from_dict({})
    changed = SPACE.apply(spec, VALUES)
    assert (changed.train.optim.lr, changed.dataset.train_dataset.batch_size) == (1e-3, 4)
    assert changed.train.optim.min_lr == spec.train.optim.min_lr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({LR.key: 0.1}, r"train\.optim\.lr must be in \[1e-06, 0\.01\] \(log\), but is 0\.1"),
        ({LR.key: "a"}, "but is 'a'"),
        ({BATCH.key: 3}, r"whole number in \[2, 8\] \(steps of 2\)"),
        ({BATCH.key: 2.5}, "whole number"),
        ({BATCH.key: float("inf")}, "but is inf"),
        ({BATCH.key: float("nan")}, "but is nan"),
        ({BATCH.key: True}, "but is True"),
        ({FLIP.key: 1}, "true or false"),
        ({SCHEDULER.key: "StepLR"}, "one of MultiStepLR, CosineAnnealingLR"),
        ({SCHEDULER.key: "CosineAnnealingLR"}, r"a value for train\.optim\.min_lr is missing"),
        ({MIN_LR.key: 1e-6}, "it counts only when train.optim.lr_scheduler is CosineAnnealingLR"),
        ({"train.optim.lrr": 1}, "not in the search space"),
    ],
)
def test_illegal_values_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        SPACE.validate({**VALUES, **change})


@pytest.mark.parametrize(
    "change",
    [{"low": 1.0, "high": 0.1}, {"low": None}, {"high": float("inf")}, {"low": 0.0}, {"step": 0.1}],
    ids=["order", "open", "infinite", "log of zero", "log with step"],
)
def test_impossible_parameters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"train\.optim\.lr"):
        dataclasses.replace(LR, **change)


def test_a_whole_number_has_whole_steps() -> None:
    with pytest.raises(SpecError, match=r"batch_size is a whole number, but its step is 0\.5"):
        dataclasses.replace(BATCH, step=0.5)


def test_impossible_spaces_are_refused() -> None:
    with pytest.raises(SpecError, match="stands twice"):
        SearchSpace(skill="s", parameters=(LR, LR))
    with pytest.raises(SpecError, match="must stand before it"):
        SearchSpace(skill="s", parameters=(MIN_LR, SCHEDULER))
    with pytest.raises(SpecError, match="no choices"):
        Parameter(key="x", kind="categorical")


def test_fingerprint_sees_ranges_and_not_reasons() -> None:
    def fingerprint(lr: Parameter) -> str:
        return SearchSpace(skill="s", parameters=(lr,)).fingerprint

    assert fingerprint(dataclasses.replace(LR, why="because")) == fingerprint(LR)
    assert fingerprint(dataclasses.replace(LR, high=1e-3)) != fingerprint(LR)
    assert len(fingerprint(LR)) == 64
