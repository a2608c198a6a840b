"""Measured servers with the profiles that describe them: given by the user, or the nearest of the catalogue."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebrush.errors import UserError
from edgebrush.profiles.catalogue import catalogue_names, load_profile
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.capacity import REFERENCE_STEPS
from edgebrush.scenario.load import check_profile

from .nearest_profile import alone_s, nearest_profile, profiles_of, speed_of
from .servers import MeasuredServer

DEFAULT_BATCH_LIMIT = 4  # of a server that does not state it
DEFAULT_SIZE_PX = 512  # of a server without a given profile


@dataclass(frozen=True)
class Station:
    """A measured server with its profile. ``given``: the user has named the profile."""

    server: MeasuredServer
    profile: Profile
    reference: str  # of the profile, as the scenario names it
    given: bool

    @property
    def speed(self) -> float:
        return rounded(speed_of(self.profile, self.server.service_s))

    @property
    def batch_limit(self) -> int:
        return self.server.load.batch_limit if self.server.load else DEFAULT_BATCH_LIMIT


def check_profiles(urls: Mapping[str, str], profiles: Mapping[str, str], device: str | None) -> None:
    """Raises ``UserError`` where a profile cannot be used, or is for a station that is not there."""
    for name, profile in profiles.items():
        if name not in urls:
            raise UserError(f"profile = {name}={profile}: the stations are {', '.join(urls)}")
        check_profile(f"profile of {name}", profile, "heavy", Path())
    if device is not None:
        check_profile("device", device, "light", Path())


def image_sizes_px(urls: Mapping[str, str], profiles: Mapping[str, str], size_px: int | None) -> dict[str, int]:
    """The side of the images to request from each server: as given, else its profile's. Raises ``UserError``."""
    sizes = {name: load_profile(profile).resolution_px for name, profile in profiles.items()}
    return {name: size_px or sizes.get(name, DEFAULT_SIZE_PX) for name in urls}


def assign_profile(server: MeasuredServer, given: str | None, directory: Path) -> Station:
    """A server with the profile that was given, else the nearest of the catalogue. Raises ``UserError``."""
    if given is not None:
        return Station(server, load_profile(given), reference_of(given, directory), given=True)
    profile = nearest_profile(profiles_of("heavy"), server.model, server.image_px, server.service_s)
    return Station(server, profile, profile.name, given=False)


def usual_device(stations: Sequence[Station]) -> str:
    """A light profile of the catalogue with the stations' image size, else of the size nearest to it."""
    image_px = max(station.profile.resolution_px for station in stations)
    light = profiles_of("light")
    return min(light, key=lambda each: (abs(each.resolution_px - image_px), alone_s(each, REFERENCE_STEPS))).name


def reference_of(profile: str, directory: Path) -> str:
    """A profile as a scenario in ``directory`` names it: files are relative to it."""
    return profile if profile in catalogue_names() else os.path.relpath(profile, directory)


def rounded(value: float, digits: int = 3) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}")
