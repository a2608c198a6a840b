"""The gallery page: every image of a testbed run with its place, steps, delay and energy."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebrush.files import write_text
from edgebrush.journal.reader import read_image
from edgebrush.report.pages import fill
from edgebrush.scenario.expand import bs_names

from .episode import Episode
from .outcomes import task_id

GALLERY = "gallery.html"
PAGE_IMAGES = 30  # ten rows on a phone


@dataclass(frozen=True)
class GalleryImage:
    """One task's image. ``data`` is the PNG file in base64, empty if the task failed."""

    data: str
    prompt: str
    place: str
    place_number: int
    steps: int
    delay_s: float
    energy_j: float
    ue: int
    request: str


@dataclass(frozen=True)
class GalleryPage:
    """A part of a section that is opened and closed as a whole; images are counted from 1."""

    first: int
    images: list[GalleryImage]

    @property
    def last(self) -> int:
        return self.first + len(self.images) - 1

    @property
    def failed(self) -> int:
        return sum(not each.data for each in self.images)


@dataclass(frozen=True)
class GallerySection:
    """The images of one policy, in the order of the tasks."""

    policy: str
    images: list[GalleryImage]

    @property
    def made(self) -> int:
        """The number of tasks that did not fail."""
        return sum(bool(each.data) for each in self.images)

    @property
    def pages(self) -> list[GalleryPage]:
        starts = range(0, len(self.images), PAGE_IMAGES)
        return [GalleryPage(start + 1, self.images[start : start + PAGE_IMAGES]) for start in starts]


def make_section(policy: str, episode: Episode, outcomes: np.ndarray, folder: Path) -> GallerySection:
    """The section of a policy's run: its journals are in ``folder``, ``outcomes`` has one row per task."""
    places = _places(episode)
    images = []
    for task, row in zip(episode.tasks, outcomes, strict=True):
        image = read_image(folder / f"ue-{task.ue + 1}", task_id(task)) if row["steps"] > 0 else None
        images.append(
            GalleryImage(
                data=base64.b64encode(image or b"").decode(),
                prompt=task.prompt,
                place=places[row["place"]],
                place_number=int(row["place"]),
                steps=int(row["steps"]),
                delay_s=float(row["delay_s"]),
                energy_j=float(row["energy_ue_j"] + row["energy_bs_j"]),
                ue=task.ue + 1,
                request=episode.scenario.requests[task.request].name,
            )
        )
    return GallerySection(policy, images)


def write_gallery(episode: Episode, sections: list[GallerySection], folder: Path) -> None:
    """Write ``gallery.html``, a page without external files."""
    template = Path(__file__).with_name(GALLERY)
    page = fill(template, scenario=episode.scenario, sections=sections, places=_places(episode))
    write_text(folder / GALLERY, page)


def _places(episode: Episode) -> list[str]:
    return ["own device", *bs_names(episode.scenario)]
