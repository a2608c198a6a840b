"""`edgebrush profile`: measure a GDM on this machine and write the profile that a scenario can name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend, Prompt
    from edgebrush.profiling.quality import Scorer

EPILOG = """\
edgebrush profile light --role light --watts 15 --out light.json

edgebrush profile heavy --watts 65 --out heavy.json --beside light.json    one picture of both

edgebrush profile ~/stable-diffusion-v1-5 --backend diffusers --device cuda --prompts prompts.txt --scorer mine:Clip
--samples 500 --out sd15.json

edgebrush profile sdxl --backend shape --device cuda --guidance 7.5 --quality-from sdxl-a100 --out sdxl.json    random
weights
"""
DEFAULT_SAMPLERS = {"velocity": "euler", "noise": "dpm-solver++"}


def profile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A shipped model (light, heavy), a folder, or with --backend shape a shape's name."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the profile goes (.json); the rest lies beside it.")],
    role: Annotated[Literal["light", "heavy"], typer.Option(help="For UEs (one task at a time) or for BSs.")] = "heavy",
    backend: Annotated[
        Literal["onnx", "diffusers", "shape"],
        typer.Option(help="What runs it; shape: a pipeline's shape with random weights, for its cost alone."),
    ] = "onnx",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it runs.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the processor, for one evaluation.")] = 1,
    sampler: Annotated[
        str | None, typer.Option(help="euler or multistep for flows, ddim or dpm-solver++ for noise predictors.")
    ] = None,
    steps: Annotated[
        str, typer.Option(metavar="LIST", help="Step counts to judge the quality at.")
    ] = "1,2,4,6,8,10,15,20,30,50",
    samples: Annotated[int, typer.Option(min=1, help="Images judged per step count.")] = 2000,
    batches: Annotated[str, typer.Option(metavar="LIST", help="Batch sizes to time.")] = "1,2,4,8,16",
    watts: Annotated[
        float | None, typer.Option(min=0.0, help="What the device draws; needed where no counter can be read.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(metavar="MODULE:CLASS", help="Your own judge of images instead of the built-in one.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One prompt a line; default: the model's classes in turn.")
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(min=1.0, help="Of classifier-free guidance, for text; above 1 a step runs the network twice."),
    ] = 1.0,
    quality_from: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Measure the cost alone; take the quality from there.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Measured profiles to draw in the same picture.")
    ] = None,
) -> None:
    """Measure a model: seconds and joules per round against batch, quality against steps; write a profile.

    Writes FILE, a .csv of the measured points, a .png of the curves, and sample images. Can be interrupted: the same
    command goes on where it stopped.
    """
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable
    from edgebrush.profiles.catalogue import load_profile
    from edgebrush.profiling.measure import Plan, Work, describe_hardware, load_measured, measure, save_measured
    from edgebrush.profiling.meters import find_meter
    from edgebrush.profiling.plot import save_measurement_figure

    from .console import progress_bars

    if out.suffix != ".json":
        raise UserError(f"out = {str(out)!r}: must end in .json")
    if backend == "shape" and quality_from is None:
        raise UserError("quality-from: random weights have no quality; name a published profile of that shape")
    others = [load_measured(path) for path in beside or []]
    borrowed = load_profile(quality_from) if quality_from else None
    meter = find_meter(device, watts)
    run, content = load(model, backend, device, threads)
    plan = Plan(
        asked_prompts(run, backend == "shape", prompts, guidance),
        whole_numbers("steps", steps),
        samples,
        whole_numbers("batches", batches),
    )
    for prompt in plan.prompts:
        run.check(prompt)
    moves = make_sampler(sampler or DEFAULT_SAMPLERS[run.prediction], run)
    judge, judge_name = (None, "") if borrowed else find_scorer(scorer)
    hardware = describe_hardware(device, threads)
    check_writable(out.parent)
    work = Work(out.with_suffix(".work"), {"model": content, "hardware": hardware})
    with progress_bars() as progress:
        measured = measure(
            run,
            moves,
            plan,
            meter,
            work,
            progress,
            role=role,
            name=out.stem,
            hardware=hardware,
            scorer=judge,
            scorer_name=judge_name,
            borrowed=borrowed,
        )
    written = save_measured(measured, out)
    save_measurement_figure([*others, measured], out.with_suffix(".png"))
    work.clear()
    typer.echo("profile: " + ", ".join(map(str, [*written, out.with_suffix(".png")])))


def load(model: str, backend: str, device: str, threads: int) -> tuple[Backend, str]:
    """The model, and a fingerprint of its contents."""
    from edgebrush.diffusion.onnx import WEIGHTS, load_model, shipped_models
    from edgebrush.errors import UserError
    from edgebrush.profiling.measure import fingerprint

    if device == "cuda" and backend == "onnx":
        raise UserError(
            "device = 'cuda': the onnx backend runs on the processor; take --backend diffusers or --device cpu"
        )
    if backend == "onnx":
        folder = WEIGHTS / model if model in shipped_models() else Path(model)
        return load_model(model, threads), fingerprint(folder)
    import_torch(device, threads)
    if backend == "diffusers":
        from edgebrush.diffusion.pipelines import load_pipeline

        return load_pipeline(model, device), fingerprint(Path(model))
    from edgebrush.diffusion.shapes import build_shape

    return build_shape(model, device), f"shape {model}"


def import_torch(device: str, threads: int) -> None:
    from edgebrush.errors import UserError

    try:
        import diffusers  # noqa: F401
        import torch
    except ImportError:
        raise UserError("backend: needs torch and diffusers; `pip install edgebrush[diffusers]`") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device = 'cuda': torch finds no GPU here; take --device cpu")
    torch.set_num_threads(threads)


def asked_prompts(backend: Backend, shape: bool, file: Path | None, guidance: float) -> tuple[Prompt, ...]:
    """The file's lines, or else the classes that the model knows; a shape has a prompt of its own."""
    from edgebrush.diffusion.backend import Prompt
    from edgebrush.errors import UserError

    if shape:
        from edgebrush.diffusion.shapes import shape_prompt

        return (shape_prompt(guidance),)
    if file is None:
        classes = getattr(backend, "classes", None)
        if not classes:
            raise UserError(f"prompts: {backend.name} draws what a text says; give a file with one prompt a line")
        return tuple(Prompt(name) for name in classes)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompts = {str(file)!r}: cannot be read: {error}") from None
    if not any(lines):
        raise UserError(f"prompts = {str(file)!r}: is empty; give one prompt a line")
    return tuple(Prompt(line, guidance=guidance) for line in lines if line)


def find_scorer(name: str | None) -> tuple[Scorer, str]:
    """The user's scorer or the built-in one, and what a kept score depends on."""
    from edgebrush.profiling.measure import fingerprint
    from edgebrush.profiling.quality import CLASSIFIER, ClassifierScorer, load_scorer

    if name is not None:
        return load_scorer(name), name
    judge = ClassifierScorer(CLASSIFIER)
    scale = f"Q = F / (F + Fréchet distance), F = {judge.reference.half_distance:.4g}"
    return judge, f"the built-in classifier {fingerprint(CLASSIFIER)[:8]} ({scale})"


def whole_numbers(field: str, text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers, ascending."""
    from edgebrush.errors import UserError

    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"{field} = {text!r}: must be whole numbers with commas between, 1,2,4 say") from None
