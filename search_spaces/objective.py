"""Metric names, units, definitions and directions: one explicit table for each family.

Nobody infers a direction from a name: `d1` is an outlier share in stereo (lower is better) and an accuracy in mono
(higher is better).  Definitions follow the KITTI and Middlebury benchmarks (stereo) and Eigen et al. 2014 (mono).
Beside these stand the costs of a network, which belong to no split and are the same for all families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from search_spaces.errors import SpecError, nearest
from search_spaces.spec.tree import Family

Direction = Literal["minimize", "maximize"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """One metric of one family; `name` is without the split.  A cost has no split anyway."""

    name: str
    unit: str
    direction: Direction
    definition: str
    family: Family


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a search improves: `metric` with its split (`val/loss`), or a cost (`latency_ms`), and the direction."""

    metric: str
    direction: Direction

    @property
    def is_cost(self) -> bool:
        """Whether it is what the network costs and not how well it predicts."""
        return self.metric in COSTS

    @property
    def sign(self) -> float:
        """1 where less is better, -1 where more is: what makes a cost to minimise of a value."""
        return 1.0 if self.direction == "minimize" else -1.0

    def better(self, value: float, other: float) -> bool:
        """Whether `value` beats `other`."""
        return value < other if self.direction == "minimize" else value > other


# what one image is judged by where images are put in order: the error that every family's papers report first
LEADING: Mapping[Family, str] = MappingProxyType({"stereo": "epe", "mono": "abs_rel"})

_Rows = tuple[tuple[str, str, Direction, str], ...]
_STEREO: _Rows = (
    ("loss", "px", "minimize", "smooth L1 of the final disparity, averaged over images (in training: the sequence loss)"),
    ("epe", "px", "minimize", "mean absolute disparity error, averaged over images"),
    ("bp1", "share", "minimize", "share of pixels with an error above 1 px, averaged over images"),
    ("bp2", "share", "minimize", "share of pixels with an error above 2 px, averaged over images"),
    ("bp3", "share", "minimize", "share of pixels with an error above 3 px, averaged over images"),
    ("d1", "share", "minimize", "share of outliers: error above 3 px and above 5 % of the true disparity, averaged over images"),
    ("rmse", "px", "minimize", "root of the mean squared disparity error, averaged over images"),
)
_RATIOS: tuple[tuple[str, Direction, str], ...] = (
    ("d1", "maximize", "share of all pixels with max(p/t, t/p) < 1.25"),
    ("d2", "maximize", "share of all pixels with max(p/t, t/p) < 1.25 squared"),
    ("d3", "maximize", "share of all pixels with max(p/t, t/p) < 1.25 cubed"),
    ("abs_rel", "minimize", "mean of |p - t| / t over all pixels"),
)
_RELATIVE: _Rows = (
    ("loss", "", "minimize", "scale-and-shift-invariant loss, averaged over images"),
    *((name, "share", way, f"{text}, scale and shift fitted per image") for name, way, text in _RATIOS),
)
_METRIC: _Rows = (
    ("loss", "", "minimize", "scale-invariant logarithmic loss (SiLog), averaged over images"),
    *((name, "share", way, text) for name, way, text in _RATIOS),
    ("rmse", "m", "minimize", "root of the mean squared depth error, averaged over images"),
    ("rmse_log", "", "minimize", "root of the mean squared error of ln depth, averaged over images"),
    ("log10", "", "minimize", "mean of |log10 p - log10 t|, averaged over images"),
    ("silog", "", "minimize", "scale-invariant error: sqrt(mean g^2 - 0.5 mean(g)^2), g = ln p - ln t, averaged over images"),
    ("sq_rel", "m", "minimize", "mean of (p - t)^2 / t, averaged over images"),
)
LATENCY, PEAK_MEMORY, PARAMETERS = "latency_ms", "peak_memory_mib", "parameters"
_COSTS: _Rows = (
    (
        LATENCY,
        "ms",
        "minimize",
        "time of one prediction, the fastest of ten: PyTorch, one image (pair) of the validation's size",
    ),
    (PEAK_MEMORY, "MiB", "minimize", "most memory that training held: of the GPU, or of the whole process on a CPU"),
    (PARAMETERS, "", "minimize", "count of the numbers that the network consists of, frozen ones too"),
)
COSTS = tuple(row[0] for row in _COSTS)


