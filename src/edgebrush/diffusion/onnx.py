"""The ONNX Runtime backend: models that ship with the package, and models from ``edgebrush gdm train``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgebrush.errors import UserError

from .backend import PredictionType, Prompt, Shift, Size, size_text
from .images import SIDE, to_pixels

WEIGHTS = Path(__file__).parent / "weights"  # one folder per model, with model.onnx and model.json
GRAPH, CARD = "model.onnx", "model.json"
INPUTS = {"sample": "tensor(float)", "time": "tensor(float)", "label": "tensor(int64)"}


class OnnxBackend:
    """A class-conditional rectified flow on (B, 1, 28, 28) in [-1, 1]; samples are NumPy arrays."""

    prediction: PredictionType = "velocity"
    alphas_cumprod: np.ndarray | None = None
    guidance = 1.0  # trained without

    def __init__(self, name: str, shape: tuple[int, ...], classes: Sequence[str], session: Any, shift: float = 1.0):
        self.name, self.shape, self.classes = name, shape, tuple(classes)
        self.session = session
        self.shift: Shift = shift

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for an unknown class, or for guidance, which the model was not trained with."""
        if prompt.text not in self.classes:
            raise UserError(f"class = {prompt.text!r}: {self.name} knows {', '.join(self.classes)}")
        if prompt.guidance not in (None, 1.0) or prompt.negative:
            raise UserError(
                f"guidance = {prompt.guidance or 1:g}, negative = {prompt.negative!r}: {self.name} was trained without "
                "guidance; leave guidance at 1 and the negative prompt empty"
            )

    def check_size(self, size: Size | None) -> None:
        """Raise ``UserError`` for any size but the model's own."""
        if size not in (None, (SIDE, SIDE)):
            raise UserError(f"size = {size_text(size)}: {self.name} generates {size_text((SIDE, SIDE))}")

    def encode(self, prompt: Prompt) -> int:
        """Return the label of the class. Raises ``UserError``."""
        self.check(prompt)
        return self.classes.index(prompt.text)

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> np.ndarray:
        """Return the velocities (B, 1, 28, 28)."""
        inputs = {
            "sample": np.asarray(samples, np.float32),
            "time": np.asarray(times, np.float32),
            "label": np.asarray(conditions, np.int64),
        }
        return self.session.run(["velocity"], inputs)[0]

    def decode(self, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Convert samples to images (28, 28), uint8."""
        return list(to_pixels(np.stack(samples)))

    def noise(self, seed: int, size: Size | None = None) -> np.ndarray:
        """Draw the initial sample."""
        return np.random.default_rng(seed).standard_normal(self.shape, np.float32)

    def synchronize(self) -> None:
        """Do nothing: evaluations on the CPU are done when they return."""


def shipped_models() -> list[str]:
    """Return the names of the GDMs that ship with the package, sorted."""
    return sorted(card.parent.name for card in WEIGHTS.glob(f"*/{CARD}") if read_card(card)["prediction"])


def load_model(name_or_folder: str | Path, threads: int = 1) -> OnnxBackend:
    """Load a shipped GDM by its name, or one from a folder with model.onnx and model.json.

    ``threads`` is the number of CPU threads per evaluation. Raises ``UserError`` if there is no such model or its files
    are damaged.
    """
    folder = WEIGHTS / name_or_folder if str(name_or_folder) in shipped_models() else Path(name_or_folder)
    if not (folder / CARD).is_file():
        raise UserError(
            f"model = {str(name_or_folder)!r}: neither a shipped model ({', '.join(shipped_models())}) nor a folder "
            f"with {GRAPH} and {CARD}"
        )
    card = read_card(folder / CARD)
    if card["prediction"] != "velocity":
        raise UserError(f"{folder / CARD}: prediction = {card['prediction']!r}: this backend supports velocity only")
    session = open_session(folder / GRAPH, threads)
    found = {each.name: each.type for each in session.get_inputs()}
    if found != INPUTS:
        raise UserError(f"{folder / GRAPH}: its inputs are {found}, not {INPUTS}; export it by `edgebrush gdm train`")
    return OnnxBackend(card["name"], tuple(card["shape"]), card["classes"], session, card.get("shift", 1.0))


def read_card(path: Path) -> dict[str, Any]:
    """Read a model.json, which has at least name, prediction, shape and classes. Raises ``UserError``."""
    try:
        card = json.loads(path.read_text())
        missing = {"name", "prediction", "shape", "classes"} - set(card)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a readable model card: {error}; export the model again") from None
    if missing:
        raise UserError(f"{path}: {', '.join(sorted(missing))} missing; export the model again")
    return card


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load an ONNX graph on the CPU. Raises ``UserError`` if the file is missing or is not an ONNX graph."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; export the model again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common exception class
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path}: ONNX Runtime cannot load it ({first_line}); export or copy it again") from None
