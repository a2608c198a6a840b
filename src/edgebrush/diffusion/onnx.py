"""GDMs run by ONNX Runtime: those that ship, and what ``edgebrush gdm train`` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from edgebrush.errors import UserError

from .backend import Prompt
from .images import to_pixels

WEIGHTS = Path(__file__).parent / "weights"  # one folder a model: model.onnx and model.json
GRAPH, CARD = "model.onnx", "model.json"
INPUTS = {"sample": "tensor(float)", "time": "tensor(float)", "label": "tensor(int64)"}


class OnnxBackend:
    """A class-conditional rectified flow, (B, 1, 28, 28) in [-1, 1]; samples are NumPy arrays."""

    prediction: Literal["velocity", "noise"] = "velocity"
    alphas_cumprod: np.ndarray | None = None

    def __init__(self, name: str, shape: tuple[int, ...], classes: Sequence[str], session: Any, shift: float = 1.0):
        self.name, self.shape, self.classes = name, shape, tuple(classes)
        self.session, self.shift = session, shift

    def check(self, prompt: Prompt) -> None:
        if prompt.text not in self.classes:
            raise UserError(f"class = {prompt.text!r}: {self.name} knows {', '.join(self.classes)}")
        if prompt.guidance != 1.0 or prompt.negative:
            raise UserError(
                f"guidance = {prompt.guidance:g}, negative = {prompt.negative!r}: {self.name} was trained without "
                "guidance; leave them at 1 and empty"
            )

    def encode(self, prompt: Prompt) -> int:
        """The class's label."""
        self.check(prompt)
        return self.classes.index(prompt.text)

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> np.ndarray:
        inputs = {
            "sample": np.asarray(samples, np.float32),
            "time": np.asarray(times, np.float32),
            "label": np.asarray(conditions, np.int64),
        }
        return self.session.run(["velocity"], inputs)[0]

    def decode(self, sample: np.ndarray) -> np.ndarray:
        """The image, (28, 28)."""
        return to_pixels(sample[None])[0]

    def noise(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(self.shape, np.float32)


def shipped_models() -> list[str]:
    """The names of the GDMs that ship."""
    return sorted(card.parent.name for card in WEIGHTS.glob(f"*/{CARD}") if read_card(card)["prediction"])


def load_model(name_or_folder: str | Path, threads: int = 1) -> OnnxBackend:
    """A shipped GDM by its name, or one in a folder of model.onnx and model.json; ``threads`` of one evaluation.

    Raises ``UserError`` where there is no such model or its files are not sound.
    """
    folder = WEIGHTS / name_or_folder if str(name_or_folder) in shipped_models() else Path(name_or_folder)
    if not (folder / CARD).is_file():
        raise UserError(
            f"model = {str(name_or_folder)!r}: neither a shipped model ({', '.join(shipped_models())}) nor a folder "
            f"with {GRAPH} and {CARD}"
        )
    card = read_card(folder / CARD)
    if card["prediction"] != "velocity":
        raise UserError(f"{folder / CARD}: prediction = {card['prediction']!r}: only velocity can be sampled here")
    session = open_session(folder / GRAPH, threads)
    found = {each.name: each.type for each in session.get_inputs()}
    if found != INPUTS:
        raise UserError(f"{folder / GRAPH}: its inputs are {found}, not {INPUTS}; export it by `edgebrush gdm train`")
    return OnnxBackend(card["name"], tuple(card["shape"]), card["classes"], session, card.get("shift", 1.0))


def read_card(path: Path) -> dict[str, Any]:
    """A model.json with name, prediction, shape and classes in it."""
    try:
        card = json.loads(path.read_text())
        missing = {"name", "prediction", "shape", "classes"} - set(card)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a model card that can be read: {error}") from None
    if missing:
        raise UserError(f"{path}: {', '.join(sorted(missing))} missing; export the model again")
    return card


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX graph on the processor. Raises ``UserError`` where the file is not there or is no ONNX graph."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the model's weights are missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common class of its errors
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path}: not an ONNX graph that can be run ({first_line}); copy it again") from None
