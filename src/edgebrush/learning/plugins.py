"""Learners from outside the package: ``module:Class``, or a name that an installed package registers.

A learner is a class with the methods of ``registry.Training`` and two attributes::

    @dataclass(frozen=True)
    class MyConfig:
        seconds: float | None = None  # budget of a training: a time,
        decisions: int = 1_000_000    # or, where that is None, a number of decisions
        learning_rate: float = 1e-3   # hyperparameters, set by --set learning_rate=...

    class MyLearner:
        title = "My learner"  # in progress bars; optional
        config = MyConfig

        def __init__(self, scenario, config, seed, rule_parameters): ...

``edgebrush train --algorithm my_module:MyLearner`` trains it on several seeds, with checkpoints, curve and TensorBoard.
Naming a module runs its code. ``save_policy(folder)`` writes either a policy folder (``policies.folder.save_policy``)
or any files that a policy class of yours reads: ``edgebrush evaluate my_module:MyPolicy:trained/seed-1``.

A package registers its learners as entry points of the group ``edgebrush.learners``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from edgebrush.errors import UserError
from edgebrush.policies.plugins import find_plugin

from .registry import BUDGET, Algorithm, Training

LEARNERS = "edgebrush.learners"  # the group of entry points
METHODS = ("step", "save_policy", "save", "load", "seconds", "share")


@dataclass(frozen=True)
class PluginAlgorithm(Algorithm):
    """An algorithm whose class has been loaded already."""

    loaded: Any = None

    @property
    def config(self) -> type[Any]:
        config: type[Any] = self.loaded.config
        return config

    @property
    def training(self) -> type[Training]:
        training: type[Training] = self.loaded
        return training


def load_plugin_algorithm(reference: str) -> Algorithm | None:
    """The algorithm of a plugin; None where the text names none.

    Raises ``UserError`` where it cannot be imported or is not a learner.
    """
    plugin = find_plugin(reference, LEARNERS)
    if plugin is None:
        return None
    learner, where = plugin.target, f"algorithm {reference!r}"
    if plugin.argument is not None:
        raise UserError(f"{where}: takes no argument; hyperparameters are set by --set")
    if not isinstance(learner, type):
        raise UserError(f"{where}: is of type {type(learner).__name__}; it must be a class")
    if missing := [name for name in METHODS if not hasattr(learner, name)]:
        raise UserError(f"{where}: a learner has {', '.join(METHODS)}; this one lacks {', '.join(missing)}")
    config = getattr(learner, "config", None)
    if not (isinstance(config, type) and is_dataclass(config)) or not set(BUDGET) <= {f.name for f in fields(config)}:
        raise UserError(f"{where}: its attribute config must be a dataclass with the fields {' and '.join(BUDGET)}")
    title = str(getattr(learner, "title", learner.__name__))
    return PluginAlgorithm(title, learner.__module__, config.__name__, (), {}, loaded=learner)
