from pathlib import Path

import pytest

from edgebrush.diffusion.onnx import OnnxBackend, load_model

from .models import write_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder) -> OnnxBackend:
    return load_model(tiny_folder)
