"""Recomputation changes what is kept, never what is learned."""

from __future__ import annotations

import pytest

from bench.activation_memory import CHECKED, Case, kept_mib, largest_difference

NAMES = [case.name.split()[0] for case in CHECKED]


@pytest.mark.parametrize("case", CHECKED, ids=NAMES)
def test_gradients_are_those_without_recomputation(case: Case) -> None:
    assert largest_difference(case) <= 1e-6


@pytest.mark.parametrize("case", CHECKED, ids=NAMES)
def test_a_step_keeps_less_for_its_backward_pass(case: Case) -> None:
    plain, again = (kept_mib(case, recompute=recompute, fake=False) for recompute in (False, True))
    assert again < 0.8 * plain
    assert again == kept_mib(case, recompute=True, fake=True)
