"""Tests of the diffusion room use one PyTorch thread and share a tiny model."""

from contextlib import suppress

from tests.support.models import tiny, tiny_folder  # noqa: F401  # fixtures

with suppress(ImportError):
    import torch

    torch.set_num_threads(1)  # spinning barriers stall where another job has the cores
