"""The gallery: every image of a testbed run on one page, each with its place, steps, delay and energy."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebrush.agent.journal import IMAGES
from edgebrush.files import write_text
from edgebrush.report.pages import fill
from edgebrush.scenario.expand import bs_names

from .episode import Episode
from .outcomes import task_of

GALLERY = "gallery.html"


@dataclass(frozen=True)
class Picture:
    """An image and what it cost; ``data`` is its file in base64, empty where there is none."""

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
class Wall:
    """The pictures that one policy had made."""

    policy: str
    pictures: list[Picture]


def wall(policy: str, episode: Episode, rows: np.ndarray, folder: Path) -> Wall:
    """The wall of a round whose journals are in ``folder``; ``rows`` are its outcomes, one an arrival."""
    places = ["own device", *bs_names(episode.scenario)]
    pictures = []
    for arrival, row in zip(episode.arrivals, rows, strict=True):
        path = folder / f"ue-{arrival.ue + 1}" / IMAGES / f"{task_of(arrival)}.png"
        data = base64.b64encode(path.read_bytes()).decode() if row["steps"] > 0 else ""
        pictures.append(
            Picture(
                data,
                arrival.prompt,
                places[row["place"]],
                int(row["place"]),
                int(row["steps"]),
                float(row["delay_s"]),
                float(row["energy_ue_j"] + row["energy_bs_j"]),
                arrival.ue + 1,
                episode.scenario.requests[arrival.request].name,
            )
        )
    return Wall(policy, pictures)


def write_gallery(episode: Episode, walls: list[Wall], folder: Path) -> None:
    """Write ``gallery.html``, which asks nothing of the network."""
    places = ["own device", *bs_names(episode.scenario)]
    page = fill(Path(__file__).with_name(GALLERY), scenario=episode.scenario, walls=walls, places=places)
    write_text(folder / GALLERY, page)
