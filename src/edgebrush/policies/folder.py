"""The policy folder: what training leaves, and what the evaluation, the simulator and a UE load.

``policy.json`` says what the policy is (``kind``: which code reads the weights) and how it was trained; the weights
are safetensors. A new kind is a file in this package with a ``read`` and a line in ``KINDS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgebrush.decision.action_space import ActionSpace
from edgebrush.errors import UserError
from edgebrush.files import write_bytes, write_text

from . import actor, automata, diffusion
from .protocol import Policy

FORMAT = 1
ABOUT, WEIGHTS = "policy.json", "actor.safetensors"
SOFTMAX, AUTOMATA, DIFFUSION = "softmax", "automata", "diffusion"  # softmax also where policy.json names no kind
KINDS: dict[str, Callable[..., Policy]] = {  # (name, weights, action space, number of BSs) -> Policy
    SOFTMAX: actor.read,
    AUTOMATA: automata.read,
    DIFFUSION: diffusion.read,
}


def save_policy(folder: Path, name: str, weights: dict[str, np.ndarray], about: dict, kind: str = SOFTMAX) -> None:
    """Write a policy folder; ``about``: step grid, classes, training."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "name": name, "kind": kind, **about}, indent=2)
    write_bytes(folder / WEIGHTS, save(weights))
    write_text(folder / ABOUT, text)


def read_policy(folder: Path, space: ActionSpace, bs_count: int) -> Policy:
    """The trained policy in ``folder``, for a scenario's choices; slots and BSs may be more or fewer than trained.

    Raises ``UserError`` where the folder holds no policy, or one for another step grid or other classes.
    """
    try:
        about = json.loads((folder / ABOUT).read_text())
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no trained policy there ({Path(error.filename).name} is missing)") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: the policy cannot be read: {error}") from None
    kind = about.get("kind", SOFTMAX)
    if about.get("format") != FORMAT or kind not in KINDS:
        raise UserError(
            f"{folder}: policy format {about.get('format')!r}, kind {kind!r} is not known here; train it again"
        )
    if about["step_grid"] != list(space.step_grid) or about["classes"] != space.classes:
        raise UserError(
            f"{folder}: trained for step_grid {about['step_grid']} and {about['classes']} classes, the scenario has "
            f"{list(space.step_grid)} and {space.classes}; train one for it"
        )
    return KINDS[kind](about["name"], weights, space, bs_count)
