"""Export a trained network as ``model.onnx``, with half-precision weights, and its ``model.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgebrush.diffusion.onnx import CARD, GRAPH
from edgebrush.files import write_bytes, write_text

from .checkpoint import TrainingSettings

OPSET = 18
SHIFT = 2.0  # of the sampling times towards the noise (SD3: 3); with 1, light got worse beyond 15 Euler steps
MIN_HALVED = 64  # numbers; smaller tensors stay in single precision


def export(model: str, classes: Sequence[str], folder: Path, settings: TrainingSettings, network: nn.Module) -> None:
    """Write a network to ``model.onnx``, and its name, shape and classes to ``model.json``."""
    sample, label = torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.long)
    batch = torch.export.Dim("batch")
    inputs: tuple[Tensor, ...]
    if model == "classifier":
        inputs, names, outputs = (sample,), ["sample"], ["features", "logits"]
    else:
        inputs, names, outputs = (sample, torch.zeros(2), label), ["sample", "time", "label"], ["velocity"]
    program = torch.onnx.export(
        network,
        inputs,
        input_names=names,
        output_names=outputs,
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        external_data=False,
        verbose=False,
    )
    assert program is not None  # it is None only if a file name is given
    write_bytes(folder / GRAPH, halve_weights(program.model_proto).SerializeToString())
    card = {
        "name": model,
        "prediction": None if model == "classifier" else "velocity",
        "shape": [1, 28, 28],
        "shift": SHIFT,
        "classes": list(classes),
        "parameters": sum(value.numel() for value in network.parameters()),
        "training": asdict(settings),
    }
    write_text(folder / CARD, json.dumps(card, indent=2) + "\n")


def halve_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Store a graph's weights in half precision and add casts back to single: half the file size."""
    casts = []
    for weight in graph.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) >= MIN_HALVED:
            name, values = weight.name, onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph
