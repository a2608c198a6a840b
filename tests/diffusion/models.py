"""A GDM for tests as an ONNX graph of a few nodes."""

import json
from pathlib import Path

import pytest

CLASSES = ["circle", "square", "star"]


def write_model(folder: Path) -> Path:
    """Write ``velocity = time * sample + label``: of the shipped models' inputs, output and card."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

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
