"""The registry of algorithms: names, modules, configs, search grids. A module is imported when it is first needed.

An algorithm's module holds its config, a frozen dataclass, and its ``Training``. A new algorithm needs one entry here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgebrush.errors import UserError, explain

if TYPE_CHECKING:
    import numpy as np

    from edgebrush.scenario.schema import Scenario

TUNED = Path(__file__).parent / "tuned"
COST_TABLE = "cost table"  # the actor's logits contain the expected cost of every choice
PRICES = "price initialisation"  # the actor starts as the tuned priced greedy rule
COPIES = "copies"  # episodes with common arrivals; their mean is a baseline
BUDGET = ("seconds", "decisions")  # fields of every config: the length; decisions count if seconds is None
RENAMED = {"sharpness": "deploy_inverse_temperature", "own_prices": "init_from_rule"}  # until 0.3; the second: negated


class Config(Protocol):
    """A frozen dataclass of hyperparameters; ``trainer.TrainingConfig`` is the base of all configs in this package."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seconds(self) -> float | None:
        """The training's length, compilation included; None: ``decisions`` decides."""
        ...

    @property
    def decisions(self) -> int: ...


class Training(Protocol):
    """The training of one seed, update by update. A loaded checkpoint resumes exactly where it was saved."""

    rows: list[dict[str, float]]  # the learning curve

    def __init__(self, scenario: Scenario, config: Config, seed: int, rule_parameters: np.ndarray | None):
        """``rule_parameters``: the tuned priced greedy rule's, from which a policy starts; None: without prices."""

    @property
    def seconds(self) -> float:
        """Time spent so far, compilation included."""
        ...

    @property
    def share(self) -> float:
        """The share of the training that is done; 1 or more: finished."""
        ...

    def step(self) -> dict[str, float]:
        """Collect and update once; the new row of the curve.

        It has at least ``update``, ``seconds``, ``decisions``, ``seed`` and ``cost``, and at times
        ``validation_cost``.
        """
        ...

    def save_policy(self, folder: Path) -> None:
        """Write the policy as a policy folder, see policies/folder.py."""
        ...

    def save(self, path: Path) -> None:
        """Write a checkpoint, an ``.npz`` without pickle."""
        ...

    def load(self, path: Path) -> None:
        """Restore a checkpoint. Raises ``ValueError`` if it is of another training."""
        ...


@dataclass(frozen=True)
class Algorithm:
    """Where an algorithm is, what it uses, and which of its hyperparameters are tuned."""

    title: str  # in reports
    module: str  # in algorithms/
    config_name: str
    uses: tuple[str, ...]
    search_grid: Mapping[str, Sequence[float]]  # fields of the config, and the values that the equal search tries
    settings: dict[str, Any] = field(default_factory=dict)  # differences from the defaults of its module's config

    @property
    def config(self) -> type[Config]:
        return getattr(import_module(f".algorithms.{self.module}", __package__), self.config_name)

    @property
    def training(self) -> type[Training]:
        return import_module(f".algorithms.{self.module}", __package__).Training


