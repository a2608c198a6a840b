"""edgebrush: where, in what order and with how many denoising steps images are generated at the edge.

The public surface, all of it lazy, so that ``import edgebrush`` costs milliseconds:

- ``load_scenario(name_or_path)`` gives a ``Scenario``;
- ``make(scenario, kind)`` gives a PettingZoo or Gymnasium environment;
- ``train(scenario, out, algorithm="mappo")`` trains a learner, ``compare(scenario, out)`` MAPPO, which it plays with
  every rule, and writes the report;
- ``load_policy(folder, scenario)`` gives a trained ``Policy``;
- ``UserError`` is what they raise where the input is at fault.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebrush.errors import UserError as UserError
    from edgebrush.policies.load import load_policy as load_policy
    from edgebrush.scenario.load import load_scenario as load_scenario
    from edgebrush.scenario.schema import Scenario as Scenario
    from edgebrush.sim.envs import make as make
    from edgebrush.study.compare import compare as compare
    from edgebrush.study.train import train_policies as train

_HOMES = {
    "Scenario": ("edgebrush.scenario.schema", "Scenario"),
    "UserError": ("edgebrush.errors", "UserError"),
    "compare": ("edgebrush.study.compare", "compare"),
    "load_policy": ("edgebrush.policies.load", "load_policy"),
    "load_scenario": ("edgebrush.scenario.load", "load_scenario"),
    "make": ("edgebrush.sim.envs", "make"),
    "train": ("edgebrush.study.compare", "train_policies"),
}
__all__ = ["Scenario", "UserError", "compare", "load_policy", "load_scenario", "make", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebrush' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
