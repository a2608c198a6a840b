"""Preparing a pipeline: the batch that the memory holds, found by trying; CUDA graphs, where there is a GPU."""

import logging

import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.samplers import make_sampler
from edgebrush.errors import UserError

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.diffusers

from edgebrush.diffusion import warm_up as module  # noqa: E402
from edgebrush.diffusion.cuda_graphs import ROWS, no_waiting, padded  # noqa: E402
from edgebrush.diffusion.shapes import build_shape  # noqa: E402
from edgebrush.diffusion.warm_up import largest_fitting, warm_up  # noqa: E402
from tests.support.pipelines import MAKERS, load, prompts, save  # noqa: E402

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def tiny_sd():
    return build_shape("tiny-sd15", "cpu")


def memory_for(batch, tried):
    """``run_batch`` on a GPU whose memory holds ``batch`` images."""

    def run_batch(backend, condition, images):
        tried.append(images)
        if images > batch:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return run_batch


@pytest.mark.parametrize(("holds", "expected"), [(100, 24), (24, 24), (23, 23), (7, 7), (1, 1)])
def test_the_largest_batch_that_fits_is_found_by_trying(tiny_sd, monkeypatch, holds, expected):
    tried = []
    monkeypatch.setattr(module, "run_batch", memory_for(holds, tried))
    assert largest_fitting(tiny_sd, None, 24) == expected
    assert len(tried) <= 7


def test_a_model_that_does_not_fit_is_a_user_error(tiny_sd, monkeypatch):
    monkeypatch.setattr(module, "run_batch", memory_for(0, []))
    with pytest.raises(UserError, match="does not fit in the memory of cpu"):
        largest_fitting(tiny_sd, None, 8)


def test_on_a_cpu_the_wanted_batch_is_kept(tiny_sd):
    prepared = warm_up(tiny_sd, 5)
    assert (prepared.batch_limit, prepared.graphs) == (5, 0)
    assert str(prepared).startswith("batches of at most 5, warm-up")


def test_batches_are_padded_to_the_captured_numbers_of_rows():
    assert [padded(count) for count in (1, 5, 7, 8, 9, 16)] == [1, 6, 8, 8, 10, 16]
    assert all(padded(count) <= 1.34 * count for count in range(1, ROWS[-1] + 1))


@pytest.fixture(scope="module")
def gpu_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    for kind in MAKERS:
        save(root, kind)
    return root


def images(backend, kind, steps=(4, 2, 5)):
    requests = [Request(prompt, count, n) for n, (prompt, count) in enumerate(zip(prompts(kind), steps, strict=True))]
    engine = Engine(backend, make_sampler(None, backend), 3, 10, 50)
    jobs = [engine.submit(request) for request in requests]
    while engine.round():
        pass
    assert all(job.state == "done" for job in jobs), [job.error for job in jobs]
    return torch.stack([torch.from_numpy(job.image).float() for job in jobs])


@on_gpu
@pytest.mark.parametrize("kind", MAKERS)
def test_graphs_give_the_images_of_single_launches(gpu_folders, kind, caplog):
    backend = load(gpu_folders, kind, "cuda")
    eager, cpu = images(backend, kind), images(load(gpu_folders, kind), kind)
    with caplog.at_level(logging.WARNING):
        warm_up(backend, 8)
    captured = images(backend, kind)
    print(f"{kind}: graphs {len(backend.graphs.captures) if backend.graphs else 0}, {caplog.messages}", end=" ")
    print(f"eager {(captured - eager).abs().max():g}, cpu {(captured - cpu).abs().max():g}")
    assert (captured - eager).abs().max() <= 2
    assert (captured - cpu).abs().mean() <= 1  # Sana in bfloat16 differs by more in single pixels
    if kind in ("sd", "sdxl", "dit", "sd3"):
        assert len(backend.graphs.captures) == len(ROWS)


@on_gpu
def test_no_round_waits_for_the_gpu(gpu_folders):
    backend = load(gpu_folders, "sdxl", "cuda")
    warm_up(backend, 4)
    conditions = [backend.encode(each) for each in prompts("sdxl")]
    sampler = make_sampler(None, backend)
    trajectories = [sampler.start(backend.noise(n), 5) for n in range(3)]
    with no_waiting():
        for _ in range(3):
            samples, times = [each.sample for each in trajectories], [each.time for each in trajectories]
            for trajectory, row in zip(trajectories, backend.predict(samples, times, conditions), strict=True):
                sampler.advance(trajectory, row)


@on_gpu
def test_a_network_that_waits_for_the_gpu_runs_without_graphs(gpu_folders, caplog, monkeypatch):
    backend = load(gpu_folders, "sd", "cuda")
    predict = backend.family.predict

    def waiting(samples, times, columns):
        assert times.sum().item() >= 0
        return predict(samples, times, columns)

    monkeypatch.setattr(backend.family, "predict", waiting)
    with caplog.at_level(logging.WARNING):
        prepared = warm_up(backend, 4)
    assert prepared.graphs == 0 and "no CUDA graphs" in caplog.text
    images(backend, "sd")
    torch.rand(1, device="cuda")  # after a capture that failed, this raised an error


@on_gpu
def test_the_gpus_memory_limits_the_batch():
    backend = build_shape("sd15", "cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(8 * 2**30 / total)
    try:
        prepared = warm_up(backend, 64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= prepared.batch_limit < 64
    (image,) = backend.decode([backend.noise(0)])
    assert image.shape == (512, 512, 3)
    backend.encode(Prompt("class", guidance=7.5))
