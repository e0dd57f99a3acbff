"""Tasks from recorded curves of real trainings: a forest fitted once to a table, with the scatter that was recorded.

A table (bench/search/tables/NAME.csv, written by `bench.search.record`) holds random configurations of a tiny stereo network and
the end-point error on held-out pairs after each of 27 epochs.  Between its points the logarithm of the error is that of a forest of 200
extremely randomised trees (Geurts et al. 2006); what a training shows besides is the scatter of one of the nearest recorded ones, by
its seed.  Where the nearest recorded training diverged, training diverges.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from automl.cube import Array, Cube
from bench.search.task import Scale, Training
from search_spaces.space import Parameter, SearchSpace, Value
from search_spaces.spec import spec_from_dict, spec_to_dict

TABLES = Path(__file__).parent / "tables"
EPOCHS = 27
NEIGHBOURS = 5
TREES = 200
LEAF = 3  # recorded trainings in a leaf: one alone would take its scatter for the truth
_PROBES = 2000
_ROUNDS, _STEPS = 12, 200  # of the refinement of the best probe

_OPTIM, _AUGMENTATION = "train.optim", "dataset.train_dataset.augmentation"


def recorded_space() -> SearchSpace:
    """What was varied; the defaults are those of the recorded spec."""
    return SearchSpace(
        skill="depth_net_stereo",
        parameters=(
            Parameter(key=f"{_OPTIM}.lr", kind="float", low=1e-5, high=1e-2, log=True, default=1e-4),
            Parameter(key=f"{_OPTIM}.weight_decay", kind="float", low=1e-6, high=1e-2, log=True, default=1e-4),
            Parameter(key=f"{_OPTIM}.warmup_steps", kind="int", low=0, high=100, default=20),
            Parameter(key="train.clip_grad_norm", kind="float", low=0.01, high=10.0, log=True, default=0.1),
            Parameter(key="dataset.train_dataset.batch_size", kind="int", low=1, high=8, default=2),
            Parameter(key=f"{_AUGMENTATION}.color_aug_prob", kind="float", low=0.0, high=1.0, default=0.2),
            Parameter(key=f"{_AUGMENTATION}.eraser_aug_prob", kind="float", low=0.0, high=1.0, default=0.5),
            Parameter(
                key=f"{_OPTIM}.lr_scheduler",
                kind="categorical",
                choices=("CosineAnnealingLR", "OneCycleLR", "PolynomialLR"),
                default="CosineAnnealingLR",
            ),
        ),
    )


class RecordedTask:
    """The table NAME as a task.  See `bench.search.task.Task`."""

    epochs = EPOCHS

    def __init__(self, name: str, path: Path) -> None:
        self.name = f"recorded-{name}"
        self.space = recorded_space()
        self._cube = Cube(self.space)
        self.rows = _read(path, self.space)  # values, seconds an epoch, errors; the default first
        self._points = np.array([self._point(values) for values, _, _ in self.rows])
        self._epoch_s = np.array([seconds for _, seconds, _ in self.rows])
        self._curves = np.array([curve for _, _, curve in self.rows])
        self._fitted = self._clean(self._points)

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """A spec with the recorded defaults."""
        overrides = {"train": {"optim": {"lr_scheduler": "CosineAnnealingLR"}}, "dataset": {"train_dataset": {"batch_size": 2}}}
        return spec_to_dict(spec_from_dict({"model": {"model_type": "FoundationStereo"}, **overrides}))

    @cached_property
    def scale(self) -> Scale:
        """From random probes and the recorded points, the best of them refined by shrinking random steps."""
        rng = np.random.default_rng(1)
        points = np.vstack([rng.uniform(size=(_PROBES, len(self.space.parameters))), self._points])
        values = self._values(points)
        here, best = points[values.argmin()], float(values.min())
        for width in np.geomspace(0.3, 0.01, _ROUNDS):
            near = np.clip(here + rng.normal(0.0, width, (_STEPS, len(here))) * (rng.random((_STEPS, len(here))) < 0.4), 0.0, 1.0)
            found = self._values(near)
            if found.min() < best:
                here, best = near[found.argmin()], float(found.min())
        own, middle = self.value(self.rows[0][0]), float(np.median(values[np.isfinite(values)]))
        return Scale(best=best, default=own, reference=own if own > 1.05 * best else middle)

    @property
    def startup_s(self) -> float:
        """A tenth of an epoch."""
        return 0.1 * float(np.median(self._epoch_s))

    @property
    def typical_s(self) -> float:
        """All epochs of the median recorded training."""
        return self.epochs * float(np.median(self._epoch_s))

    def train(self, values: Mapping[str, Value], seed: int) -> Training:
        """See Task."""
        point = self._point(values)[None]
        near = np.argsort(self._distances(point)[0])[:NEIGHBOURS]
        rng = np.random.default_rng(seed)
        other = int(rng.choice(near))
        scatter = self._curves[other] / self._fitted[other]
        scatter[~np.isfinite(scatter)] = 1.0
        losses = self._clean(point)[0] * scatter
        if self._diverging(point)[0]:
            losses[np.isnan(self._curves[near[0]])] = math.nan
        return Training(losses=tuple(losses.tolist()), epoch_s=float(self._epoch_s[near].mean()) * float(np.exp(rng.normal(0.0, 0.05))))

    def value(self, values: Mapping[str, Value]) -> float:
        """See Task."""
        return float(self._values(self._point(values)[None])[0])

    def _values(self, points: Array) -> Array:
        """`value` of each of `points` (n, axes), shape (n,)."""
        return np.where(self._diverging(points), math.inf, self._clean(points).min(axis=1))

    def _point(self, values: Mapping[str, Value]) -> Array:
        return self._cube.point(values)

    def _clean(self, points: Array) -> Array:
        """The curves of `points` (n, axes) by the forest, shape (n, epochs)."""
        return np.asarray(np.exp(self._forest.predict(self._features(points))))

    @cached_property
    def _forest(self) -> Any:
        from sklearn.ensemble import ExtraTreesRegressor  # type: ignore[import-untyped]

        whole = np.isfinite(self._curves).all(axis=1)
        forest = ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=LEAF, random_state=0)
        return forest.fit(self._features(self._points[whole]), np.log(self._curves[whole]))

    def _features(self, points: Array) -> Array:
        """Coordinates, and a switch per choice instead of its place."""
        columns = []
        for axis, count in enumerate(self._cube.choices):
            column = points[:, axis, None]
            columns.append(np.minimum(np.floor(column * count), count - 1) == np.arange(count) if count else column)
        return np.hstack(columns).astype(float)

    def _distances(self, points: Array) -> Array:
        """From each of `points` to each recorded one, shape (n, rows)."""
        mine, theirs = self._features(points), self._features(self._points)
        return np.asarray(((mine[:, None, :] - theirs[None]) ** 2).sum(axis=2))

    def _diverging(self, points: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(np.isnan(self._curves[self._distances(points).argmin(axis=1)]).any(axis=1))


def _read(path: Path, space: SearchSpace) -> list[tuple[dict[str, Value], float, list[float]]]:
    """(values, seconds an epoch, errors) of each line of a table."""
    kinds = {"float": float, "int": int, "categorical": str}
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            (
                {item.key: kinds[item.kind](row[item.key]) for item in space.parameters},
                float(row["epoch_s"]),
                [float(row[f"epoch {epoch + 1}"]) for epoch in range(EPOCHS)],
            )
            for row in csv.DictReader(stream)
        ]
