"""The simulator behind the standard interfaces, so that any library's learner runs on it unchanged.

- ``AecEnv``, PettingZoo's ``AECEnv``: one UE decides at a time, the one whose task has just arrived.
- ``SlottedEnv``, PettingZoo's ``ParallelEnv``: one step is one slot; all UEs with a pending task decide at once.
- ``MergedEnv``, Gymnasium's ``Env``: the decisions of all UEs, one after the other, as one trajectory.
- ``MergedVectorEnv``, Gymnasium's ``VectorEnv``: the same for many episodes at once, in compiled code.

In all of them an action is the index of a joint choice (slot, steps, class), see ``decision/action_space.py``. An
observation is the vector of ``decision/observation.py``. The reward is minus the cost that accrued, over all tasks of
all UEs, during the ``gap_s`` seconds given in the info. An episode terminates when it has drained.

The action mask excludes the places that look unusable: the own device when its queue is full, a BS whose last
broadcast reported a full queue. A masked action is still allowed and has its usual consequence: a full BS refuses, a
full device loses the task. Only with ``decision.local: false`` are actions on the own device an error.

``reset(seed=s)`` starts episode s, which is the same episode everywhere in the package; ``reset()`` starts a fresh one.
With ``render_mode="rgb_array"``, ``render()`` returns a picture of the world.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aec import AecEnv as AecEnv
    from .common import action_mask as action_mask
    from .factory import make as make
    from .merged import MergedEnv as MergedEnv
    from .merged import MergedVectorEnv as MergedVectorEnv
    from .slotted import SlottedEnv as SlottedEnv

_MODULES = {  # imported on first use, so that registering the environments costs nothing
    "AecEnv": "aec",
    "MergedEnv": "merged",
    "MergedVectorEnv": "merged",
    "SlottedEnv": "slotted",
    "action_mask": "common",
    "make": "factory",
}
__all__ = ["AecEnv", "MergedEnv", "MergedVectorEnv", "SlottedEnv", "action_mask", "make"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'edgebrush.envs' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
