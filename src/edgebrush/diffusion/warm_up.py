"""Prepare a pipeline for its first request: find the batch that the GPU's memory holds, and capture CUDA graphs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from edgebrush.errors import UserError

from .backend import Prompt
from .cuda_graphs import CudaGraphs
from .pipelines import DECODED_TOGETHER, Condition, PipelineBackend

GUIDANCE = 2.0  # of the trial: a batch needs the most memory if all of its images have guidance
GIB = 2**30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmUp:
    """The batch that fits, at most the wanted one, and how many CUDA graphs there are."""

    batch_limit: int
    graphs: int
    seconds: float
    memory_gib: float  # that PyTorch holds on the GPU; 0 on the CPU

    def __str__(self) -> str:
        graphs = f", {self.graphs} CUDA graphs" if self.graphs else ""
        memory = f", {self.memory_gib:.1f} GiB of the GPU's memory" if self.memory_gib else ""
        return f"batches of at most {self.batch_limit}{graphs}{memory}, warm-up {self.seconds:.1f} s"


def warm_up(backend: PipelineBackend, batch_limit: int, cuda_graphs: bool = True) -> WarmUp:
    """Run a batch once, so that the first request finds all kernels loaded.

    On a GPU, this also finds the largest batch, at most ``batch_limit``, that fits in the memory: by trying, with
    guidance and with the decoding. Raises ``UserError`` if not even one image fits.
    """
    started = time.perf_counter()
    condition = backend.encode(Prompt(backend.family.trial_text, guidance=GUIDANCE))
    if backend.on_gpu and cuda_graphs and backend.family.same_lengths:
        capture_graphs(backend, condition, batch_limit)
    if backend.on_gpu:
        fitting = largest_fitting(backend, condition, batch_limit)
        memory_gib = torch.cuda.memory_reserved() / GIB
    else:
        run_batch(backend, condition, 1)
        fitting, memory_gib = batch_limit, 0.0
    graphs = len(backend.graphs.captures) if backend.graphs else 0
    return WarmUp(fitting, graphs, time.perf_counter() - started, memory_gib)


def capture_graphs(backend: PipelineBackend, condition: Condition, batch_limit: int) -> None:
    """Capture the network for all batches. A network that cannot be captured runs without graphs, as the log says."""
    most_rows = batch_limit * (1 if condition.negative is None else 2)
    sample = backend.noise(0)
    try:
        backend.graphs = CudaGraphs(backend.family, sample, condition.positive, backend.dtype, most_rows)
    except RuntimeError as error:  # of CUDA: an operation that waits for the GPU, or too little memory
        first_line = str(error).splitlines()[0]
        log.warning("%s: no CUDA graphs, because the network cannot be captured: %s", backend.name, first_line)
    torch.cuda.empty_cache()


def largest_fitting(backend: PipelineBackend, condition: Condition, batch_limit: int) -> int:
    """Return the largest batch that fits in the memory, by bisection. Raises ``UserError`` if none does."""
    if fits(backend, condition, batch_limit):
        return batch_limit
    fitting, too_large = 0, batch_limit
    while too_large - fitting > 1:
        middle = (fitting + too_large) // 2
        if fits(backend, condition, middle):
            fitting = middle
        else:
            too_large = middle
    if fitting == 0:
        raise UserError(f"pipeline: {backend.name} does not fit in the memory of {backend.device}; use another GPU")
    return fitting


def fits(backend: PipelineBackend, condition: Condition, batch: int) -> bool:
    """Return whether a batch can be computed in the memory."""
    try:
        run_batch(backend, condition, batch)
        return True
    except torch.OutOfMemoryError:
        log.info("%s: a batch of %d does not fit in the memory", backend.name, batch)
    torch.cuda.empty_cache()  # only now, because the exception holds the tensors of the batch
    return False


def run_batch(backend: PipelineBackend, condition: Condition, batch: int) -> None:
    """Evaluate a batch without a graph, which needs the most memory, and decode as many images as in one go."""
    samples = [backend.noise(0)] * batch
    middle = 0.5 if backend.alphas_cumprod is None else len(backend.alphas_cumprod) // 2
    graphs, backend.graphs = backend.graphs, None
    try:
        backend.predict(samples, [middle] * batch, [condition] * batch)
    finally:
        backend.graphs = graphs
    backend.decode(samples[:DECODED_TOGETHER])
    backend.synchronize()
