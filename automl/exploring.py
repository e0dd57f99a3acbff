"""How a child of a population differs from the member whose state it takes over: the searchers `pbt` and `pb2`.

Only values that a resumed training heeds are changed; the others (the network's shape, the optimiser, the batch size on which the steps
of the schedule depend) are inherited with the weights.  The schedule spans the full budget and is a function of the step, so a new
learning rate scales what is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from automl.cube import Cube
from automl.distributions import by_weight, distribution_of, from_unit
from automl.proposals import Need, Proposal
from automl.view import Observation
from search_spaces.errors import StudyError
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace, Value

# read anew by every segment: trials.module sets rate and decay of a resumed optimiser, schedule and clipping follow the spec
HEEDED = frozenset(f"train.optim.{name}" for name in ("lr", "weight_decay", "lr_decay", "lr_step_size", "min_lr")) | {
    "train.clip_grad_norm"
}
AUGMENTATION = "dataset.train_dataset.augmentation."
FIXED_AUGMENTATION = frozenset({f"{AUGMENTATION}crop_size", f"{AUGMENTATION}input_mean", f"{AUGMENTATION}input_std"})
_LEAST_STEP = 0.02  # of a linear range: a probability of 0 would otherwise stay 0 for ever


@dataclass(frozen=True, kw_only=True)
class Heritage:
    """The member whose state a child takes over: its number, its values, and the epochs it had trained."""

    number: int
    values: Mapping[str, Value]
    epoch: int


def changeable(key: str) -> bool:
    """Whether a value can change in the middle of a training."""
    return key in HEEDED or (key.startswith(AUGMENTATION) and key not in FIXED_AUGMENTATION)


def check_population(space: SearchSpace, settings: Mapping[str, Any]) -> None:
    """StudyError for a space in which nothing can change in the middle of a training."""
    del settings
    if not any(changeable(parameter.key) for parameter in space.parameters):
        keys = ", ".join(parameter.key for parameter in space.parameters)
        raise StudyError(
            f"a population changes values in the middle of a training, and none of these can: {keys}",
            hint="search train.optim.lr or an augmentation too, or use another algorithm",
        )


def propose_founder(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """A random configuration: the first generation."""
    del observations, direction
    return Proposal(values=Cube(need.space).blind(np.random.default_rng(need.own_seed)))


def perturb(need: Need, heritage: Heritage, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The donor's values, each that can change multiplied or divided by `perturbation_factor`, or drawn anew."""
    del observations, direction
    return inherit(need, heritage, {})


def inherit(need: Need, heritage: Heritage, chosen: Mapping[str, Value]) -> Proposal:
    """The donor's values but for those `chosen`; what else can change is perturbed, what becomes active for the first time is drawn.

    Used by `pb2`, which chooses the numbers itself.
    """
    rng, factor = np.random.default_rng(need.own_seed), float(need.settings["perturbation_factor"])
    values: dict[str, Value] = {}
    for parameter in need.space.parameters:
        draw, renew, up = rng.random(), rng.random() < need.settings["resample_prob"], rng.random() < 0.5
        if not parameter.active_in(values):
            continue
        key, axis = parameter.key, distribution_of(parameter)
        if key in chosen:
            values[key] = chosen[key]
        elif key not in heritage.values or (changeable(key) and renew):
            values[key] = from_unit(axis, by_weight(parameter, draw))
        elif changeable(key) and not isinstance(axis, CategoricalDistribution):
            values[key] = _shifted(axis, heritage.values[key], factor if up else 1.0 / factor)
        else:
            values[key] = heritage.values[key]
    return Proposal(values=values, origin={"donor": heritage.number, "epoch": heritage.epoch})


def _shifted(axis: BaseDistribution, value: Any, factor: float) -> Any:
    """`value` times `factor`, at least one step away where there are steps, inside the range."""
    assert isinstance(axis, FloatDistribution | IntDistribution)
    step = float(axis.step or (0.0 if axis.log else _LEAST_STEP * (axis.high - axis.low)))
    shift = value * (factor - 1.0)
    if abs(shift) < step:
        shift = step if factor > 1.0 else -step
    if axis.step is not None:
        shift = round(shift / axis.step) * axis.step
    moved = min(max(value + shift, axis.low), axis.high)
    return int(moved) if isinstance(axis, IntDistribution) else float(moved)
