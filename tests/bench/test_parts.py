"""Both sides of every part give the same numbers, and a difference stops a benchmark before it is timed."""

from __future__ import annotations

import pytest
import torch

from bench.parts import Part, parts
from bench.timing import compare

PARTS = list(parts(4, 40, 12))


@pytest.mark.parametrize("part", PARTS, ids=[part[0] for part in PARTS])
def test_a_part_gives_what_its_plain_form_gives(part: Part) -> None:
    _, plain, ours, tolerance = part
    with torch.inference_mode():
        assert float((plain() - ours()).abs().max()) <= tolerance


def test_a_wrong_answer_is_never_timed() -> None:
    with pytest.raises(AssertionError, match="differ by 1"):
        compare(lambda: torch.zeros(1), lambda: torch.ones(1), tolerance=0.5, rounds=1)


def test_a_ratio_compares_the_two_sides() -> None:
    slow, quick = torch.randn(400, 400), torch.zeros(1)
    ratio = compare(lambda: (slow @ slow)[:1, :1] * 0, lambda: quick, tolerance=0.0, rounds=3)
    assert ratio.median > 1
