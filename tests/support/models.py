"""GDMs for tests whose network is a formula, ``velocity = time * sample + label``: no training, no weights."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebrush.diffusion.images import to_pixels
from edgebrush.diffusion.onnx import OnnxBackend, load_model
from edgebrush.errors import UserError

CLASSES = ["circle", "square", "star"]


class Formula:
    """A backend that computes the formula in NumPy."""

    name, prediction, shape, alphas_cumprod, shift = "formula", "velocity", (1, 28, 28), None, 1.0
    guidance = 1.0
    classes = CLASSES

    def check(self, prompt):
        if prompt.text not in CLASSES:
            raise UserError(f"class = {prompt.text!r}: formula knows {', '.join(CLASSES)}")

    def check_size(self, size):
        if size not in (None, (28, 28)):
            raise UserError(f"size = {size}: formula generates 28x28")

    def encode(self, prompt):
        return CLASSES.index(prompt.text)

    def predict(self, samples, times, conditions):
        column = (-1, 1, 1, 1)
        times, labels = np.reshape(times, column), np.reshape(conditions, column)
        return (np.stack(samples) * times + labels).astype(np.float32)

    def decode(self, samples):
        return list(to_pixels(np.stack(samples)))

    def noise(self, seed, size=None):
        return np.random.default_rng(seed).standard_normal(self.shape, np.float32)

    def synchronize(self):
        pass


class RecordingBackend:
    """Wraps a backend: records the times of every batch and the number of images decoded together.

    It fails where ``fail`` names a method.
    """

    def __init__(self, backend):
        self.backend, self.batches, self.decoded, self.fail = backend, [], [], ""

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def predict(self, samples, times, conditions):
        self.batches.append(list(times))
        if self.fail == "predict":
            raise RuntimeError("out of memory")
        return self.backend.predict(samples, times, conditions)

    def encode(self, prompt):
        if self.fail == "encode":
            raise RuntimeError("no such token")
        return self.backend.encode(prompt)

    def decode(self, samples):
        self.decoded.append(len(samples))
        if self.fail == "decode":
            raise RuntimeError("no decoder")
        return self.backend.decode(samples)


def write_model(folder: Path) -> Path:
    """Write the formula as an ONNX graph with the inputs, the output and the card of a shipped model."""

    def value(name, kind, *shape):
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("Reshape", ["time", "column"], ["time_column"]),
        helper.make_node("Cast", ["label"], ["label_float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["label_float", "column"], ["label_column"]),
        helper.make_node("Mul", ["sample", "time_column"], ["scaled"]),
        helper.make_node("Add", ["scaled", "label_column"], ["velocity"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            value("sample", TensorProto.FLOAT, "batch", 1, 28, 28),
            value("time", TensorProto.FLOAT, "batch"),
            value("label", TensorProto.INT64, "batch"),
        ],
        [value("velocity", TensorProto.FLOAT, "batch", 1, 28, 28)],
        [helper.make_tensor("column", TensorProto.INT64, [4], [-1, 1, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    card = {"name": "tiny", "prediction": "velocity", "shape": [1, 28, 28], "classes": CLASSES}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def write_classifier(folder: Path) -> Path:
    """Write a classifier of ``CLASSES`` whose features are the mean brightness of an image's three thirds."""
    thirds = np.zeros((784, 3), np.float32)
    for third, rows in enumerate(np.array_split(np.arange(784), 3)):
        thirds[rows, third] = 1.0 / len(rows)
    nodes = [
        helper.make_node("Reshape", ["sample", "flat"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "thirds"], ["features"]),
        helper.make_node("Identity", ["features"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("sample", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("features", "logits")],
        [helper.make_tensor("flat", TensorProto.INT64, [2], [-1, 784]), numpy_helper.from_array(thirds, "thirds")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    card = {"name": "classifier", "prediction": None, "shape": [1, 28, 28], "classes": CLASSES}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def draw_images(seed: int, n: int):
    """Draw an ``ImageSet`` of n images, classes in turn: the third of the class is bright, the rest is noise."""
    from edgebrush.diffusion.training.data import ImageSet

    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(CLASSES)
    images = rng.integers(0, 60, (n, 28, 28)).astype(np.uint8)
    for image, label, light in zip(images, labels, rng.integers(60, 190, n), strict=True):
        image.reshape(-1)[np.array_split(np.arange(784), 3)[label]] += np.uint8(light)
    return ImageSet(images, labels, tuple(CLASSES))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder) -> OnnxBackend:
    return load_model(tiny_folder)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory) -> Path:
    """A classifier whose features are three means, with the reference of drawn images beside it."""
    from edgebrush.profiling.quality import write_reference

    folder = write_classifier(tmp_path_factory.mktemp("classifier") / "classifier")
    write_reference(draw_images(1, 600), draw_images(2, 300), folder)
    return folder
