"""`edgebrush gdm`: train a small diffusion model, or the classifier that judges them; straighten a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Literal["light", "heavy", "classifier"]

app = typer.Typer(help="Train the generative diffusion models (GDMs) that ship with the package, or your own.")


@app.callback()
def gdm() -> None:
    pass


Out = Annotated[Path, typer.Option(metavar="DIR", help="model.onnx, model.json, training.csv and the checkpoint.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31)]
Threads = Annotated[int, typer.Option(min=1, max=256)]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Multiply in bf16: faster where the processor has it, slower where not.")
]


@app.command(
    epilog="edgebrush gdm train light --out gdm/light    as the shipped one was; docs/gdm.md has the three commands\n\n"
    "edgebrush gdm train heavy --data my-pngs --images 400000 --out gdm/mine\n\n"
    "edgebrush generate --model gdm/mine --class cat --steps 10 --out cat.png"
)
def train(
    model: Annotated[Model, typer.Argument(help="light: for UEs; heavy: for BSs; classifier: judges their images.")],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="MNIST files, or PNGs in class folders.", show_default="Debian's dataset-fashion-mnist"
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=6400, max=1_000_000_000, help="Training images seen in all; may change on resuming.")
    ] = 600_000,
    step_size: Annotated[float, typer.Option(min=1e-6, max=0.1, help="Of AdamW.")] = 2e-3,
    seed: Seed = 1,
    threads: Threads = 1,
    bf16: Bf16 = False,
) -> None:
    """Train by rectified flow; run it again to go on from its last checkpoint."""
    from edgebrush.diffusion.training.data import FASHION_MNIST, load_images
    from edgebrush.files import check_writable

    from .console import progress_bars

    check_writable(out.parent)
    source = data or FASHION_MNIST
    image_set = load_images(source)
    with_torch(threads)
    from edgebrush.diffusion.training.train import Settings
    from edgebrush.diffusion.training.train import train as run
    from edgebrush.profiling.quality import write_reference

    settings = Settings(images, step_size=step_size, seed=seed, bf16=bf16)
    with progress_bars() as progress:
        run(model, image_set, out, settings, lambda share, note: progress(f"training {model}", share, note))
        if model == "classifier":
            progress("looking at real images", 0.0, "")
            write_reference(image_set, load_images(source, "test"), out)
            progress("looking at real images", 1.0, "")
    typer.echo(f"model: {out / 'model.onnx'}")


@app.command(epilog="edgebrush gdm reflow gdm/heavy --bf16 --out gdm/heavy-straight    as the shipped one was")
def reflow(
    teacher: Annotated[Path, typer.Argument(metavar="DIR", help="Where `edgebrush gdm train` left a light or heavy.")],
    out: Out,
    pairs: Annotated[
        int, typer.Option(min=500, max=1_000_000, help="Of noise and image, which it makes first.")
    ] = 30_000,
    images: Annotated[int, typer.Option(min=6400, max=1_000_000_000, help="Pairs seen in all.")] = 200_000,
    step_size: Annotated[float, typer.Option(min=1e-6, max=0.1, help="Of AdamW.")] = 5e-4,
    seed: Seed = 1,
    threads: Threads = 1,
    bf16: Bf16 = False,
) -> None:
    """Straighten a trained flow, so that few steps draw well; run it again to go on where it stopped."""
    from edgebrush.files import check_writable

    from .console import progress_bars

    check_writable(out.parent)
    with_torch(threads)
    from edgebrush.diffusion.training.reflow import reflow as run
    from edgebrush.diffusion.training.train import Settings

    settings = Settings(images, step_size=step_size, seed=seed, bf16=bf16, pairs=pairs)
    with progress_bars() as progress:
        run(teacher, out, settings, lambda share, note: progress("straightening", share, note))
    typer.echo(f"model: {out / 'model.onnx'}")


def with_torch(threads: int) -> None:
    """Set PyTorch's threads. Raises ``UserError`` where it or diffusers is not installed."""
    from edgebrush.errors import UserError

    try:
        import diffusers  # noqa: F401
        import torch
    except ImportError:
        raise UserError("training needs PyTorch and diffusers: pip install 'edgebrush[diffusers]'") from None
    torch.set_num_threads(threads)
