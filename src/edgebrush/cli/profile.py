"""`edgebrush profile`: measure a GDM on this machine and write a profile for scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .models import (
    Device,
    DeviceOption,
    Dtype,
    DtypeOption,
    GuidanceOption,
    SamplerOption,
    import_torch,
    open_model,
    open_pipeline,
)
from .options import parse_list
from .profile_quality import (
    ClipOption,
    InceptionOption,
    QualityFromOption,
    QualityOption,
    ReferenceOption,
    ScorerOption,
    check_options,
    find_scorer,
)

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend, Prompt
    from edgebrush.profiling.measure import MeasurementPlan

EPILOG = """\
edgebrush profile light --role light --watts 15 --out light.json

edgebrush profile heavy --watts 65 --out heavy.json --beside light.json    one figure of both

edgebrush profile --pipeline ~/stable-diffusion-v1-5 --device cuda --prompts prompts.txt --quality clip-score
--clip ~/clip-vit-large-patch14 --samples 500 --out sd15.json

edgebrush profile --shape sdxl --device cuda --quality-from sdxl-a100 --out sdxl.json
"""


def profile(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The profile (.json); its other files go beside it.")],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A shipped model (light, heavy), or the folder of one.")
    ] = None,
    pipeline: Annotated[
        Path | None,
        typer.Option("--pipeline", metavar="FOLDER", help="Measure this diffusers pipeline on disk instead."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Measure only the cost, of a pipeline with random weights: sd15, sdxl, dit-xl."
        ),
    ] = None,
    role: Annotated[
        Literal["light", "heavy"], typer.Option(help="light: for UEs (one task at a time); heavy: for BSs.")
    ] = "heavy",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
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
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One prompt per line.", show_default="the model's classes in turn"),
    ] = None,
    guidance: GuidanceOption = None,
    quality: QualityOption = None,
    clip: ClipOption = None,
    inception: InceptionOption = None,
    reference: ReferenceOption = None,
    scorer: ScorerOption = None,
    quality_from: QualityFromOption = None,
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
    if sum(each is not None for each in (model, pipeline, shape)) != 1:
        raise UserError("model: give one of MODEL (light, heavy, or a folder), --pipeline FOLDER and --shape NAME")
    files = {"clip": clip, "inception": inception, "reference": reference}
    given_files = {name: path for name, path in files.items() if path is not None}
    check_options(quality, scorer, quality_from, given_files, has_weights=shape is None)
    others = [load_measured(path) for path in beside or []]
    copied = load_profile(quality_from) if quality_from else None
    meter = find_meter(device, watts)
    loaded, content = load_backend(model, pipeline, shape, device, dtype, threads, guidance)
    plan = MeasurementPlan(
        read_prompts(loaded, shape is not None, prompts),
        parse_list("steps", steps),
        samples,
        parse_list("batches", batches),
    )
    for prompt in plan.prompts:
        loaded.check(prompt)
    chosen_sampler = make_sampler(sampler, loaded)
    quality_source = copied or find_scorer(quality, scorer, given_files, loaded, device, threads)
    hardware = describe_hardware(device, threads)
    if model is None:
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


def load_backend(
    model: str | None,
    pipeline: Path | None,
    shape: str | None,
    device: Device,
    dtype: Dtype | None,
    threads: int,
    guidance: float | None,
) -> tuple[Backend, str]:
    """Return the model, and what its measurements depend on: its contents, number type. Raises ``UserError``."""
    from edgebrush.diffusion.onnx import WEIGHTS, shipped_models
    from edgebrush.errors import UserError
    from edgebrush.profiling.measure import fingerprint

    if model is not None:
        folder = WEIGHTS / model if model in shipped_models() else Path(model)
        return open_model(model, device, dtype, threads, guidance), fingerprint(folder)
    if pipeline is not None:
        return open_pipeline(pipeline, device, dtype, threads, guidance), f"{fingerprint(pipeline)} {dtype}"
    if dtype is not None:
        raise UserError(f"dtype = {dtype}: a shape has that of its family on the device; leave it out")
    import_torch("shape", device, threads)
    from edgebrush.diffusion.shapes import build_shape

    backend = build_shape(shape or "", device)
    if guidance is not None:
        backend.guidance = guidance
    return backend, f"shape {shape}"


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


def read_prompts(backend: Backend, is_shape: bool, file: Path | None) -> tuple[Prompt, ...]:
    """Return the lines of the file, or else the model's classes; a shape has its own prompt. Raises ``UserError``."""
    from edgebrush.diffusion.backend import Prompt
    from edgebrush.errors import UserError

    if is_shape:
        from edgebrush.diffusion.shapes import shape_prompt

        return (shape_prompt(),)
    if file is None:
        classes = getattr(backend, "classes", None)
        if not classes:
            raise UserError(
                f"prompts: missing; {backend.name} generates from text; give a file with one prompt per line"
            )
        return tuple(Prompt(name) for name in classes)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompts = {str(file)!r}: cannot be read: {error}; give a text file in UTF-8") from None
    if not any(lines):
        raise UserError(f"prompts = {str(file)!r}: the file is empty; write one prompt per line")
    return tuple(Prompt(line) for line in lines if line)
