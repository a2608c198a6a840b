"""The policy folder: written by training, read by the evaluation and by a UE agent.

``policy.json`` states the kind of the policy (which code reads the weights) and how it was trained; the weights are
safetensors. To add a kind, write a module in this package with a function ``read`` and add it to ``KINDS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgebrush.decision.action_space import ActionSpace
from edgebrush.errors import UserError
from edgebrush.files import write_bytes, write_text

from . import actor, automata, diffusion, mlp
from .protocol import Policy

FORMAT = 1
ABOUT, WEIGHTS = "policy.json", "actor.safetensors"
SOFTMAX, MLP, AUTOMATA = "softmax", "mlp", "automata"  # softmax is the default
DIFFUSION, MLP_DIFFUSION = "diffusion", "mlp-diffusion"
KINDS: dict[str, Callable[..., Policy]] = {  # (name, weights, action space, number of BSs) -> Policy
    SOFTMAX: actor.read,
    MLP: mlp.read,
    AUTOMATA: automata.read,
    DIFFUSION: diffusion.read,
    MLP_DIFFUSION: diffusion.read_mlp,
}


def save_policy(
    folder: Path, name: str, weights: dict[str, np.ndarray], about: dict[str, Any], kind: str = SOFTMAX
) -> None:
    """Write a policy folder. ``about`` has at least ``step_grid`` and ``classes``, and says how it was trained."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "name": name, "kind": kind, **about}, indent=2)
    write_bytes(folder / WEIGHTS, save(weights))
    write_text(folder / ABOUT, text)


def read_policy(folder: Path, space: ActionSpace, bs_count: int) -> Policy:
    """The trained policy in ``folder``, for a scenario's action space; it may have more or fewer slots and BSs.

    Raises ``UserError`` if the folder holds no policy, or one for another step grid or number of classes.
    """
    try:
        about = json.loads((folder / ABOUT).read_text())
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no trained policy in this folder ({Path(error.filename).name} is missing)"
        ) from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: the policy cannot be read: {error}") from None
    kind = about.get("kind", SOFTMAX)
    if about.get("format") != FORMAT or kind not in KINDS:
        raise UserError(f"{folder}: policy format {about.get('format')!r}, kind {kind!r} is unknown; train it again")
    if about["step_grid"] != list(space.step_grid) or about["classes"] != space.classes:
        raise UserError(
            f"{folder}: trained for step_grid {about['step_grid']} and {about['classes']} classes, the scenario has "
            f"{list(space.step_grid)} and {space.classes}; train one for it"
        )
    return KINDS[kind](about["name"], weights, space, bs_count)
