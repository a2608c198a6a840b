"""Counter-based randomness: a draw is a hash of (episode seed, stream, two indices).

No decision enters the hash, so copies of an episode see the same arrivals, tasks and channels whatever they decide
(the input-driven baseline of Mao et al. 2019 needs this), and draws can be made in any order. The mixing function is
SplitMix64's finaliser (Steele, Lea & Flood 2014).
"""

import math

import numpy as np

from .compile import compiled

# Streams: one per use, so that no two draws share a hash.
GAP, PHASE_START, PHASE_STAY, REQUEST, CONTENT, IMAGES = 1, 2, 3, 4, 5, 6
PLACE_X, PLACE_Y, BATTERY, WINDOW = 7, 8, 9, 10
LOS, SHADOW, SHADOW_ANGLE, FADING = 11, 12, 13, 14
WAYPOINT_X, WAYPOINT_Y = 15, 16
POLICY = 17

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@compiled
def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@compiled
def uniform(seed, stream, a, b):
    """A uniform draw in the open interval (0, 1)."""
    z = _mix(np.uint64(seed) * _STEP + np.uint64(stream))
    z = _mix(z + np.uint64(a) * _STEP)
    z = _mix(z + np.uint64(b) * _STEP)
    return (float(z >> np.uint64(11)) + 0.5) * 2.0**-53


@compiled
def exponential(seed, stream, a, b):
    """An exponential draw with mean 1."""
    return -math.log(uniform(seed, stream, a, b))


@compiled
def normal(seed, stream, a, b):
    """A standard normal draw (Box & Muller 1958); uses two streams: ``stream`` and ``stream + 1``."""
    radius = math.sqrt(2.0 * exponential(seed, stream, a, b))
    return radius * math.cos(2.0 * math.pi * uniform(seed, stream + 1, a, b))
