"""`edgebrush generate`: generate an image, or a sheet of images, with a GDM on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MAX_STEPS = 1000
EPILOG = """\
edgebrush generate --model heavy --class sneaker --steps 10 --out sneaker.png

edgebrush generate --model light --class all --steps 4 --count 8 --out sheet.png    one row per class
"""


def generate(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The image (.png).")],
    model: Annotated[str, typer.Option(help="light, heavy, or a model folder.")] = "heavy",
    content: Annotated[str, typer.Option("--class", help="Class of the image, or `all`.")] = "all",
    steps: Annotated[int, typer.Option(min=1, max=MAX_STEPS, help="Denoising steps.")] = 10,
    count: Annotated[int, typer.Option(min=1, max=100, help="Images per class, side by side.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the first image; the next images use the next seeds.")
    ] = 0,
    sampler: Annotated[str, typer.Option(help="euler or multistep.")] = "euler",
    scale: Annotated[
        int, typer.Option(min=1, max=32, help="Enlargement: output pixels per image pixel, in each direction.")
    ] = 4,
) -> None:
    """Generate class-conditional images with a GDM on ONNX Runtime."""
    import numpy as np

    from edgebrush.diffusion.backend import Prompt
    from edgebrush.diffusion.engine import Engine, Request
    from edgebrush.diffusion.images import save_image
    from edgebrush.diffusion.onnx import load_model
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable

    from .console import progress_bars

    if out.suffix.lower() != ".png":
        raise UserError(f"out = {str(out)!r}: must end in .png")
    backend = load_model(model)
    classes = backend.classes if content == "all" else (content,)
    engine = Engine(backend, make_sampler(sampler, backend), count, len(classes) * count, MAX_STEPS)
    jobs = [engine.submit(Request(Prompt(name), steps, seed + n)) for name in classes for n in range(count)]
    check_writable(out.parent)
    with progress_bars() as progress:
        while engine.round():
            done = sum(job.steps_done for job in jobs) / (steps * len(jobs))
            progress(f"{backend.name}, {steps} steps", done, "")
    rows = [np.concatenate([job.image for job in jobs[n : n + count]], axis=1) for n in range(0, len(jobs), count)]
    sheet = np.concatenate(rows).repeat(scale, axis=0).repeat(scale, axis=1)
    save_image(sheet, out)
    seconds = sum(job.compute_s for job in jobs) / count
    typer.echo(f"{len(jobs)} images in {seconds:.2f} s: {out}")
