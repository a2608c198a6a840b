"""Options and loading of models that several verbs share: shipped models, folders of one, diffusers pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from edgebrush.diffusion.onnx import OnnxBackend
    from edgebrush.diffusion.pipelines import PipelineBackend

Device = Literal["cpu", "cuda"]
Dtype = Literal["float16", "bfloat16", "float32"]

PipelineOption = Annotated[
    Path | None,
    typer.Option("--pipeline", metavar="FOLDER", help="Use this diffusers pipeline on disk instead of --model."),
]
DeviceOption = Annotated[
    Device, typer.Option(help="Where a pipeline runs; CUDA_VISIBLE_DEVICES chooses among several GPUs.")
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(
        help="Data type of a pipeline's network and text encoders.",
        show_default="float32 on a CPU; float16 on a GPU, or bfloat16 where float16 overflows",
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        help="Scale of classifier-free guidance of an image for which none is requested; 1 means none.",
        show_default="that of the pipeline's own call",
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        help="euler or multistep for flows, ddim or dpm-solver++ for noise predictors.",
        show_default="euler or dpm-solver++",
    ),
]


def open_pipeline(
    folder: Path, device: Device, dtype: Dtype | None, threads: int, guidance: float | None
) -> PipelineBackend:
    """Load a pipeline from a folder; ``guidance`` replaces its default. Raises ``UserError``."""
    import_torch("pipeline", device, threads)
    from edgebrush.diffusion.pipelines import load_pipeline

    backend = load_pipeline(folder, device, dtype)
    if guidance is not None:
        backend.guidance = guidance
    return backend


def open_model(
    model: str, device: Device, dtype: Dtype | None, threads: int, guidance: float | None = None
) -> OnnxBackend:
    """Load a shipped model or one like it. Raises ``UserError``, also for options that only a pipeline has."""
    from edgebrush.diffusion.onnx import load_model
    from edgebrush.errors import UserError

    if device != "cpu" or dtype is not None:
        raise UserError(f"device = {device!r}, dtype = {dtype!r}: only pipelines have a choice; give --pipeline")
    if guidance is not None:
        raise UserError(f"guidance = {guidance:g}: {model} was trained without guidance; give --pipeline")
    return load_model(model, threads)


def import_torch(field: str, device: Device, threads: int) -> None:
    """Set PyTorch's CPU threads. Raises ``UserError``, about ``field``, if PyTorch, diffusers or the GPU is missing."""
    from edgebrush.errors import UserError

    try:
        import diffusers
        import torch
        import transformers
    except ImportError:
        raise UserError(f"{field}: needs PyTorch and diffusers: pip install '.[diffusers]'") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device = 'cuda': PyTorch finds no GPU; use --device cpu")
    torch.set_num_threads(threads)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()  # they warn about formats that published pipelines have
        library.utils.logging.disable_progress_bar()
