"""Synthetic tasks that behave as the training of depth networks does: curves in pixels of end-point error.

A task is drawn from its number alone.  Where a training ends is a valley in log learning rate whose place moves with batch
size, optimizer, encoder and weight decay, times milder valleys of the other parameters.  Rates too high for the warm-up
and the clipping diverge, the sooner the higher.  Four families of curves: power law, exponential, delayed start, and
crossing (what ends best starts slowly).  Noise grows with the rate; encoder, iterations and batch decide cost and memory.

Development and held-out tasks come from different streams of numbers: nothing about the search is chosen by the held-out ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from automl.distributions import distribution_of, from_unit
from bench.search.spaces import (
    AUGMENTATIONS,
    BATCH,
    CLIP,
    DECAY,
    ENCODER,
    FALL,
    ITERATIONS,
    KINDS,
    LR,
    MOMENTUM,
    OPTIMIZER,
    WARMUP,
    Kind,
    base_spec,
    space_of,
)
from bench.search.task import Scale, Training
from search_spaces.space import SearchSpace, Value
from search_spaces.spec import spec_to_dict
from trials.contract import Cause

Split = Literal["dev", "heldout"]
Family = Literal["power", "exponential", "delayed", "crossing"]
FAMILIES: tuple[Family, ...] = ("power", "exponential", "delayed", "crossing")
STREAMS: Mapping[str, int] = {"dev": 101, "heldout": 707}
EPOCHS = 27
EPOCH_S = 60.0  # of the default configuration

_SIZE = {"vits": 1.0, "vitb": 1.7, "vitl": 3.2}  # cost and memory of the encoders
_GROWTH = {"vits": 0.0, "vitb": 0.6, "vitl": 1.0}  # how much of the gain of a large encoder they have
_PROBES = 800  # random configurations that the median and the search for the best start from
_STEPS = 1500


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The constants of one task.  Widths are in decades, heights in natural logarithms of the final error."""

    family: Family
    floor: float  # px, the error of a perfect training
    start: float  # times the floor: the error before training
    rate: float  # log10 of the best learning rate of the default network
    left: float  # steepness of the valley towards low rates
    right: float
    batch_shift: float  # decades of the best rate per doubling of the batch
    sgd_shift: float
    sgd_height: float
    encoder_gain: float
    encoder_shift: float
    iterations_gain: float
    decay: float  # log10 of the best weight decay
    decay_height: float
    decay_tilt: float  # decades of the best weight decay per decade of the rate
    fall: float
    fall_height: float
    clip: float
    clip_height: float
    warmup: float
    warmup_height: float
    batch: float
    batch_height: float
    momentum: float
    places: tuple[float, ...]  # best probabilities of the augmentations
    heights: tuple[float, ...]
    mixing: float  # interaction of the first two augmentations
    margin: float  # decades above the best rate where training diverges, with the default warm-up and clipping; the default never does
    tau: float  # epochs
    exponent: float
    delay: float  # epochs to the middle of a delayed descent
    crossing: float  # how much slower starts what regularises more
    overfit: float
    trial_noise: float
    epoch_noise: float
    memory: float  # what the device holds, in units of the default network