# What the equal search tries: for every learner its rates, discount and traces, the batch's geometry, and the
# temperature of the deployed policy, and what is its own.
DISCOUNTS = (0.0005, 0.002, 0.01, 0.03)
SHARPNESS = (1.0, 2.0, 4.0, 8.0)
PPO_GRID = {
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "discount_per_s": DISCOUNTS,
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "length": (64, 128, 256),
    "minibatches": (4, 8, 16, 32),
    "epochs": (1, 2, 3, 5),
    "entropy": (0.0, 0.001, 0.003, 0.01, 0.03),
    "deploy_inverse_temperature": SHARPNESS,
}
A2C_GRID = {
    "learning_rate": (2e-4, 5e-4, 1e-3, 2e-3),
    "discount_per_s": DISCOUNTS,
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "length": (16, 32, 64, 128),
    "minibatches": (1, 4, 16, 64),
    "entropy": (0.0, 0.001, 0.003, 0.01, 0.03),
    "deploy_inverse_temperature": SHARPNESS,
}
MASL_GRID = {
    "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
    "discount_per_s": DISCOUNTS,
    "trace_decay_per_s": (0.02, 0.05, 0.1, 0.2),
    "length": (64, 128, 256),
    "width": (1.0, 2.0, 3.0, 4.0),
    "bins": (1, 2, 3, 4),
    "deploy_inverse_temperature": SHARPNESS,
}
OFF_POLICY_GRID = {
    "learning_rate": (7e-5, 1.5e-4, 3e-4, 6e-4),
    "discount_per_s": DISCOUNTS,
    "trace_decay_per_s": (0.005, 0.02, 0.05, 0.1),
    "gradient_steps": (16, 32, 64),
    "temperature": (1e-4, 1e-3, 3e-3, 1e-2),
}
OFF_POLICY_COMMON_GRID = {**OFF_POLICY_GRID, "minibatch": (1, 2, 4)}
OFF_POLICY_PUBLISHED_GRID = {**OFF_POLICY_GRID, "minibatch": (8, 16, 32)}
TARGETS = {"target_share": (0.005, 0.02, 0.1, 0.5)}
EXPLORATION = {"epsilon": (0.01, 0.05, 0.1)}
Q_GRID = {**OFF_POLICY_PUBLISHED_GRID, **TARGETS, **EXPLORATION}
Q_COMMON_GRID = {**OFF_POLICY_COMMON_GRID, **TARGETS}
LOW, HIGH = (0.003, 0.01, 0.03, 0.1), (0.3, 1.0, 3.0, 10.0)  # in deviations of the returns; in costs of a logit
MADDPG_GRID = {**OFF_POLICY_PUBLISHED_GRID, "entropy": LOW}
MADDPG_COMMON_GRID = {**OFF_POLICY_COMMON_GRID, "entropy": HIGH}
D2SAC_GRID = {**OFF_POLICY_PUBLISHED_GRID, "alpha": LOW}
D2SAC_COMMON_GRID = {**OFF_POLICY_COMMON_GRID, "alpha": HIGH}
ALL = (COST_TABLE, PRICES, COPIES)
# As published: a perceptron of the usual size over the observation vector, nothing of ours.
PUBLISHED = {"network": "mlp", "actor_hidden": 64, "copies": 1, "init_from_rule": False}
ON_POLICY = {**PUBLISHED, "groups": 256, "entropy": 0.01}
OFF_POLICY = {**PUBLISHED, "groups": 256, "minibatch": 16, "learning_rate": 3e-4, "value_speed": 1.0}
COMMON = "+common"  # suffix of the rivals that get all that MAPPO has here
ALGORITHMS = {
    "mappo": Algorithm("MAPPO", "mappo", "MappoConfig", ALL, PPO_GRID),
    "mappo-plain": Algorithm(
        "plain MAPPO", "mappo", "MappoConfig", (COST_TABLE, PRICES), PPO_GRID, {"copies": 1, "groups": 256}
    ),
    "mappo-published": Algorithm("MAPPO as published", "mappo", "MappoConfig", (), PPO_GRID, ON_POLICY),
    "ippo": Algorithm("IPPO", "ippo", "IppoConfig", (), PPO_GRID, ON_POLICY),
    "maa2c": Algorithm("MAA2C", "maa2c", "Maa2cConfig", (), A2C_GRID, {**ON_POLICY, "length": 16, "minibatches": 1}),
    "d3qn": Algorithm("D3QN", "d3qn", "D3qnConfig", (), Q_GRID, OFF_POLICY),
    "vdn": Algorithm("VDN", "vdn", "VdnConfig", (), Q_GRID, OFF_POLICY),
    "qmix": Algorithm("QMIX", "qmix", "QmixConfig", (), Q_GRID, OFF_POLICY),
    "maddpg": Algorithm("MADDPG", "maddpg", "MaddpgConfig", (), MADDPG_GRID, {**OFF_POLICY, "entropy": 0.01}),
    "d2sac": Algorithm("D2SAC", "d2sac", "D2sacConfig", (), D2SAC_GRID, {**OFF_POLICY, "alpha": 0.01}),
    "masl": Algorithm(
        "MASL", "masl", "MaslConfig", (), MASL_GRID, {"copies": 1, "groups": 256, "init_from_rule": False}
    ),
    "ippo+common": Algorithm("IPPO with ours", "ippo", "IppoConfig", ALL, PPO_GRID),
    "maa2c+common": Algorithm("MAA2C with ours", "maa2c", "Maa2cConfig", ALL, A2C_GRID),
    "d3qn+common": Algorithm("D3QN with ours", "d3qn", "D3qnConfig", ALL, Q_COMMON_GRID),
    "vdn+common": Algorithm("VDN with ours", "vdn", "VdnConfig", ALL, Q_COMMON_GRID),
    "qmix+common": Algorithm("QMIX with ours", "qmix", "QmixConfig", ALL, Q_COMMON_GRID),
    "maddpg+common": Algorithm("MADDPG with ours", "maddpg", "MaddpgConfig", ALL, MADDPG_COMMON_GRID),
    "d2sac+common": Algorithm("D2SAC with ours", "d2sac", "D2sacConfig", ALL, D2SAC_COMMON_GRID),
    "masl+common": Algorithm("MASL with ours", "masl", "MaslConfig", (PRICES, COPIES), MASL_GRID),
}
LIKE_FOR_LIKE = tuple(name for name, each in ALGORITHMS.items() if each.uses)  # what a study trains by default


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of this name, or a plugin, see plugins.py. Raises ``UserError`` if there is none."""
    from .plugins import load_plugin_algorithm

    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if (plugin := load_plugin_algorithm(name)) is not None:
        return plugin
    raise UserError(
        f"algorithm = {name!r}: not known; it must be one of {', '.join(ALGORITHMS)}, or module:Class of your own"
    )


def tuned_settings(preset: str, algorithm: str) -> dict[str, Any]:
    """The settings that the equal search (``edgebrush tune-learners``) chose for a preset; empty if there are none."""
    path = TUNED / f"{preset}.json"
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))["algorithms"].get(algorithm, {}).get("settings", {})


def configure(name: str, settings: Mapping[str, Any], *, seconds: float | None, decisions: int | None) -> Config:
    """The config of an algorithm with these ``settings``; the other fields have their defaults.

    A training lasts ``decisions`` if they are given, else ``seconds``, else the config's own number of decisions.
    Values of ``settings`` may be text. Raises ``UserError`` for an unknown field or an impossible value.
    """
    from pydantic import TypeAdapter, ValidationError

    algorithm = algorithm_of(name)
    known = [each.name for each in fields(algorithm.config) if each.name not in BUDGET]
    settings = rename_fields(settings, known)
    for field_name, value in settings.items():
        if field_name in BUDGET:
            raise UserError(f"{field_name} = {value}: is not a hyperparameter; give --{field_name}")
        if field_name not in known:
            raise UserError(f"{field_name} = {value}: {name} has no such hyperparameter; it has {', '.join(known)}")
    budget = {"seconds": seconds} if decisions is None else {"decisions": decisions}
    try:
        return TypeAdapter(algorithm.config).validate_python({**algorithm.settings, **settings, **budget})
    except ValidationError as error:
        raise UserError(explain(error, "")) from None


def rename_fields(settings: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The settings with the ``known`` names of renamed fields, and a ``FutureWarning`` for each old name."""
    from pydantic import TypeAdapter, ValidationError

    renamed: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in RENAMED or name in known:
            renamed[name] = value
            continue
        if name == "own_prices":
            try:
                value = not TypeAdapter(bool).validate_python(value)
            except ValidationError as error:
                raise UserError(explain(error, f"{name} = {value!r}")) from None
        new = RENAMED[name]
        shown = str(value).lower() if isinstance(value, bool) else value
        warnings.warn(f"{name} is deprecated; set {new}={shown} instead", FutureWarning, stacklevel=3)
        renamed[new] = value
    return renamed
