"""How `edgebrush profile` finds the scorer of images that the options ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .models import Device, import_torch

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend
    from edgebrush.profiling.fid import FeatureExtractor
    from edgebrush.profiling.quality_curve import NamedScorer

Metric = Literal["clip-score", "fid", "clip-fid"]
NEEDS: dict[Metric, tuple[str, ...]] = {  # metric -> options
    "clip-score": ("clip",),
    "fid": ("inception", "reference"),
    "clip-fid": ("clip", "reference"),
}

QualityOption = Annotated[
    Metric | None,
    typer.Option(
        help="Score the images by CLIPScore, by FID, or by the Fréchet distance in CLIP's features.",
        show_default="the built-in classifier, for shipped models only",
    ),
]
ClipOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="CLIP in transformers' format, for --quality clip-score, clip-fid."),
]
InceptionOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Inception V3 for --quality fid: inception-2015-12-05.pt (TorchScript)."),
]
ReferenceOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Real images, for --quality fid and clip-fid.")
]
ScorerOption = Annotated[
    str | None, typer.Option(metavar="MODULE:CLASS", help="Score the images with a class of your own.")
]
QualityFromOption = Annotated[
    str | None, typer.Option(metavar="PROFILE", help="Measure only the cost; copy the quality from this profile.")
]


def check_options(
    metric: Metric | None, scorer: str | None, quality_from: str | None, files: dict[str, Path], has_weights: bool
) -> None:
    """Raise ``UserError`` if the options contradict each other, or do not say where the quality comes from.

    ``files`` are the given options of the metrics; ``has_weights`` is false for random weights.
    """
    from edgebrush.errors import UserError

    ways = {"--quality": metric, "--scorer": scorer, "--quality-from": quality_from}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"quality: {' and '.join(given)} are given; give one of them")
    if not has_weights and quality_from is None:
        raise UserError("quality-from: missing; random weights have no quality; give a published profile")
    needed = NEEDS[metric] if metric else ()
    if missing := next((name for name in needed if name not in files), None):
        raise UserError(f"{missing}: missing; --quality {metric} needs --{' and --'.join(needed)}")
    if useless := next((name for name in files if name not in needed), None):
        users = " or ".join(each for each, names in NEEDS.items() if useless in names)
        raise UserError(f"{useless}: only of use with --quality {users}; leave it out")


def find_scorer(
    metric: Metric | None, scorer: str | None, files: dict[str, Path], backend: Backend, device: Device, threads: int
) -> NamedScorer:
    """Return the metric's scorer, the user's own, or the built-in one. Raises ``UserError``."""
    from edgebrush.errors import UserError
    from edgebrush.profiling.measure import fingerprint
    from edgebrush.profiling.quality import CLASSIFIER, ClassifierScorer, load_scorer
    from edgebrush.profiling.quality_curve import NamedScorer

    if metric is not None:
        import_torch("quality", device, threads)
        return make_scorer(metric, files, backend, device)
    if scorer is not None:
        return NamedScorer(load_scorer(scorer), scorer)
    if not hasattr(backend, "classes"):
        raise UserError(
            f"quality: missing; {backend.name} is a pipeline; give --quality, --scorer, or --quality-from PROFILE"
        )
    classifier = ClassifierScorer(CLASSIFIER)
    scale = f"Q = F / (F + Fréchet distance), F = {classifier.reference.half_distance:.4g}"
    return NamedScorer(classifier, f"the built-in classifier {fingerprint(CLASSIFIER)[:8]} ({scale})")


def make_scorer(metric: Metric, files: dict[str, Path], backend: Backend, device: Device) -> NamedScorer:
    """Load the network and the real images of a metric. Raises ``UserError``."""
    from edgebrush.errors import UserError
    from edgebrush.profiling.image_files import read_images
    from edgebrush.profiling.quality_curve import NamedScorer

    try:
        from edgebrush.profiling.clip import Clip, ClipScorer
        from edgebrush.profiling.fid import FidScorer, Inception
    except ImportError:
        raise UserError("quality: needs torchmetrics: pip install '.[diffusers]'") from None
    if metric == "clip-score":
        scorer = ClipScorer(Clip(files["clip"], device))
        return NamedScorer(scorer, f"CLIPScore with CLIP {named(files['clip'])} (Q = CLIP-S = CLIPScore / 40)")
    height, width, *_ = backend.decode([backend.noise(0)])[0].shape
    real = read_images(files["reference"], (width, height))
    network: FeatureExtractor
    if metric == "fid":
        network, what = Inception(files["inception"], device), f"FID by Inception V3 {named(files['inception'])}"
    else:
        network = Clip(files["clip"], device)
        what = f"Fréchet distance of the image embeddings of CLIP {named(files['clip'])}"
    distance = FidScorer(network, real, metric.replace("-", "_"))
    scale = f"Q = F / (F + distance), F = {distance.half_distance:.4g}"
    return NamedScorer(distance, f"{what} to {len(real)} images of {named(files['reference'])} ({scale})")


def named(path: Path) -> str:
    """Return the name of a file or folder, and a digest of its contents, which shows when they change."""
    from edgebrush.profiling.measure import fingerprint

    return f"{path.resolve().name} {fingerprint(path)[:8]}"
