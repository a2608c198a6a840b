from contextlib import suppress
from pathlib import Path

import pytest

from edgebrush.diffusion.onnx import OnnxBackend, load_model
from tests.support.models import draw_images, write_classifier, write_model

with suppress(ImportError):
    import torch

    torch.set_num_threads(1)  # spinning barriers stall where another job has the cores


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder) -> OnnxBackend:
    return load_model(tiny_folder)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory) -> Path:
    """A classifier whose features are three means, with the reference of drawn images beside it."""
    from edgebrush.diffusion.quality import write_reference

    folder = write_classifier(tmp_path_factory.mktemp("judge") / "classifier")
    write_reference(draw_images(1, 600), draw_images(2, 300), folder)
    return folder
