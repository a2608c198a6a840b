"""`edgebrush generate`: generate an image, or a sheet of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .models import (
    DeviceOption,
    DtypeOption,
    GuidanceOption,
    PipelineOption,
    SamplerOption,
    open_model,
    open_pipeline,
)

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend
    from edgebrush.diffusion.pipelines import PipelineBackend

MAX_STEPS = 1000
BATCH = 8  # images in the batch of a pipeline: more gain little
EPILOG = """\
edgebrush generate --model heavy --class sneaker --steps 10 --out sneaker.png

edgebrush generate --model light --class all --steps 4 --count 8 --out sheet.png    one row per class

edgebrush generate --pipeline ~/stable-diffusion-v1-5 --device cuda --prompt "a red fox" --steps 20 --out fox.png
"""


def generate(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The image (.png).")],
    model: Annotated[str, typer.Option(help="light, heavy, or a model folder.")] = "heavy",
    content: Annotated[str, typer.Option("--class", help="Class of the image, or `all`; with --model.")] = "all",
    pipeline: PipelineOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    prompts: Annotated[
        list[str], typer.Option("--prompt", help="What the image shows; with --pipeline; repeatable, one row each.")
    ] = [],  # noqa: B006
    negative: Annotated[str, typer.Option(help="What the image must not show.")] = "",
    guidance: GuidanceOption = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Size in pixels.", show_default="the model's own")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=MAX_STEPS, help="Denoising steps.")] = 10,
    count: Annotated[int, typer.Option(min=1, max=100, help="Images per class, side by side.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the first image; the next images use the next seeds.")
    ] = 0,
    sampler: SamplerOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="CPU threads of a pipeline.", show_default="all cores")
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=32,
            help="Enlargement: output pixels per image pixel, in each direction.",
            show_default="4, 1 with --pipeline",
        ),
    ] = None,
) -> None:
    """Generate images: of a class with a shipped model or one like it, of a text with a diffusers pipeline."""
    import os
    import time

    import numpy as np

    from edgebrush.diffusion.backend import Prompt, parse_size
    from edgebrush.diffusion.engine import Engine, Request
    from edgebrush.diffusion.images import save_image
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable

    from .console import progress_bars

    if out.suffix.lower() != ".png":
        raise UserError(f"out = {str(out)!r}: must end in .png")
    if pipeline and not prompts:
        raise UserError("prompt: missing; state what the image shows, for example --prompt 'a red fox'")
    if prompts and not pipeline:
        raise UserError("prompt: only pipelines have one; give --pipeline, or --class")
    backend: Backend
    if pipeline is None:
        backend = open_model(model, device, dtype, threads=1, guidance=guidance)
        texts, batch = list(backend.classes) if content == "all" else [content], count
    else:
        backend = open_pipeline(pipeline, device, dtype, threads or os.cpu_count() or 1, guidance)
        texts = prompts
        batch = fitting_batch(backend, min(BATCH, len(texts) * count))
    engine = Engine(backend, make_sampler(sampler, backend), batch, len(texts) * count, MAX_STEPS)
    pixels = parse_size(size) if size else None
    jobs = [
        engine.submit(Request(Prompt(text, negative), steps, seed + n, size=pixels))
        for text in texts
        for n in range(count)
    ]
    check_writable(out.parent)
    started = time.perf_counter()
    with progress_bars() as progress:
        while engine.round():
            done = sum(job.steps_done for job in jobs) / (steps * len(jobs))
            progress(f"{backend.name}, {steps} steps", done, "")
    seconds = time.perf_counter() - started
    if failed := next((job for job in jobs if job.image is None), None):
        raise UserError(f"image {failed.number + 1}: {failed.error}")
    rows = [np.concatenate([job.image for job in jobs[n : n + count]], axis=1) for n in range(0, len(jobs), count)]
    enlargement = scale or (4 if pipeline is None else 1)
    sheet = np.concatenate(rows).repeat(enlargement, axis=0).repeat(enlargement, axis=1)
    save_image(sheet, out)
    typer.echo(f"{len(jobs)} images in {seconds:.2f} s: {out}")


def fitting_batch(backend: PipelineBackend, most: int) -> int:
    """Return the largest batch, at most ``most``, that the device's memory holds."""
    from edgebrush.diffusion.warm_up import warm_up

    return warm_up(backend, most, cuda_graphs=False).batch_limit
