"""The latency table: who is timed, how often, and what stands beside the figures."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deploy.latency import describe_machine, measure_latency


class Counting:
    """Counts its calls, and says in which order they came."""

    name = "counting"
    fixed_size = None

    def __init__(self, calls: list[str], label: str) -> None:
        self.calls, self.label = calls, label

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        self.calls.append(self.label)
        return images[0][:, :1]


def test_runtimes_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    measure_latency({"a": Counting(calls, "a"), "b": Counting(calls, "b")}, (torch.zeros(1, 3, 2, 2),), warm_up=1, rounds=3)
    assert calls == ["a", "b"] * 4


class Slow(Counting):
    """Takes 20 ms."""

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        time.sleep(0.02)
        return super().predict(images)


@pytest.mark.parametrize(("warm_up", "rounds"), [(0, 3), (1, 1)])
def test_a_spent_budget_ends_it(warm_up: int, rounds: int) -> None:
    table = measure_latency({"a": Slow([], "a")}, (torch.zeros(1, 3, 4, 5),), warm_up=warm_up, rounds=50, budget_s=0.01)
    assert table.rows[0].rounds == rounds


def test_the_row_says_what_was_timed() -> None:
    table = measure_latency({"a": Counting([], "a")}, (torch.zeros(2, 3, 4, 5),), warm_up=0, rounds=4)
    (row,) = table.rows
    assert (row.rounds, row.batch, row.height, row.width) == (4, 2, 4, 5)
    assert 0 <= row.min_ms <= row.median_ms <= row.p95_ms
    assert table.machine.threads == torch.get_num_threads()


def test_the_processor_is_named_as_linux_names_it() -> None:
    named = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
    if not named:
        pytest.skip("Linux has no name for this processor")
    assert named[0].endswith(f": {describe_machine().processor}")
