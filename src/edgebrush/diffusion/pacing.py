"""A backend that takes as long as slower hardware: each part lasts the seconds that a profile gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgebrush.profiles.schema import Compute

from .backend import Backend, Prompt, Size

CATCH_UP_S = 0.010  # a part that starts within this time after the previous one counts as its continuation


class PacedBackend:
    """Wraps a backend so that each part lasts ``compute``'s seconds divided by ``speed``, as at a simulated BS.

    ``speed=None`` means the full speed of the machine. Delays between two parts (late wake-ups, sampling, thread
    switches) are subtracted from the next part, so they do not accumulate over a batch. ``on_round`` is called with
    the seconds of each round.
    """

    def __init__(self, backend: Backend, compute: Compute, speed: float | None, on_round: Callable[[float], None]):
        self.backend, self.compute, self.speed, self.on_round = backend, compute, speed, on_round
        self.name, self.prediction, self.shape = backend.name, backend.prediction, backend.shape
        self.alphas_cumprod, self.shift, self.guidance = backend.alphas_cumprod, backend.shift, backend.guidance
        self.batch = 0  # size of the last round's batch
        self.due = 0.0  # when the last part was due to end

    def check(self, prompt: Prompt) -> None:
        """Check a prompt; this takes no time."""
        self.backend.check(prompt)

    def check_size(self, size: Size | None) -> None:
        """Check a size; this takes no time."""
        self.backend.check_size(size)

    def encode(self, prompt: Prompt) -> Any:
        """Encode a prompt in ``encode_s / speed`` seconds."""
        started = time.perf_counter()
        condition = self.backend.encode(prompt)
        self.pace(started, self.compute.encode_s)
        return condition

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> Iterable[Any]:
        """Evaluate the network in ``round_s(batch) / speed`` seconds."""
        started = time.perf_counter()
        self.batch = len(conditions)
        predictions = self.backend.predict(samples, times, conditions)
        self.backend.synchronize()
        self.pace(started, float(self.compute.round_s(self.batch)))
        self.on_round(time.perf_counter() - started)
        return predictions

    def decode(self, samples: Sequence[Any]) -> list[np.ndarray]:
        """Decode samples in ``decode_s / speed`` seconds each."""
        started = time.perf_counter()
        images = self.backend.decode(samples)
        self.pace(started, len(samples) * self.compute.decode_s)
        return images

    def noise(self, seed: int, size: Size | None = None) -> Any:
        """Draw the initial sample; this takes no time."""
        return self.backend.noise(seed, size)

    def synchronize(self) -> None:
        """Wait until the device has done its work."""
        self.backend.synchronize()

    def pace(self, started: float, seconds: float) -> None:
        """Sleep until the part that started at ``started`` has lasted ``seconds / speed``."""
        if self.speed is None:
            return
        start = self.due if started - self.due < CATCH_UP_S else started
        self.due = start + seconds / self.speed
        time.sleep(max(0.0, self.due - time.perf_counter()))
