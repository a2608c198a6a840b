"""edgebrush schedules image generation at the edge: where, when and with how many denoising steps.

The public names. All are loaded on first use, so that ``import edgebrush`` takes milliseconds:

- ``load_scenario(name_or_path)`` returns a ``Scenario``;
- ``make(scenario, kind)`` returns a PettingZoo or Gymnasium environment;
- ``train(scenario, out, algorithm="mappo")`` trains a learner and returns its policy folders;
- ``compare(scenario, out)`` tunes the rules, trains MAPPO, evaluates all of them and writes a report;
- ``load_policy(name, scenario)`` returns a ``Policy``: a rule, a trained policy, or a class of your own;
- ``UserError`` is raised where the input cannot be used.

Importing the package registers every preset with Gymnasium: ``gymnasium.make("edgebrush/Campus-v0")``.
``from edgebrush import scheduling_v0`` has the functions that PettingZoo users expect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgebrush.envs.registration import register_when_imported

if TYPE_CHECKING:
    from edgebrush.envs import make as make
    from edgebrush.envs import scheduling_v0 as scheduling_v0
    from edgebrush.errors import UserError as UserError
    from edgebrush.policies.load import load_policy as load_policy
    from edgebrush.scenario.load import load_scenario as load_scenario
    from edgebrush.scenario.schema import Scenario as Scenario
    from edgebrush.study.compare import compare as compare
    from edgebrush.study.train import train_policies as train

_HOMES = {
    "Scenario": "edgebrush.scenario.schema:Scenario",
    "UserError": "edgebrush.errors:UserError",
    "compare": "edgebrush.study.compare:compare",
    "load_policy": "edgebrush.policies.load:load_policy",
    "load_scenario": "edgebrush.scenario.load:load_scenario",
    "make": "edgebrush.envs:make",
    "scheduling_v0": "edgebrush.envs.scheduling_v0:",
    "train": "edgebrush.study.train:train_policies",
}
__all__ = ["Scenario", "UserError", "compare", "load_policy", "load_scenario", "make", "scheduling_v0", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebrush' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted(__all__)


register_when_imported()
