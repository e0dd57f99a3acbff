"""How benchmarks are timed here.

Rules (a ratio is worth printing only under all of them): one process, both sides warmed up, turns taken A-B-A-B, the
same answer asserted before the clock starts, CPU time of the process at one thread for ratios, wall-clock time with
the load beside it for seconds.  No figure is compared across machines or runs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one call over some rounds: wall-clock, and the least CPU seconds of all threads (they suffer less from load)."""

    minimum: float
    median: float
    cpu: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """`median` of the per-round ratios plain / ours (above 1: ours is quicker), with the least CPU seconds of each."""

    median: float
    plain_s: float
    ours_s: float


def compare(plain: Callable[[], Tensor], ours: Callable[[], Tensor], *, tolerance: float, rounds: int) -> Ratio:
    """Asserts that both give the same numbers, then times them in turns; AssertionError says by how much they differ."""
    expected, answered = plain(), ours()
    difference = float((expected - answered).abs().max())
    assert difference <= tolerance, f"the two sides differ by {difference:.3g}, allowed are {tolerance:.3g}"
    plain_s, ours_s = [], []
    for _ in range(rounds):
        plain_s.append(_cpu_seconds(plain))
        ours_s.append(_cpu_seconds(ours))
    return Ratio(median=statistics.median(a / b for a, b in zip(plain_s, ours_s, strict=True)), plain_s=min(plain_s), ours_s=min(ours_s))


def wall_times(call: Callable[[], object], *, rounds: int, warm_up: int = 1) -> Times:
    """Seconds of `call`, after `warm_up` untimed ones."""
    for _ in range(warm_up):
        call()
    taken, busy = [], []
    for _ in range(rounds):
        started, started_cpu = time.perf_counter(), time.process_time()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
        busy.append(time.process_time() - started_cpu)
    return Times(minimum=min(taken), median=statistics.median(taken), cpu=min(busy), rounds=rounds)


def conditions() -> str:
    """One line that must stand beside every figure: device, threads, wait policy, load, torch, commit."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    policy = os.environ.get("OMP_WAIT_POLICY", "default")
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{device}; {torch.get_num_threads()} thread(s), wait policy {policy}, load {load}; torch {torch.__version__}, commit {_commit()}"
    )


def _commit() -> str:
    folder = Path(__file__).resolve().parents[1]
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started
