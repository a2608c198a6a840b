"""The profile of the catalogue that is nearest to measured service times, and the speed that scales it to them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from edgebrush.profiles.catalogue import catalogue_names, load_profile
from edgebrush.profiles.schema import Profile


def profiles_of(role: str) -> list[Profile]:
    """The catalogue's profiles of light or heavy models."""
    return [profile for name in catalogue_names() if (profile := load_profile(name)).role == role]


def alone_s(profile: Profile, steps: int) -> float:
    """Seconds of an image that shares no batch, on the profile's hardware."""
    compute = profile.compute
    return compute.encode_s + compute.decode_s + steps * (compute.round_intercept_s + compute.round_slope_s)


def speed_of(profile: Profile, service_s: Mapping[int, float]) -> float:
    """The speed, relative to the profile's hardware, that fits seconds by steps best (geometric mean)."""
    ratios = [math.log(alone_s(profile, steps) / seconds) for steps, seconds in service_s.items()]
    return math.exp(sum(ratios) / len(ratios))


def nearest_profile(
    candidates: Sequence[Profile], model: str, image_px: int, service_s: Mapping[int, float]
) -> Profile:
    """The profile of the same model, else of the same image size, whose own seconds are nearest; ties by name."""
    known = [each for each in candidates if plain(each.model) and plain(each.model) in plain(model)]
    same_size = [each for each in candidates if each.resolution_px == image_px]
    return min(known or same_size or candidates, key=lambda each: abs(math.log(speed_of(each, service_s))))


def plain(name: str) -> str:
    """A model's name without what differs between servers: case, punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
