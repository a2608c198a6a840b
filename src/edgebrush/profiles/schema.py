"""The schema of a profile: one GDM on one piece of hardware. SI units; every block names the source of its numbers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

ERROR_TOLERANCE = 1e-3  # between a curve's stated and its actual RMSE: enough for rounded numbers


class Part(BaseModel):
    """Base of everything that is read from a file: validated, immutable; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sourced(Part):
    """A block of numbers: where they were published or measured, and what was assumed to complete them."""

    source: Annotated[str, Field(min_length=1)]
    assumption: str = Field(default="", description="what nobody has measured; empty if there is nothing")


class OmitsMissing(Part):
    """Writes the fields in ``OMITTED`` only if they have a value, so that files without them stay as they are."""

    OMITTED: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _omit_missing(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None or name not in self.OMITTED}


class Compute(Sourced, OmitsMissing):
    """Seconds. A round of b tasks takes ``round_intercept_s + round_slope_s * b``."""

    OMITTED = frozenset({"guidance"})

    encode_s: NonNegative = Field(description="text encoder, when a task enters")
    decode_s: NonNegative = Field(description="VAE decoder, when a task leaves")
    round_intercept_s: NonNegative
    round_slope_s: Positive
    error: NonNegative | None = Field(default=None, description="relative error on held-out runs, where published")
    r_squared: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="where published")
    guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        default=None, description="of the measured rounds; above 1, a step evaluates the network twice"
    )

    def round_s(self, batch: ArrayLike) -> NDArray[np.float64]:
        """Seconds of a denoising round of ``batch`` tasks (any shape)."""
        return self.round_intercept_s + self.round_slope_s * np.asarray(batch, float)


class Energy(Sourced):
    """Joules. A round of b tasks takes ``round_intercept_j + round_slope_j * b``."""

    fixed_j: NonNegative = Field(description="text encoder and VAE decoder together")
    round_intercept_j: NonNegative
    round_slope_j: Positive
    error: NonNegative | None = Field(default=None, description="relative error on held-out runs, where published")

    def round_j(self, batch: ArrayLike) -> NDArray[np.float64]:
        """Joules of a denoising round of ``batch`` tasks (any shape)."""
        return self.round_intercept_j + self.round_slope_j * np.asarray(batch, float)


class QualityPoint(OmitsMissing):
    """A published or measured quality after a number of denoising steps."""

    OMITTED = frozenset({"standard_error"})

    steps: Annotated[int, Field(ge=1)]
    quality: Annotated[float, Field(ge=0, le=1)]
    standard_error: NonNegative | None = Field(default=None, description="only where edgebrush measured the point")


class Quality(Sourced):
    """``Q(k) = ceiling / (1 + (half_steps / k)^sharpness)``, fitted to ``points``; ``error`` is the fit's RMSE."""

    ceiling: Annotated[float, Field(gt=0, le=1)]
    half_steps: Positive
    sharpness: Positive
    points: tuple[QualityPoint, ...] = Field(min_length=3)
    error: NonNegative

    @model_validator(mode="after")
    def _check_error(self) -> Quality:
        residuals = self.at([point.steps for point in self.points]) - [point.quality for point in self.points]
        error = float(np.sqrt(np.mean(residuals**2)))
        if abs(error - self.error) > ERROR_TOLERANCE:
            raise ValueError(
                f"error = {self.error:g}, but the curve misses its points by {error:.4f} (RMSE); "
                "fit the curve again or correct error"
            )
        return self

    def at(self, steps: ArrayLike, difficulty: float = 1.0) -> NDArray[np.float64]:
        """Quality after ``steps`` (any shape) for content that needs ``difficulty`` times as many steps."""
        steps = np.asarray(steps, float)
        return self.ceiling / (1.0 + (difficulty * self.half_steps / steps) ** self.sharpness)


class Profile(Part):
    """One GDM on one piece of hardware."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    role: Literal["light", "heavy"]
    model: str
    hardware: str
    resolution_px: Annotated[int, Field(ge=1)]
    compute: Compute
    energy: Energy
    quality: Quality

    @model_validator(mode="after")
    def _check_light_is_unbatched(self) -> Profile:
        if self.role == "light" and self.compute.round_intercept_s > 0:
            raise ValueError("a light model runs one task at a time; put its whole step into round_slope_s")
        return self
