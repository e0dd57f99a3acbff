"""What a search is tried on: a space, a spec, and what training with given values would show, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.space import SearchSpace, Value
from trials.contract import Cause

NO_RESULT = 1.0  # regret of a configuration that does not survive its training: nothing was gained over the default


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training from the first epoch to the last, as a worker would live it.

    `losses` holds the objective after each epoch; NaN where training has diverged.  `failure` strikes before the first
    report (out of memory), after `epoch_s` seconds.  `epoch_s` is the length of an epoch in virtual seconds.
    """

    losses: tuple[float, ...]
    epoch_s: float
    failure: Cause | None = None


class Task(Protocol):
    """One problem.  Everything is a function of its arguments: the same values and seed train alike."""

    @property
    def name(self) -> str:
        """How tables call it."""

    @property
    def space(self) -> SearchSpace:
        """What is searched; the defaults are the spec's own values."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The complete spec of the baseline, as plain data."""

    @property
    def epochs(self) -> int:
        """The full budget of a training."""

    @property
    def startup_s(self) -> float:
        """Virtual seconds from the start of a segment to the start of its first epoch."""

    @property
    def typical_s(self) -> float:
        """Virtual seconds of a whole training of the median configuration: the unit of budgets."""

    @property
    def scale(self) -> Scale:
        """What counts as no gain and as perfect."""

    def train(self, values: Mapping[str, Value], seed: int) -> Training:
        """What a training with `values` shows; `seed` is that of the trial."""

    def value(self, values: Mapping[str, Value]) -> float:
        """The objective that `values` reach at the full budget, free of noise; infinite when they diverge or do not fit."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """`best` is the lowest value known, `default` that of the spec as it stands.

    `reference` is the default, or the median configuration when the default is within the noise of the best.
    """

    best: float
    default: float
    reference: float

    def regret(self, value: float) -> float:
        """0 for the best known value, 1 for the reference; a configuration that fails counts as no gain."""
        return (value - self.best) / (self.reference - self.best) if math.isfinite(value) else NO_RESULT
