"""Measure image quality against denoising steps: generate images, score them, keep a strip of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgebrush.diffusion.backend import Backend, Prompt
from edgebrush.diffusion.images import save_image
from edgebrush.diffusion.samplers import Sampler
from edgebrush.errors import UserError
from edgebrush.progress import ProgressCallback

from .measure import MeasurementPlan, WorkFolder, advance_batch
from .quality import Score, Scorer

BATCH = 16  # images generated together
STRIP_IMAGES = 10  # sample images kept per step count


@dataclass(frozen=True)
class NamedScorer:
    """A scorer, and a name that changes whenever its scores would."""

    scorer: Scorer
    name: str

    def score(self, images: list[np.ndarray], prompts: list[Prompt]) -> Score:
        """Score images. Raises ``UserError`` if the quality is not in [0, 1]."""
        score = self.scorer.score(images, prompts)
        if not 0.0 <= score.value <= 1.0:
            raise UserError(f"scorer = {self.name!r}: returned {score.value:g}; a quality must be between 0 and 1")
        return score


def measure_quality(
    backend: Backend,
    sampler: Sampler,
    scorer: NamedScorer,
    plan: MeasurementPlan,
    work: WorkFolder,
    progress: ProgressCallback,
) -> tuple[dict[int, Score], dict[int, np.ndarray]]:
    """Return the score and the strip of sample images of every step count; finished ones are read from ``work``."""
    scores, strips = {}, {}
    settings = {"prompts": plan.prompts, "samples": plan.samples, "sampler": type(sampler).__name__}
    total, done = sum(plan.steps) * plan.samples, 0
    for steps in plan.steps:
        path = work.path(f"quality-{steps}", settings | {"steps": steps, "scorer": scorer.name})
        strip = path.with_suffix(".png")
        if not strip.exists():
            path.unlink(missing_ok=True)

        def compute(steps: int = steps, strip: Path = strip, done: int = done) -> dict[str, Any]:
            def on_images(count: int) -> None:
                progress("quality", (done + steps * count) / total, f"{steps} steps, image {count}")

            images, prompts = generate(backend, sampler, plan, steps, on_images)
            score = scorer.score(images, prompts)
            save_image(np.concatenate(images[:STRIP_IMAGES], axis=1), strip)
            return asdict(score)

        kept = work.load_or_compute(path, compute)
        scores[steps], strips[steps] = Score(**kept), np.asarray(Image.open(strip))
        done += steps * plan.samples
    progress("quality", 1.0, "")
    return scores, strips


def generate(
    backend: Backend, sampler: Sampler, plan: MeasurementPlan, steps: int, on_images: Callable[[int], None]
) -> tuple[list[np.ndarray], list[Prompt]]:
    """Generate ``plan.samples`` images of the prompts in turn, with seeds 0, 1, 2, ...

    ``on_images`` is called with the number of finished images.
    """
    prompts = [plan.prompts[seed % len(plan.prompts)] for seed in range(plan.samples)]
    images: list[np.ndarray] = []
    for first in range(0, plan.samples, BATCH):
        conditions = [backend.encode(prompt) for prompt in prompts[first : first + BATCH]]
        trajectories = [sampler.start(backend.noise(first + row), steps) for row in range(len(conditions))]
        for _ in range(steps):
            advance_batch(backend, sampler, trajectories, conditions)
        images += backend.decode([trajectory.sample for trajectory in trajectories])
        on_images(len(images))
    return images, prompts
