"""From a leaf to a search parameter: every type of TAO's vocabulary, every condition."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.ranges import parameter_of
from search_spaces.schema import Leaf


def choices(**facts: Any) -> tuple[object, ...]:
    return parameter_of(Leaf(key="x", **facts)).choices


def ends(**facts: Any) -> tuple[object, object, object]:
    parameter = parameter_of(Leaf(key="x", **facts))
    return parameter.low, parameter.high, parameter.step


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"type": "ordered", "options": (0.1, 0.2)}, (0.1, 0.2)),
        ({"type": "ordered_int", "options": (1, 2)}, (1, 2)),
        ({"type": "int", "low": 3, "high": 20, "math_cond": "^ 2"}, (4, 8, 16)),
        ({"type": "float", "low": 0.2, "high": 2.0, "math_cond": "^ 2"}, (0.25, 0.5, 1.0, 2.0)),
        ({"type": "list_1_backbone", "low": 1, "high": 2}, ("[]", "[1]", "[1, 2]")),
        ({"type": "subset_list", "options": ("a", "b")}, ("[]", '["a"]', '["b"]', '["a", "b"]')),
        ({"type": "optional_list", "options": (1, 2)}, ("null", "[1, 2]")),
        ({"type": "list_2", "list_bounds": ((0.8, 0.9), (0.9, 1.0))}, ("[0.8, 0.9]", "[0.85, 0.95]", "[0.9, 1.0]")),
        ({"type": "list_2", "list_bounds": ((256, 320), (320, 736)), "math_cond": "/ 32"}, ("[256, 320]", "[288, 544]", "[320, 736]")),
        ({"type": "list_3", "low": 64, "high": 128, "math_cond": "/ 32"}, ("[64, 64]", "[96, 96]", "[128, 128]")),
        ({"type": "list", "overlay": {"choices": [[1, 2], [3, 4]]}}, ("[1, 2]", "[3, 4]")),
    ],
)
def test_choices_of_each_type(facts: dict[str, Any], expected: tuple[object, ...]) -> None:
    assert choices(**facts) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"type": "int", "low": 0, "high": 10, "math_cond": "> 0.0"}, (1, 10, None)),
        ({"type": "int", "low": 0, "high": 10, "math_cond": "!= 0"}, (1, 10, None)),
        ({"type": "int", "low": 0, "high": 10, "math_cond": ">= 0.0 < 10"}, (0, 9, None)),
        ({"type": "float", "low": 0.0, "high": 1.0, "math_cond": "> 0.0 <= 1.0"}, (0.001, 1.0, None)),
        ({"type": "int", "low": 3, "high": 64, "math_cond": "/ 8"}, (8, 64, 8)),
        ({"type": "int", "low": 2, "high": 8, "overlay": {"step": 2}}, (2, 8, 2)),
    ],
)
def test_ends_and_steps(facts: dict[str, Any], expected: tuple[object, ...]) -> None:
    assert ends(**facts) == expected


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"type": "string"}, "only numbers, switches and choices"),
        ({"type": "list"}, "lists that are named"),
        ({"type": "subset_list", "options": tuple("abcdef")}, "lists that are named"),
        ({"type": "categorical"}, "names no options"),
        ({"type": "int", "low": 5, "high": 7, "math_cond": "^ 2"}, r"there is none in \[5, 7\]"),
    ],
)
def test_what_cannot_be_searched(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        choices(**facts)