def draw_landscape(number: int, split: Split) -> Landscape:
    """Landscape `number` (0, 1, ...) of `split`; the family of curves goes round with the number."""
    rng = np.random.default_rng([STREAMS[split], number])
    weights = rng.dirichlet([0.5] * len(AUGMENTATIONS)) * rng.uniform(0.5, 1.5)
    return Landscape(
        family=FAMILIES[number % len(FAMILIES)],
        floor=float(np.exp(rng.uniform(math.log(0.3), math.log(2.0)))),
        start=rng.uniform(8.0, 30.0),
        rate=rng.uniform(-4.6, -2.9),
        left=rng.uniform(0.15, 0.5),
        right=rng.uniform(0.4, 1.5),
        batch_shift=rng.choice([0.0, 0.15, 0.3]),
        sgd_shift=rng.uniform(0.7, 1.5),
        sgd_height=rng.uniform(-0.05, 0.3),
        encoder_gain=rng.uniform(0.0, 0.25),
        encoder_shift=rng.uniform(0.0, 0.5),
        iterations_gain=rng.uniform(0.05, 0.25),
        decay=rng.uniform(-5.5, -2.5),
        decay_height=rng.choice([0.0, 0.02, 0.05, 0.1]),
        decay_tilt=rng.uniform(-0.7, 0.0),
        fall=rng.uniform(0.05, 0.7),
        fall_height=rng.choice([0.0, 0.1, 0.4]),
        clip=rng.uniform(-1.5, 0.7),
        clip_height=rng.choice([0.0, 0.02, 0.08]),
        warmup=rng.uniform(0.0, 1.0),
        warmup_height=rng.choice([0.0, 0.1, 0.3]),
        batch=rng.uniform(0.0, 3.0),
        batch_height=rng.choice([0.0, 0.02, 0.06]),
        momentum=rng.uniform(0.85, 0.97),
        places=tuple(rng.uniform(0.0, 1.0, len(AUGMENTATIONS)).tolist()),
        heights=tuple(weights.tolist()),
        mixing=rng.uniform(-0.8, 0.8),
        margin=rng.uniform(0.65, 1.1),
        tau=rng.uniform(2.5, 7.0),
        exponent=rng.uniform(0.7, 1.3),
        delay=rng.uniform(2.0, 8.0),
        crossing=rng.uniform(0.8, 1.6),
        overfit=rng.choice([0.0, 0.0, 0.15]),
        trial_noise=rng.uniform(0.005, 0.04),
        epoch_noise=rng.uniform(0.01, 0.06),
        memory=rng.uniform(6.0, 14.0),
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """What one configuration is: the error it ends with, how fast, how far above the stable rate, its cost and memory."""

    end: float
    pace: float
    heat: float  # decades of the rate above the best one
    excess: float  # decades above the stable rate; training diverges when positive
    restraint: float  # 0..1, how strongly it regularises
    cost: float
    memory: float


class SyntheticTask:
    """Task `number` of `split` in the space `kind`, with `noops` parameters that change nothing.  See `bench.search.task.Task`."""

    epochs = EPOCHS
    startup_s = 0.1 * EPOCH_S

    def __init__(self, number: int, split: Split, *, kind: Kind | None = None, noops: int = 0) -> None:
        self.kind: Kind = kind or KINDS[number % len(KINDS)]
        self.name = f"{split}-{number:02d}-{self.kind}" + (f"+{noops}" if noops else "")
        self.space: SearchSpace = space_of(self.kind, noops=noops)
        self.land = draw_landscape(number, split)
        self._base = base_spec()
        self._own: dict[str, Value] = space_of("wide").values_of(self._base)
        self._number, self._split, self._seed = number, split, (STREAMS[split], number)

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The spec of the baseline."""
        return spec_to_dict(self._base)

    @cached_property
    def scale(self) -> Scale:
        """From random probes and a descent from the best of them."""
        plain = SyntheticTask(self._number, self._split, kind=self.kind)
        values = np.array([self.value(values_at(plain.space, point)) for point in plain.probes])
        best = min(_descend(plain, plain.probes[index]) for index in np.argsort(values)[:4])
        own, middle = self.value(self._own), float(np.median(values[np.isfinite(values)]))
        reference = own if own > best * (1.0 + 3.0 * self.land.trial_noise) else middle
        return Scale(best=best, default=own, reference=reference)

    @cached_property
    def typical_s(self) -> float:
        """From the same probes."""
        costs = sorted(self.place(values_at(self.space, point)).cost for point in self.probes)
        return self.epochs * EPOCH_S * costs[len(costs) // 2]

    @cached_property
    def probes(self) -> npt.NDArray[np.float64]:
        """Random points of the unit cube."""
        return np.random.default_rng([*self._seed, 1]).uniform(size=(_PROBES, len(self.space.parameters)))

    def place(self, values: Mapping[str, Value]) -> Place:
        """Where `values` lie in the landscape; parameters outside the space have the spec's own values."""
        land, v = self.land, {**self._own, **values}
        doublings, encoder = math.log2(float(v[BATCH]) / 2.0), str(v[ENCODER])
        sgd = v[OPTIMIZER] == "SGD"
        best_rate = land.rate + land.batch_shift * doublings - land.encoder_shift * _GROWTH[encoder] + (land.sgd_shift if sgd else 0.0)
        heat = math.log10(float(v[LR])) - best_rate
        height = (land.left if heat < 0 else land.right) * heat * heat / (1.0 + 0.1 * heat * heat)
        height += land.decay_height * (math.log10(float(v[DECAY])) - land.decay - land.decay_tilt * heat) ** 2
        height += land.fall_height * (float(v[FALL]) - land.fall) ** 2
        height += land.clip_height * (math.log10(float(v[CLIP])) - land.clip) ** 2
        height += land.warmup_height * (float(v[WARMUP]) / 200.0 - land.warmup) ** 2
        height += land.batch_height * (doublings + 1.0 - land.batch) ** 2
        height += land.encoder_gain * (1.0 - _GROWTH[encoder])
        height += land.iterations_gain * (4.0 / float(v[ITERATIONS]))
        if sgd:
            height += land.sgd_height + 40.0 * (float(v.get(MOMENTUM, 0.9)) - land.momentum) ** 2
        gaps = [float(v[key]) - place for key, place in zip(AUGMENTATIONS, land.places, strict=True)]
        height += sum(weight * gap * gap for weight, gap in zip(land.heights, gaps, strict=True))
        height += 2.0 * land.mixing * math.sqrt(land.heights[0] * land.heights[1]) * gaps[0] * gaps[1]
        stable = land.margin + 0.4 * math.log10((1.0 + float(v[WARMUP])) / 21.0) - 0.15 * (math.log10(float(v[CLIP])) + 1.0)
        size = _SIZE[encoder]
        return Place(
            end=land.floor * math.exp(height),
            pace=10.0 ** (0.35 * min(heat, 0.0)),
            heat=heat,
            excess=heat - stable,
            restraint=sum(float(v[key]) for key in AUGMENTATIONS) / len(AUGMENTATIONS),
            cost=(0.5 + 0.5 * float(v[ITERATIONS]) / 22.0) * (0.4 + 0.6 * size) * (0.85 + 0.3 / float(v[BATCH])),
            memory=size * float(v[BATCH]) / 2.0 * (0.4 + 0.6 * float(v[ITERATIONS]) / 22.0),
        )

    def curve(self, place: Place) -> npt.NDArray[np.float64]:
        """The error after each epoch, free of noise and of divergence."""
        land = self.land
        slow = math.exp(land.crossing * (place.restraint - 0.5)) if land.family == "crossing" else 1.0
        t = np.arange(1, self.epochs + 1) * place.pace / slow
        if land.family == "power":
            left = (1.0 + 3.0 * t / land.tau) ** -land.exponent
        elif land.family == "delayed":
            left = (1.0 + math.exp(-3.0)) / (1.0 + np.exp(3.0 * (t / land.delay - 1.0)))
        else:
            left = np.exp(-t / land.tau)
        rise = land.overfit * (1.0 - place.restraint) * np.clip(t / self.epochs - 0.6, 0.0, None)
        return np.asarray(place.end * (1.0 + rise) + (land.start * land.floor - place.end) * left)

    def value(self, values: Mapping[str, Value]) -> float:
        """See Task: the best epoch counts, as its checkpoint is kept."""
        place = self.place(values)
        return math.inf if place.excess > 0 or place.memory > self.land.memory else float(self.curve(place).min())

    def train(self, values: Mapping[str, Value], seed: int) -> Training:
        """See Task."""
        place, rng, land = self.place(values), np.random.default_rng([*self._seed, seed]), self.land
        epoch_s = EPOCH_S * place.cost * float(np.exp(rng.normal(0.0, 0.05)))
        if place.memory > land.memory:
            return Training(losses=(), epoch_s=epoch_s, failure=Cause.OOM)
        spread = land.trial_noise * (1.0 + max(place.heat, 0.0) * 2.0)
        clean = self.curve(place)
        wobble = land.epoch_noise * (0.3 + 0.7 * np.clip(clean / (land.start * land.floor), 0.0, 1.0))
        losses = clean * np.exp(rng.normal(0.0, spread) + rng.normal(0.0, 1.0, self.epochs) * wobble)
        if place.excess > 0:
            last = self.epochs * float(rng.uniform(0.3, 1.0)) * math.exp(-3.0 * place.excess)
            losses[int(last) :] = math.nan
        return Training(losses=tuple(losses.tolist()), epoch_s=epoch_s)


def values_at(space: SearchSpace, positions: npt.NDArray[np.float64]) -> dict[str, Value]:
    """The active parameters of the point at `positions` of the unit cube, one coordinate a parameter."""
    values: dict[str, Value] = {}
    for parameter, position in zip(space.parameters, positions, strict=True):
        if parameter.active_in(values):
            values[parameter.key] = from_unit(distribution_of(parameter), float(position))
    return values


def _descend(task: SyntheticTask, start: npt.NDArray[np.float64]) -> float:
    """The lowest value that shrinking random steps along one to three coordinates find from `start`."""
    rng = np.random.default_rng(5)
    here, value, width = start, task.value(values_at(task.space, start)), 0.4
    for _ in range(_STEPS):
        width *= 0.997
        moved = rng.permutation(len(here)) < rng.integers(1, 4)
        there = np.clip(here + moved * rng.normal(0.0, width, len(here)), 0.0, 1.0)
        found = task.value(values_at(task.space, there))
        if found < value:
            here, value = there, found
    return value
