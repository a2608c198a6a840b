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
    from edgebrush.evaluation.compare import compare as compare
    from edgebrush.evaluation.compare import load_policy as load_policy
    from edgebrush.evaluation.compare import train_policies as train
    from edgebrush.scenario.load import load_scenario as load_scenario
    from edgebrush.scenario.schema import Scenario as Scenario
    from edgebrush.sim.adapters import make as make

_HOMES = {
    "Scenario": ("edgebrush.scenario.schema", "Scenario"),
    "UserError": ("edgebrush.errors", "UserError"),
    "compare": ("edgebrush.evaluation.compare", "compare"),
    "load_policy": ("edgebrush.evaluation.compare", "load_policy"),
    "load_scenario": ("edgebrush.scenario.load", "load_scenario"),
    "make": ("edgebrush.sim.adapters", "make"),
    "train": ("edgebrush.evaluation.compare", "train_policies"),
}
__all__ = ["Scenario", "UserError", "compare", "load_policy", "load_scenario", "make", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebrush' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
