"""A small Gaussian process: what a function is like between the points where it was seen.

Rasmussen & Williams 2006, chapters 2 and 5 (http://gaussianprocess.org/gpml): Matérn 5/2 kernel with a length per axis on the unit cube,
noise, all fitted to the evidence under weak priors.  For a few hundred points.  Our own `bfbo` and `pb2` use it; Optuna's sampler, which
stands behind `gp`, does not lend its model to others.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from automl.cube import Array

_ROOT5 = np.sqrt(5.0)
_LENGTHS, _NOISES = (0.05, 10.0), (1e-4, 1.0)
_PRIOR = (np.log(0.6), 0.8)  # of the logarithm of a length: mean, deviation; a length of 0.6 bends once over an axis
_FEW, _GROWTH = 16, 1.5  # beyond so many axes lengths are expected to grow with this power of their number: most axes will do nothing
_PRIOR_NOISE = (np.log(0.02), 1.5)  # of the logarithm of the noise variance


@dataclass(frozen=True)
class GaussianProcess:
    """A model of standardised values: `points` (n, axes), `lengths` (axes,), noise variances (n,); the signal has variance 1."""

    points: Array
    lengths: Array
    noise: Array
    mean: float
    scale: float
    _half: Array  # inverse of the kernel's Cholesky factor
    _weights: Array

    @classmethod
    def fit(cls, points: Array, values: Array, *, variances: Array | None = None) -> GaussianProcess:
        """The model of `values` (n,) at `points` (n, axes); the same for the same arguments.

        `variances` (n,) say how uncertain the values are known to be, beside a noise that all have.
        """
        from scipy.optimize import minimize  # type: ignore[import-untyped]  # loaded where it is needed: it takes long

        mean, scale = float(values.mean()), float(values.std()) or 1.0
        targets = (values - mean) / scale
        own = np.zeros(len(values)) if variances is None else variances / scale**2
        axes = points.shape[1]
        begin = np.array([_PRIOR[0] + 0.5 * np.log(max(axes, 1) / 4.0 + 0.75)] * axes + [_PRIOR_NOISE[0]])
        bounds = [tuple(np.log(_LENGTHS))] * axes + [tuple(np.log(_NOISES))]
        squares = (points[:, None, :] - points[None, :, :]) ** 2
        with _one_thread():
            found = minimize(
                _misfit, np.clip(begin, *np.array(bounds).T), args=(squares, targets, own), jac=True, bounds=bounds, method="L-BFGS-B",
                options={"maxiter": 60},
            )  # fmt: skip
            lengths, noise = np.exp(found.x[:-1]), own + np.exp(found.x[-1])
            half = np.linalg.inv(np.linalg.cholesky(_matern(squares, lengths)[0] + np.diag(noise)))
        return cls(points, lengths, noise, mean, scale, half, half.T @ (half @ targets))

    def expecting(self, points: Array) -> GaussianProcess:
        """The model as if its own means had been seen at `points` (m, axes): it is surer there and believes the same."""
        everywhere = np.vstack([self.points, points])
        seen = (self.predict(everywhere)[0] - self.mean) / self.scale
        squares = (everywhere[:, None, :] - everywhere[None, :, :]) ** 2
        noise = np.append(self.noise, np.full(len(points), self.noise.min()))
        with _one_thread():
            half = np.linalg.inv(np.linalg.cholesky(_matern(squares, self.lengths)[0] + np.diag(noise)))
        return replace(self, points=everywhere, noise=noise, _half=half, _weights=half.T @ (half @ seen))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the function at `points` (m, axes), each (m,), without noise, in the unit of the values."""
        with _one_thread():
            across = _matern((points[:, None, :] - self.points[None, :, :]) ** 2, self.lengths)[0]
            known = np.sum((self._half @ across.T) ** 2, axis=0)
        deviation = np.sqrt(np.maximum(1.0 - known, 1e-12))
        return np.asarray(self.mean + self.scale * (across @ self._weights)), np.asarray(self.scale * deviation)


def _one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread: matrices are small, and beside busy cores several threads wait for each other, fifty times as long."""
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


@cache
def _libraries() -> Any:
    """The libraries for linear algebra that are loaded, scipy's own among them."""
    import scipy.linalg  # type: ignore[import-untyped]  # noqa: F401 - to be among them
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _matern(squares: Array, lengths: Array) -> tuple[Array, Array]:
    """Kernel values from squared differences (..., axes), and what its derivative by each log length has in common."""
    distance = np.sqrt(np.maximum(squares @ lengths**-2.0, 1e-16))
    fall = np.exp(-_ROOT5 * distance)
    value, slope = 1.0 + _ROOT5 * distance + 5.0 / 3.0 * distance**2, 5.0 / 3.0 * (1.0 + _ROOT5 * distance)
    return np.asarray(value * fall), np.asarray(slope * fall)


def _misfit(logs: Array, squares: Array, targets: Array, own: Array) -> tuple[float, Array]:
    """Negative log posterior of log lengths and log noise, and its gradient; `own` is the noise variance that is known, value by value."""
    lengths, noise = np.exp(logs[:-1]), np.exp(logs[-1])
    kernel, slope = _matern(squares, lengths)
    factor = np.linalg.cholesky(kernel + np.diag(own + noise))
    half = np.linalg.inv(factor)
    inverse = half.T @ half
    weights = inverse @ targets
    inner = np.outer(weights, weights) - inverse
    by_length = -0.5 * ((inner * slope).ravel() @ squares.reshape(-1, len(lengths))) / lengths**2
    by_noise = -0.5 * noise * np.trace(inner)
    expected = _PRIOR[0] + _GROWTH * np.log(max(1.0, len(lengths) / _FEW))
    off_length, off_noise = (logs[:-1] - expected) / _PRIOR[1], (logs[-1] - _PRIOR_NOISE[0]) / _PRIOR_NOISE[1]
    value = 0.5 * targets @ weights + np.sum(np.log(np.diag(factor))) + 0.5 * (off_length @ off_length + off_noise**2)
    return float(value), np.append(by_length + off_length / _PRIOR[1], by_noise + off_noise / _PRIOR_NOISE[1])
