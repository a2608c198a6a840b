"""Fit a profile's curves: seconds and joules against batch size, quality against denoising steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar, nnls

from .schema import QualityPoint

CONCAVE_FROM = 2.0  # steps; the smallest step count that a usual step grid contains
HALF_STEPS, SHARPNESS = (0.05, 500.0), (0.1, 10.0)  # bounds of the fit, for 1 to 1,000 steps


def fit_affine(batch: Sequence[float], value: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``value = intercept + slope * batch`` by least squares; returns (intercept, slope, relative RMSE)."""
    x, y = np.asarray(batch, float), np.asarray(value, float)
    (intercept, slope), *_ = np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y, rcond=None)
    residual = intercept + slope * x - y
    return float(intercept), float(slope), float(np.sqrt(np.mean((residual / y) ** 2)))


def fit_round(batch: Sequence[float], value: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``value = intercept + slope * batch``, both non-negative, by least squares of relative errors.

    Needs at least 3 points. Returns (intercept, slope, relative RMSE by leave-one-out cross-validation).
    """
    x, y = np.asarray(batch, float), np.asarray(value, float)
    rows = np.stack([np.ones_like(x), x], axis=1) / y[:, None]  # dividing by y makes the errors relative
    (intercept, slope), _ = nnls(rows, np.ones_like(y))
    left_out = [nnls(np.delete(rows, at, axis=0), np.ones(len(y) - 1))[0] for at in range(len(y))]
    residuals = np.sum(rows * left_out, axis=1) - 1.0
    return float(intercept), float(slope), float(np.sqrt(np.mean(residuals**2)))


def inflection(half_steps: float, sharpness: float) -> float:
    """Return where ``1 / (1 + (h/k)^s)`` turns from convex to concave: ``h ((s-1)/(s+1))^(1/s)``; 0 for s <= 1."""
    if sharpness <= 1.0:
        return 0.0
    return half_steps * float(((sharpness - 1.0) / (sharpness + 1.0)) ** (1.0 / sharpness))


def fit_quality(points: Sequence[QualityPoint], ceiling: float) -> tuple[float, float, float]:
    """Fit the saturating quality curve below a known ceiling; returns (half_steps, sharpness, RMSE).

    The curve is a power law of the Fréchet distance with a floor, ``FID = floor + A k^-s``, read as the quality
    ``ceiling * floor / FID``. It is constrained to be concave from ``CONCAVE_FROM`` steps on, so that no policy
    exploits an inflection that only the fit has.
    """
    steps = np.array([point.steps for point in points], float)
    quality = np.array([point.quality for point in points])

    def loss(theta: NDArray[np.float64]) -> float:
        half_steps, sharpness = np.exp(theta)
        return float(np.mean((ceiling / (1.0 + (half_steps / steps) ** sharpness) - quality) ** 2))

    concave = {"type": "ineq", "fun": lambda theta: CONCAVE_FROM - inflection(*np.exp(theta))}
    starts = [np.log([h, s]) for h in (1.0, 3.0, 10.0) for s in (0.8, 1.2)]
    bounds = [np.log(HALF_STEPS), np.log(SHARPNESS)]
    best = min(
        (
            minimize(loss, start, method="SLSQP", bounds=bounds, constraints=[concave], options={"ftol": 1e-14})
            for start in starts
        ),
        key=lambda result: result.fun if result.success else np.inf,
    )
    half_steps, sharpness = np.exp(best.x)
    return float(half_steps), float(sharpness), float(np.sqrt(best.fun))


def fit_saturating(points: Sequence[QualityPoint]) -> tuple[float, float, float, float]:
    """Fit the same curve with an unknown ceiling of at most 1; returns (ceiling, half_steps, sharpness, RMSE)."""
    best = max(point.quality for point in points)

    def error(ceiling: float) -> float:
        return fit_quality(points, ceiling)[2]

    found = minimize_scalar(error, bounds=(0.9 * best, 1.0), method="bounded", options={"xatol": 1e-5})
    ceiling = float(found.x)
    return (ceiling, *fit_quality(points, ceiling))
