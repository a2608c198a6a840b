"""Train a learner on several seeds, starting from the tuned rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.errors import UserError
from edgebrush.files import check_writable
from edgebrush.learning import CHECKPOINT
from edgebrush.learning.registry import ALGORITHMS, configure, tuned_settings
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.parameters import build_params
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.rules import prices_of

# How the default comparison spends its 6 minutes on 2 cores.
TRAINING_S = 220.0  # for all training seeds together


TRAINING_SEEDS = 4


def train_policies(
    scenario: Scenario,
    out: Path | str,
    *,
    algorithm: str = "mappo",
    seeds: int = TRAINING_SEEDS,
    seconds: float = TRAINING_S,
    decisions: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    prices: np.ndarray | None = None,
    progress: ProgressCallback = no_progress,
) -> list[Path]:
    """Train an algorithm on seeds 1, 2, ...; the policy folders, which lie in ``out`` beside the curve and a
    checkpoint.

    ``algorithm`` is a name of ``edgebrush.learning.registry.ALGORITHMS``; ``settings`` set numbers of its config,
    which are otherwise those that the equal search chose for the preset (``search``), or as they come.
    The trainings share ``seconds``, or make ``decisions`` each. ``prices`` are the priced greedy rule's numbers to
    start from (by default those of ``rules_of``). Raises ``UserError`` before any long work where ``out`` cannot be
    written, or holds a training and ``resume`` is not given, or a setting cannot be.
    """
    from edgebrush.learning.launcher import train

    out = Path(out)
    chosen = tuned_settings(scenario.name, algorithm) | dict(settings or {})
    config = configure(algorithm, chosen, seconds=seconds if decisions is None else None, decisions=decisions)
    if seeds < 1:
        raise UserError(f"seeds = {seeds}: must be 1 or more")
    begun = (out / CHECKPOINT).exists()
    if begun and not resume:
        raise UserError(f"out = {str(out)!r}: holds a training already; add --resume or give another folder")
    if resume and not begun:
        raise UserError(f"out = {str(out)!r}: holds no checkpoint to go on from; leave out --resume")
    build_params(scenario)
    check_writable(out)
    if prices is None:
        prices = prices_of(scenario, progress)
    phase = f"training {ALGORITHMS[algorithm].title}"
    shares: dict[int, float] = {}

    def hear(row: dict) -> None:
        shares[row["seed"]] = row["share"]
        progress(phase, sum(shares.values()) / seeds, f"seed {row['seed']}: cost {row['cost']:.4f}")

    return train(scenario, algorithm, config, range(1, seeds + 1), out, prices, hear)
