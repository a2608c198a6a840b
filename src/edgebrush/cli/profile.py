"""`edgebrush profile`: measure a GDM on this machine and write a profile for scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .models import Device, SamplerOption, import_torch
from .options import parse_list

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend, Prompt
    from edgebrush.profiling.measure import MeasurementPlan
    from edgebrush.profiling.quality_curve import NamedScorer

EPILOG = """\
edgebrush profile light --role light --watts 15 --out light.json

edgebrush profile heavy --watts 65 --out heavy.json --beside light.json    one figure of both

edgebrush profile ~/stable-diffusion-v1-5 --backend diffusers --device cuda --prompts prompts.txt --scorer mine:Clip
--samples 500 --out sd15.json

edgebrush profile sdxl --backend shape --device cuda --quality-from sdxl-a100 --out sdxl.json
"""


def profile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A shipped model (light, heavy), a folder, or the name of a shape (--backend shape)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The profile (.json); its other files go beside it.")],
    role: Annotated[
        Literal["light", "heavy"], typer.Option(help="light: for UEs (one task at a time); heavy: for BSs.")
    ] = "heavy",
    backend: Annotated[
        Literal["onnx", "diffusers", "shape"],
        typer.Option(help="onnx, diffusers, or shape: a pipeline with random weights, to measure only its cost."),
    ] = "onnx",
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads per evaluation.")] = 1,
    sampler: SamplerOption = None,
    steps: Annotated[
        str, typer.Option(metavar="LIST", help="Step counts at which to measure the quality.")
    ] = "1,2,4,6,8,10,15,20,30,50",
    samples: Annotated[int, typer.Option(min=1, help="Images per step count.")] = 2000,
    batches: Annotated[str, typer.Option(metavar="LIST", help="Batch sizes to time.")] = "1,2,3,4,6,8,12,16",
    watts: Annotated[
        float | None,
        typer.Option(min=0.0, help="Power of the device while computing; required if no energy counter is readable."),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(metavar="MODULE:CLASS", help="Your own scorer of images instead of the built-in one.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One prompt per line.", show_default="the model's classes in turn"),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Classifier-free guidance; above 1, a step evaluates the network twice.",
            show_default="that of the pipeline's own call",
        ),
    ] = None,
    quality_from: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Measure only the cost; copy the quality from this profile.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Measured profiles to draw in the same figure.")
    ] = None,
) -> None:
    """Measure a model: seconds and joules per round against batch, quality against steps; write a profile.

    Writes FILE, a .csv of the measured points, a .png of the curves, and sample images. After an interruption, the
    same command resumes.
    """
    from edgebrush.diffusion.samplers import make_sampler
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable
    from edgebrush.profiles.catalogue import load_profile
    from edgebrush.profiling.measure import MeasurementPlan, WorkFolder
    from edgebrush.profiling.meters import find_meter
    from edgebrush.profiling.plot import save_measurement_figure
    from edgebrush.profiling.profile_writer import (
        describe_hardware,
        fit_warnings,
        load_measured,
        measure_profile,
        save_measured,
    )

    from .console import progress_bars

    if out.suffix != ".json":
        raise UserError(f"out = {str(out)!r}: must end in .json")
    if backend == "shape" and quality_from is None:
        raise UserError("quality-from: missing; random weights have no quality; give a published profile")
    others = [load_measured(path) for path in beside or []]
    copied = load_profile(quality_from) if quality_from else None
    meter = find_meter(device, watts)
    loaded, content = load_backend(model, backend, device, threads)
    plan = MeasurementPlan(
        read_prompts(loaded, backend == "shape", prompts, loaded.guidance if guidance is None else guidance),
        parse_list("steps", steps),
        samples,
        parse_list("batches", batches),
    )
    for prompt in plan.prompts:
        loaded.check(prompt)
    chosen_sampler = make_sampler(sampler, loaded)
    quality_source = copied or find_scorer(scorer)
    hardware = describe_hardware(device, threads)
    if backend != "onnx":
        warm_up_for(plan, loaded)
    check_writable(out.parent)
    work = WorkFolder(out.with_suffix(".work"), {"model": content, "hardware": hardware})
    with progress_bars() as progress:
        measured = measure_profile(
            loaded,
            chosen_sampler,
            plan,
            meter,
            work,
            progress,
            role=role,
            name=out.stem,
            hardware=hardware,
            quality_from=quality_source,
        )
    written = save_measured(measured, out)
    save_measurement_figure([*others, measured], out.with_suffix(".png"))
    work.clear()
    for warning in fit_warnings(measured.profile):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo("profile: " + ", ".join(map(str, [*written, out.with_suffix(".png")])))


def load_backend(model: str, backend: str, device: Device, threads: int) -> tuple[Backend, str]:
    """Return the model, and a fingerprint of its contents. Raises ``UserError``."""
    from edgebrush.diffusion.onnx import WEIGHTS, load_model, shipped_models
    from edgebrush.errors import UserError
    from edgebrush.profiling.measure import fingerprint

    if device == "cuda" and backend == "onnx":
        raise UserError(
            "device = 'cuda': the onnx backend runs on the CPU only; use --backend diffusers or --device cpu"
        )
    if backend == "onnx":
        folder = WEIGHTS / model if model in shipped_models() else Path(model)
        return load_model(model, threads), fingerprint(folder)
    import_torch("backend", device, threads)
    if backend == "diffusers":
        from edgebrush.diffusion.pipelines import load_pipeline

        return load_pipeline(model, device), fingerprint(Path(model))
    from edgebrush.diffusion.shapes import build_shape

    return build_shape(model, device), f"shape {model}"


def warm_up_for(plan: MeasurementPlan, backend: Backend) -> None:
    """Capture CUDA graphs, as `edgebrush serve` does. Raises ``UserError`` if the largest batch does not fit."""
    from edgebrush.diffusion.pipelines import PipelineBackend
    from edgebrush.diffusion.warm_up import warm_up
    from edgebrush.errors import UserError

    assert isinstance(backend, PipelineBackend)
    fitting = warm_up(backend, max(plan.batches)).batch_limit
    if fitting < max(plan.batches):
        raise UserError(
            f"batches = {plan.batches}: the GPU's memory holds at most {fitting} images; leave larger ones out"
        )


def read_prompts(backend: Backend, shape: bool, file: Path | None, guidance: float) -> tuple[Prompt, ...]:
    """Return the lines of the file, or else the model's classes; a shape has its own prompt. Raises ``UserError``."""
    from edgebrush.diffusion.backend import Prompt
    from edgebrush.errors import UserError

    if shape:
        from edgebrush.diffusion.shapes import shape_prompt

        return (shape_prompt(guidance),)
    if file is None:
        classes = getattr(backend, "classes", None)
        if not classes:
            raise UserError(
                f"prompts: missing; {backend.name} generates from text; give a file with one prompt per line"
            )
        return tuple(Prompt(name, guidance=guidance) for name in classes)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompts = {str(file)!r}: cannot be read: {error}; give a text file in UTF-8") from None
    if not any(lines):
        raise UserError(f"prompts = {str(file)!r}: the file is empty; write one prompt per line")
    return tuple(Prompt(line, guidance=guidance) for line in lines if line)


def find_scorer(name: str | None) -> NamedScorer:
    """Return the user's scorer, or the built-in one. Raises ``UserError``."""
    from edgebrush.profiling.measure import fingerprint
    from edgebrush.profiling.quality import CLASSIFIER, ClassifierScorer, load_scorer
    from edgebrush.profiling.quality_curve import NamedScorer

    if name is not None:
        return NamedScorer(load_scorer(name), name)
    scorer = ClassifierScorer(CLASSIFIER)
    scale = f"Q = F / (F + Fréchet distance), F = {scorer.reference.half_distance:.4g}"
    return NamedScorer(scorer, f"the built-in classifier {fingerprint(CLASSIFIER)[:8]} ({scale})")
