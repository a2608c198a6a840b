"""VDN (Sunehag et al. 2018): one value for a joint decision, the sum of D3QN's Qs of its deciders.

A joint decision is a window of successive deciders, see ``offpolicy.join_decisions``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..offpolicy import JointConfig
from . import d3qn


@dataclass(frozen=True)
class VdnConfig(JointConfig):
    """Hyperparameters: see ``JointConfig``."""


class Training(d3qn.Training):
    """The training of one seed of VDN."""

    algorithm = "vdn"
    config: VdnConfig
