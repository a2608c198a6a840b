"""CUDA graphs of a network: all of its kernels are launched at once instead of one by one from Python.

A GPU idles while Python launches the kernels of a small batch (about 1,150 in a round of SD 1.5), so a graph makes a
round of one image 2 to 3 times as fast; from about 16 rows on, it gains nothing. A graph has fixed shapes: there is one
for each number of rows in ``ROWS``, and a batch is padded to the next of them.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .pipeline_family import PipelineFamily, Row

ROWS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)  # evaluations of the network in one batch; an image with guidance has two


class Capture:
    """One captured graph, and the memory from which it reads and to which it writes."""

    def __init__(self, family: PipelineFamily, samples: Tensor, times: Tensor, rows: list[Row], pool: Any):
        self.samples, self.times, self.rows = samples, times, rows
        self.columns = family.columns(rows)
        aside = torch.cuda.Stream()  # kernels are compiled and chosen here, which a capture does not allow
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            family.predict(samples, times, self.columns)
            with no_waiting():
                family.predict(samples, times, self.columns)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.output = family.predict(samples, times, self.columns)

    def replay(self, samples: Tensor, times: Tensor, rows: list[Row]) -> Tensor:
        """Return the output for other inputs, as many as were captured."""
        self.samples.copy_(samples)
        self.times.copy_(times)
        if any(row is not last for row, last in zip(rows, self.rows, strict=True)):
            for place, column in zip(self.columns, zip(*rows, strict=True), strict=True):
                torch.stack(column, out=place)
            self.rows = rows
        self.graph.replay()
        return self.output


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise ``RuntimeError`` where an operation waits for the GPU.

    Such a network cannot be captured. It is found here, because a capture that fails leaves PyTorch's generator of
    random numbers in a state in which it cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class CudaGraphs:
    """The graphs of a network for latent samples of one shape, up to a number of rows."""

    @torch.no_grad()
    def __init__(self, family: PipelineFamily, sample: Tensor, row: Row, dtype: torch.dtype, most_rows: int):
        self.shape = sample.shape
        self.captures: dict[int, Capture] = {}
        pool = torch.cuda.graph_pool_handle()
        for count in reversed([each for each in ROWS if each < most_rows] + [min(padded(most_rows), ROWS[-1])]):
            samples = torch.stack([sample] * count).to(dtype)
            times = torch.zeros(count, device=sample.device)
            self.captures[count] = Capture(family, samples, times, [row] * count, pool)

    def fit(self, samples: Tensor) -> bool:
        """Return whether there is a graph for a batch."""
        return samples.shape[1:] == self.shape and len(samples) <= max(self.captures)

    def replay(self, samples: Tensor, times: Tensor, rows: list[Row]) -> Tensor:
        """Return the network's output for a batch that fits, in single precision."""
        count = len(samples)
        fill = padded(count) - count
        if fill:
            samples = torch.cat([samples, samples[:1].expand(fill, -1, -1, -1)])
            times = torch.cat([times, times[:1].expand(fill)])
        output = self.captures[count + fill].replay(samples, times, rows + rows[:1] * fill)
        return output[:count].to(torch.float32, copy=True)  # the next replay overwrites the output


def padded(count: int) -> int:
    """Return the number of rows to which a batch is padded, at most the last of ``ROWS``."""
    return ROWS[min(bisect_left(ROWS, count), len(ROWS) - 1)]
