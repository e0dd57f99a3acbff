"""The small grammar of `math_cond` and `depends_on`: every spelling that TAO's schemas hold, and what is none."""

from __future__ import annotations

import pytest

from search_spaces.errors import SpecError
from search_spaces.math_cond import MathCond, Parents, parse_depends_on, parse_math_cond


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("> 0.0", MathCond(bounds=((">", 0.0),))),
        (">0", MathCond(bounds=((">", 0.0),))),
        ("> 0", MathCond(bounds=((">", 0.0),))),
        (">= 0.0", MathCond(bounds=((">=", 0.0),))),
        ("!= 0", MathCond(bounds=(("!=", 0.0),))),
        ("> 0.0 <= 1.0", MathCond(bounds=((">", 0.0), ("<=", 1.0)))),
        ("> depends_on", MathCond(relations=(">",))),
        ("^ 2", MathCond(power=2.0)),
        ("/ 2", MathCond(multiple=2.0)),
        ("/ 8 > 0", MathCond(multiple=8.0, bounds=((">", 0.0),))),
        ("  ", MathCond()),
    ],
)
def test_every_spelling(text: str, meaning: MathCond) -> None:
    assert parse_math_cond(text) == meaning


@pytest.mark.parametrize("text", ["0", "> ", "> x", "=> 0", "/ 0", "^ 1", "^ depends_on", "^ 2 / 2", "> 0 or so"])
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="math_cond"):
        parse_math_cond(text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("lr", Parents(names=("lr",))),
        ("a, model.b", Parents(names=("a", "model.b"))),
        ("> min_scale", Parents(names=("min_scale",), relation=">")),
        ("<=b", Parents(names=("b",), relation="<=")),
    ],
)
def test_depends_on(text: str, meaning: Parents) -> None:
    assert parse_depends_on(text) == meaning


def test_a_depends_on_that_names_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"depends_on 'a b' is not understood"):
        parse_depends_on("a b")
