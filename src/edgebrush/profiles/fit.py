"""Curves through measured points: seconds and joules against batch size, quality against denoising steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar, nnls

from .schema import QualityPoint

CONCAVE_FROM = 2.0  # steps; the quality curve bends down everywhere a step grid usually looks
HALF_STEPS, SHARPNESS = (0.05, 500.0), (0.1, 10.0)  # where the fit may look; steps are 1 to 1,000


def fit_affine(batch: Sequence[float], value: Sequence[float]) -> tuple[float, float, float]:
    """Least squares ``value = intercept + slope * batch``; returns (intercept, slope, relative RMSE)."""
    x, y = np.asarray(batch, float), np.asarray(value, float)
    (intercept, slope), *_ = np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y, rcond=None)
    residual = intercept + slope * x - y
    return float(intercept), float(slope), float(np.sqrt(np.mean((residual / y) ** 2)))


def fit_round(batch: Sequence[float], value: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``value = intercept + slope * batch``, neither negative, by the least squares of relative errors.

    Returns (intercept, slope, relative RMSE of each point against the fit of the others); at least 3 points.
    """
    x, y = np.asarray(batch, float), np.asarray(value, float)
    rows = np.stack([np.ones_like(x), x], axis=1) / y[:, None]  # of a line through 1 in relative terms
    (intercept, slope), _ = nnls(rows, np.ones_like(y))
    others = [nnls(np.delete(rows, at, axis=0), np.ones(len(y) - 1))[0] for at in range(len(y))]
    misses = np.sum(rows * others, axis=1) - 1.0
    return float(intercept), float(slope), float(np.sqrt(np.mean(misses**2)))


def inflection(half_steps: float, sharpness: float) -> float:
    """Where ``1 / (1 + (h/k)^s)`` turns from convex to concave: ``h ((s-1)/(s+1))^(1/s)``; 0 for s <= 1."""
    if sharpness <= 1.0:
        return 0.0
    return half_steps * ((sharpness - 1.0) / (sharpness + 1.0)) ** (1.0 / sharpness)


def fit_quality(points: Sequence[QualityPoint], ceiling: float) -> tuple[float, float, float]:
    """Fit (half_steps, sharpness, RMSE) of the saturating curve below a known ceiling.

    The form is a power law of the Fréchet distance with a floor, ``FID = floor + A k^-s``, read as quality
    ``ceiling * floor / FID``. Constrained to be concave from ``CONCAVE_FROM`` steps on, so that no policy
    lives off a bend of the fit.
    """
    steps = np.array([point.steps for point in points], float)
    quality = np.array([point.quality for point in points])

    def loss(theta):
        half_steps, sharpness = np.exp(theta)
        return np.mean((ceiling / (1.0 + (half_steps / steps) ** sharpness) - quality) ** 2)

    concave = {"type": "ineq", "fun": lambda theta: CONCAVE_FROM - inflection(*np.exp(theta))}
    starts = [np.log([h, s]) for h in (1.0, 3.0, 10.0) for s in (0.8, 1.2)]
    bounds = [np.log(HALF_STEPS), np.log(SHARPNESS)]
    found = min(
        (
            minimize(loss, start, method="SLSQP", bounds=bounds, constraints=[concave], options={"ftol": 1e-14})
            for start in starts
        ),
        key=lambda result: result.fun if result.success else np.inf,
    )
    half_steps, sharpness = np.exp(found.x)
    return float(half_steps), float(sharpness), float(np.sqrt(found.fun))


def fit_saturating(points: Sequence[QualityPoint]) -> tuple[float, float, float, float]:
    """Fit (ceiling, half_steps, sharpness, RMSE) where the ceiling, at most 1, is not known either."""
    best = max(point.quality for point in points)

    def error(ceiling: float) -> float:
        return fit_quality(points, ceiling)[2]

    found = minimize_scalar(error, bounds=(0.9 * best, 1.0), method="bounded", options={"xatol": 1e-5})
    ceiling = float(found.x)
    return (ceiling, *fit_quality(points, ceiling))
