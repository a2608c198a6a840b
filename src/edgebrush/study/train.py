"""Train several seeds of a learner, starting from the tuned rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.errors import UserError
from edgebrush.files import check_writable
from edgebrush.learning import CHECKPOINT
from edgebrush.learning.registry import algorithm_of, configure, tuned_settings
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.parameters import check_usable
from edgebrush.scenario.schema import Scenario
from edgebrush.study import TRAINING_S, TRAINING_SEEDS
from edgebrush.tuning.rules import start_prices


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
    """Train an algorithm with seeds 1, 2, ...; returns the policy folders.

    ``out`` gets the policy folders, the learning curve and, until all seeds are done, a checkpoint. ``algorithm`` is a
    name of ``edgebrush.learning.registry.ALGORITHMS`` or ``module:Class`` (see ``learning/plugins.py``). ``settings``
    override fields of its config, which are otherwise those that the equal search chose for the preset
    (``edgebrush tune-learners``), or the defaults. All trainings together take ``seconds``, or each makes
    ``decisions``. ``prices`` are the parameters of the priced-greedy rule to start from (default: the tuned ones).
    Raises ``UserError`` before any training where ``out`` cannot be written, or holds a training and ``resume`` is not
    set, or a setting is not valid.
    """
    from edgebrush.learning.launcher import train

    out = Path(out)
    chosen = tuned_settings(scenario.name, algorithm) | dict(settings or {})
    config = configure(algorithm, chosen, seconds=seconds if decisions is None else None, decisions=decisions)
    if seeds < 1:
        raise UserError(f"seeds = {seeds}: must be 1 or more")
    started = (out / CHECKPOINT).exists()
    if started and not resume:
        raise UserError(f"out = {str(out)!r}: already holds a training; add --resume or give another folder")
    if resume and not started:
        raise UserError(f"out = {str(out)!r}: holds no checkpoint to resume from; leave out --resume")
    check_usable(scenario)
    check_writable(out)
    if prices is None:
        prices = start_prices(scenario, progress)
    phase = f"training {algorithm_of(algorithm).title}"
    shares: dict[int, float] = {}

    def report(row: dict) -> None:
        shares[row["seed"]] = row["share"]
        progress(phase, sum(shares.values()) / seeds, f"seed {row['seed']}: cost {row['cost']:.4f}")

    return train(scenario, algorithm, config, range(1, seeds + 1), out, prices, report)