def metrics_of(family: Family, *, relative: bool = False) -> tuple[MetricInfo, ...]:
    """The metrics of a family; with `relative`, those of relative mono networks alone."""
    rows = _STEREO if family == "stereo" else _RELATIVE if relative else _METRIC
    return tuple(MetricInfo(name=name, unit=unit, direction=way, definition=text, family=family) for name, unit, way, text in rows)


def metric_info(family: Family, name: str, *, relative: bool = False) -> MetricInfo:
    """The metric that `val/epe`, `val_epe` or `epe` names in this family, or a cost; SpecError with the nearest name otherwise."""
    for cost, unit, way, text in _COSTS:
        if cost == name:
            return MetricInfo(name=cost, unit=unit, direction=way, definition=text, family=family)
    _, bare = _split_and_name(name)
    for info in metrics_of(family, relative=relative):
        if info.name == bare:
            return info
    raise _unknown_metric(family, name, relative=relative)


def objective_for(family: Family, metric: str, *, relative: bool = False) -> Objective:
    """The objective for a metric name in any spelling; no split means `val`.

    `relative` refuses metrics that need metres.  Only `loss` exists for the train split, and no split for a cost.
    """
    if metric in COSTS:
        return Objective(metric=metric, direction=metric_info(family, metric).direction)
    split, bare = _split_and_name(metric)
    known = {info.name: info for info in metrics_of(family, relative=relative)}
    if bare not in known:
        raise _unknown_metric(family, metric, relative=relative)
    if split == "train" and bare != "loss":
        raise SpecError(f"the only metric of training itself is train/loss, but {metric} was asked for", hint=f"use val/{bare}")
    return Objective(metric=f"{split}/{bare}", direction=known[bare].direction)


def objectives_for(family: Family, metrics: Sequence[str], *, relative: bool = False) -> tuple[Objective, ...]:
    """The objectives in the order given, the first of which decides about every single training.

    SpecError as `objective_for`, for a metric that is named twice, and for a cost in the first place: training does not change it.
    """
    found = tuple(objective_for(family, metric, relative=relative) for metric in metrics)
    names = [objective.metric for objective in found]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise SpecError(f"{twice} is named twice among the objectives", hint="name each once")
    if found[0].is_cost:
        better = next((name for name in names if name not in COSTS), f"val/{LEADING[family]}")
        raise SpecError(
            f"the first objective picks the best epoch of a training and ends poor ones early, but {names[0]} is no result of training",
            hint=f"put another one first: --metric {better} --metric {names[0]}",
        )
    return found


def _split_and_name(metric: str) -> tuple[str, str]:
    """(`val`, `epe`) for `val/epe`, `val_epe` and `epe`."""
    for split in SPLITS:
        for mark in ("/", "_"):
            if metric.startswith(f"{split}{mark}"):
                return split, metric[len(split) + 1 :]
    return "val", metric


def _unknown_metric(family: Family, metric: str, *, relative: bool = False) -> SpecError:
    names = [info.name for info in metrics_of(family, relative=relative)]
    guess = nearest(_split_and_name(metric)[1], [*names, *COSTS])
    kind = "relative mono" if relative else family
    known = f"known are {', '.join(f'val/{name}' for name in names)}, train/loss and the costs {', '.join(COSTS)}"
    hint = f"did you mean {guess if guess in COSTS else f'val/{guess}'}? {known}" if guess else known
    return SpecError(f"{kind} networks have no metric {metric}", hint=hint)
