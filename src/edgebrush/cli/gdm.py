"""`edgebrush gdm`: train a small diffusion model or the classifier that scores images; straighten a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .models import import_torch

Model = Literal["light", "heavy", "classifier"]

app = typer.Typer(help="Train the generative diffusion models (GDMs) that ship with the package, or your own.")


@app.callback()
def gdm() -> None:
    pass


Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Output folder: model.onnx, model.json, training.csv, checkpoint.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the training.")]
Threads = Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")]
StepSize = Annotated[float, typer.Option(min=1e-6, max=0.1, help="Learning rate of AdamW.")]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Multiply in bf16: faster if the CPU has bf16 instructions, slower if not.")
]


@app.command(
    epilog="edgebrush gdm train light --out gdm/light    docs/gdm.md has the commands of the shipped models\n\n"
    "edgebrush gdm train heavy --data my-pngs --images 400000 --out gdm/mine\n\n"
    "edgebrush generate --model gdm/mine --class cat --steps 10 --out cat.png"
)
def train(
    model: Annotated[Model, typer.Argument(help="light: for UEs; heavy: for BSs; classifier: scores their images.")],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data set: MNIST files, or a folder with a sub-folder of PNGs per class.",
            show_default="Debian's dataset-fashion-mnist",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=6400, max=1_000_000_000, help="Training images in total; may change on resuming.")
    ] = 600_000,
    step_size: StepSize = 2e-3,
    seed: Seed = 1,
    threads: Threads = 1,
    bf16: Bf16 = False,
) -> None:
    """Train by rectified flow. The same command resumes from the last checkpoint."""
    from edgebrush.diffusion.training.data import FASHION_MNIST, load_images
    from edgebrush.files import check_writable

    from .console import progress_bars

    check_writable(out.parent)
    source = data or FASHION_MNIST
    image_set = load_images(source)
    import_torch("training", "cpu", threads)
    from edgebrush.diffusion.training.checkpoint import TrainingSettings
    from edgebrush.diffusion.training.train import train as run_training
    from edgebrush.profiling.quality import write_reference

    settings = TrainingSettings(images, step_size=step_size, seed=seed, bf16=bf16)
    with progress_bars() as progress:
        run_training(model, image_set, out, settings, progress)
        if model == "classifier":
            progress("reference statistics", 0.0, "")
            write_reference(image_set, load_images(source, "test"), out)
            progress("reference statistics", 1.0, "")
    typer.echo(f"model: {out / 'model.onnx'}")


@app.command(
    epilog="edgebrush gdm reflow gdm/heavy --bf16 --out gdm/heavy-straight    the command of the shipped heavy model"
)
def reflow(
    teacher: Annotated[
        Path, typer.Argument(metavar="DIR", help="Output folder of `edgebrush gdm train light` or `heavy`.")
    ],
    out: Out,
    pairs: Annotated[
        int, typer.Option(min=500, max=1_000_000, help="Pairs of noise and image, generated first.")
    ] = 30_000,
    images: Annotated[
        int, typer.Option(min=6400, max=1_000_000_000, help="Training pairs in total, with repetition.")
    ] = 200_000,
    step_size: StepSize = 5e-4,
    seed: Seed = 1,
    threads: Threads = 1,
    bf16: Bf16 = False,
) -> None:
    """Straighten a trained flow (reflow), so that few steps give good images. The same command resumes."""
    from edgebrush.files import check_writable

    from .console import progress_bars

    check_writable(out.parent)
    import_torch("training", "cpu", threads)
    from edgebrush.diffusion.training.checkpoint import TrainingSettings
    from edgebrush.diffusion.training.reflow import reflow as run_reflow

    settings = TrainingSettings(images, step_size=step_size, seed=seed, bf16=bf16, pairs=pairs)
    with progress_bars() as progress:
        run_reflow(teacher, out, settings, progress)
    typer.echo(f"model: {out / 'model.onnx'}")
