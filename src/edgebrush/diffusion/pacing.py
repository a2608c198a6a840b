"""A backend whose rounds are timed and, under a pace, last as long as on slower hardware."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgebrush.profiles.schema import Compute

from .backend import Backend, Prompt

CATCH_UP_S = 0.010  # a part that begins no later than this after the last one's end is taken to follow on it


class PacedBackend:
    """A backend that takes ``compute``'s seconds over ``speed`` for each part, as the simulator's BS does.

    Without a speed it is as fast as the machine. What sleeping, sampling and switching threads take between two parts
    is made up for in the next one, so that nothing adds up over a batch. ``on_round`` is told each round's seconds.
    """

    def __init__(self, backend: Backend, compute: Compute, speed: float | None, on_round: Callable[[float], None]):
        self.backend, self.compute, self.speed, self.on_round = backend, compute, speed, on_round
        self.name, self.prediction, self.shape = backend.name, backend.prediction, backend.shape
        self.alphas_cumprod, self.shift = backend.alphas_cumprod, backend.shift
        self.batch = 0  # tasks in the last round
        self.due = 0.0

    def check(self, prompt: Prompt) -> None:
        self.backend.check(prompt)

    def encode(self, prompt: Prompt) -> Any:
        began = time.perf_counter()
        condition = self.backend.encode(prompt)
        self.wait(began, self.compute.encode_s)
        return condition

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> Iterable[Any]:
        began = time.perf_counter()
        self.batch = len(conditions)
        predictions = self.backend.predict(samples, times, conditions)
        self.wait(began, float(self.compute.round_s(self.batch)))
        self.on_round(time.perf_counter() - began)
        return predictions

    def decode(self, sample: Any) -> np.ndarray:
        began = time.perf_counter()
        image = self.backend.decode(sample)
        self.wait(began, self.compute.decode_s)
        return image

    def noise(self, seed: int) -> Any:
        return self.backend.noise(seed)

    def wait(self, began: float, seconds: float) -> None:
        """Sleep until a part that began then has taken its time."""
        if self.speed is None:
            return
        start = self.due if began - self.due < CATCH_UP_S else began
        self.due = start + seconds / self.speed
        time.sleep(max(0.0, self.due - time.perf_counter()))
