"""Seconds of one prediction, per runtime, with what a reader needs to judge the figure.

The runtimes take turns on the same images, so that a change of the machine's load meets all of them alike.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trials.evaluate import Predictor


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one `predict`, over `rounds` timed calls after `warm_up` untimed ones."""

    runtime: str
    batch: int
    height: int
    width: int
    warm_up: int
    rounds: int
    min_ms: float
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where latencies were taken: `load_before` and `load_after` are the one-minute load averages."""

    processor: str
    cores: int
    threads: int
    wait_policy: str | None
    gpu: str | None
    load_before: float | None
    load_after: float | None


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """One row per runtime, and the machine; figures of two machines or two tables are never compared."""

    rows: tuple[Latency, ...]
    machine: Machine


def measure_latency(
    predictors: Mapping[str, Predictor], images: tuple[Tensor, ...], *, warm_up: int = 2, rounds: int = 10, budget_s: float = 30.0
) -> LatencyTable:
    """Times every predictor on `images`, in turns.

    When `budget_s` is spent it ends early: after three rounds, or after one where the warm-up alone took longer than that.
    """
    load_before, started = _load(), time.perf_counter()
    for _ in range(warm_up):
        for predictor in predictors.values():
            predictor.predict(images)
    taken: dict[str, list[float]] = {name: [] for name in predictors}
    least = 1 if time.perf_counter() - started > budget_s else 3
    started, done = time.perf_counter(), 0
    while done < rounds and (done < least or time.perf_counter() - started < budget_s):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor.predict(images)
            taken[name].append((time.perf_counter() - began) * 1000.0)
        done += 1
    batch, _, height, width = images[0].shape
    rows = tuple(
        Latency(
            runtime=name,
            batch=batch,
            height=height,
            width=width,
            warm_up=warm_up,
            rounds=done,
            min_ms=min(times),
            median_ms=float(np.median(times)),
            p95_ms=float(np.percentile(times, 95)),
        )
        for name, times in taken.items()
    )
    return LatencyTable(rows=rows, machine=describe_machine(load_before))


def describe_machine(load_before: float | None = None) -> Machine:
    """This machine, its threads and its load now."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        wait_policy=os.environ.get("OMP_WAIT_POLICY"),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load_before=load_before,
        load_after=_load(),
    )


def _processor() -> str:
    """The processor's name as Linux tells it; its architecture elsewhere and on processors that Linux gives no name."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
