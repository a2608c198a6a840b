"""Every algorithm that can be trained, by its name in kebab-case; its module is imported when it is first needed.

A module of an algorithm holds its config, a frozen dataclass, and its ``Training``. To add one is to add its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgebrush.errors import UserError, explain

if TYPE_CHECKING:
    import numpy as np

    from edgebrush.scenario.schema import Scenario

TUNED = Path(__file__).parent / "tuned"
COST_TABLE = "cost table"  # the actor's logits contain the expected cost of every choice
PRICES = "price initialisation"  # it starts as the tuned priced greedy rule
COPIES = "copies"  # episodes with common arrivals, whose mean is a baseline
BUDGET = ("seconds", "decisions")  # fields of every config: the length; decisions count where seconds is None


class Training(Protocol):
    """One seed's training, update by update; saved and loaded, it goes on exactly as if it had never stopped."""

    rows: list[dict[str, float]]  # the learning curve

    def __init__(self, scenario: Scenario, config: Any, seed: int, numbers: np.ndarray | None):
        """``numbers``: the tuned priced greedy rule's, to start from where the algorithm can; None: no prices."""

    @property
    def seconds(self) -> float:
        """Spent so far, compilation included."""
        ...

    @property
    def share(self) -> float:
        """What share of the training is done; from 1 on it is over."""
        ...

    def step(self) -> dict[str, float]:
        """Collect and update once; the new row of the curve.

        It has at least ``update``, ``seconds``, ``decisions``, ``seed`` and ``cost``, and now and then
        ``validation_cost``.
        """
        ...

    def save_policy(self, folder: Path) -> None:
        """Write what was learnt as a policy folder, see policies/folder.py."""
        ...

    def save(self, path: Path) -> None:
        """Write the whole state to an ``.npz``; no pickle."""
        ...

    def load(self, path: Path) -> None:
        """Take up the state of ``save``. Raises ``ValueError`` where it is another training's."""
        ...


@dataclass(frozen=True)
class Algorithm:
    """Where an algorithm lives, what of ours it is given, and what of it is tuned."""

    title: str  # in reports
    module: str  # in this package
    config_name: str
    given: tuple[str, ...]
    tuned: Mapping[str, Sequence[float]]  # fields of the config and the values that a search tries
    settings: dict[str, Any] = field(default_factory=dict)  # what sets it apart from its module's defaults

    @property
    def config(self) -> type[Any]:
        return getattr(import_module(f".algorithms.{self.module}", __package__), self.config_name)

    @property
    def training(self) -> type[Training]:
        return import_module(f".algorithms.{self.module}", __package__).Training


PPO_TUNED = {
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "entropy": (0.0, 0.001, 0.003, 0.01),
    "epochs": (1, 2, 3, 5),
}
A2C_TUNED = {
    "learning_rate": (2e-4, 5e-4, 1e-3, 2e-3),
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "entropy": (0.0, 0.001, 0.003, 0.01),
    "minibatches": (1, 4, 16, 64),
}
MASL_TUNED = {
    "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "width": (1.0, 2.0, 3.0, 4.0),
    "bins": (1, 2, 3, 4),
}
REPLAYED_TUNED = {
    "learning_rate": (7e-5, 1.5e-4, 3e-4, 6e-4),
    "trace_decay_per_s": (0.005, 0.02, 0.05, 0.1),
    "gradient_steps": (16, 32, 64, 128),
}
Q_TUNED = {**REPLAYED_TUNED, "target_share": (0.005, 0.02, 0.1, 0.5)}
ALL = (COST_TABLE, PRICES, COPIES)
ALGORITHMS = {
    "mappo": Algorithm("MAPPO", "mappo", "MappoConfig", ALL, PPO_TUNED),
    "mappo-plain": Algorithm(
        "plain MAPPO", "mappo", "MappoConfig", (COST_TABLE, PRICES), PPO_TUNED, {"copies": 1, "groups": 256}
    ),
    "ippo": Algorithm("IPPO", "ippo", "IppoConfig", ALL, PPO_TUNED),
    "maa2c": Algorithm("MAA2C", "maa2c", "Maa2cConfig", ALL, A2C_TUNED),
    "d3qn": Algorithm("D3QN", "d3qn", "D3qnConfig", ALL, Q_TUNED),
    "vdn": Algorithm("VDN", "qmix", "QmixConfig", ALL, Q_TUNED, {"mixing": False}),
    "qmix": Algorithm("QMIX", "qmix", "QmixConfig", ALL, Q_TUNED),
    "maddpg": Algorithm("MADDPG", "maddpg", "MaddpgConfig", ALL, {**REPLAYED_TUNED, "entropy": (0.3, 1.0, 3.0, 10.0)}),
    "d2sac": Algorithm("D2SAC", "d2sac", "D2sacConfig", ALL, {**REPLAYED_TUNED, "alpha": (0.3, 1.0, 3.0, 10.0)}),
    "masl": Algorithm("MASL", "masl", "MaslConfig", (PRICES, COPIES), MASL_TUNED),
}


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of this name. Raises ``UserError`` where there is none."""
    from .plugins import load_plugin_algorithm

    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if (plugin := load_plugin_algorithm(name)) is not None:
        return plugin
    raise UserError(
        f"algorithm = {name!r}: not known; it must be one of {', '.join(ALGORITHMS)}, or module:Class of your own"
    )


def tuned_settings(preset: str, algorithm: str) -> dict[str, Any]:
    """What the equal search chose for a preset (``edgebrush tune-learners``); nothing where none was made."""
    path = TUNED / f"{preset}.json"
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))["algorithms"].get(algorithm, {}).get("settings", {})


def configure(name: str, settings: Mapping[str, Any], *, seconds: float | None, decisions: int | None) -> Any:
    """The config of an algorithm with these fields set and the rest as it comes.

    A training lasts ``seconds`` where they are given, else ``decisions``, else the config's own number of them.
    ``settings`` may hold values as text. Raises ``UserError`` where a field or its value cannot be.
    """
    from pydantic import TypeAdapter, ValidationError

    algorithm = algorithm_of(name)
    known = [each.name for each in fields(algorithm.config) if each.name not in BUDGET]
    for field_name, value in settings.items():
        if field_name in BUDGET:
            raise UserError(f"{field_name} = {value}: is an option of its own; give --{field_name}")
        if field_name not in known:
            raise UserError(f"{field_name} = {value}: {name} has no such number; it has {', '.join(known)}")
    budget = {"seconds": seconds} if decisions is None else {"decisions": decisions}
    try:
        return TypeAdapter(algorithm.config).validate_python({**algorithm.settings, **settings, **budget})
    except ValidationError as error:
        raise UserError(explain(error, "")) from None
