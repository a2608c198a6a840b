"""Samplers equal diffusers' schedulers on the same noise, on NumPy and torch, and converge to known solutions."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgebrush.diffusion.samplers import SAMPLERS, Ddim, DpmSolver, Euler, Multistep, Sampler, make_sampler
from edgebrush.errors import UserError

SHAPE = (1, 8, 8)
TRAINING_STEPS = 1000
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
ALPHAS_CUMPROD = np.cumprod(1.0 - np.linspace(0.00085**0.5, 0.012**0.5, TRAINING_STEPS) ** 2)
NOISE = np.random.default_rng(3).standard_normal(SHAPE, np.float32)


def network(sample, time):
    """A smooth function of sample and time in [0, 1] that works on NumPy arrays and torch tensors."""
    return sample / (1.0 + sample * sample) + 0.5 * time - 0.3 * sample * time


def sample_with(sampler: Sampler, steps: int, noise=NOISE, predict=network):
    scale = 1.0 if sampler.prediction == "velocity" else TRAINING_STEPS
    trajectory = sampler.start(noise, steps)
    while not trajectory.finished:
        sampler.advance(trajectory, predict(trajectory.sample, trajectory.time / scale))
    return trajectory.sample


def sample_by_diffusers(scheduler):
    torch = pytest.importorskip("torch")
    sample = torch.from_numpy(NOISE)[None]
    for time in scheduler.timesteps:
        sample = scheduler.step(network(sample, float(time) / TRAINING_STEPS), time, sample).prev_sample
    return sample[0].numpy()


@pytest.mark.diffusers
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_is_diffusers(steps, shift):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=(1.0 - np.arange(steps) / steps).tolist())
    np.testing.assert_allclose(Euler(shift).times(steps), scheduler.timesteps / TRAINING_STEPS, atol=1e-6)
    np.testing.assert_allclose(sample_with(Euler(shift), steps), sample_by_diffusers(scheduler), atol=1e-5)


@pytest.mark.diffusers
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_multistep_is_diffusers(steps, shift):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, solver_order=2
    )
    scheduler.set_timesteps(steps)
    # diffusers rounds the timesteps for the network; ours are exact, so the grids are compared as sigmas.
    np.testing.assert_allclose(Multistep(shift).times(steps), scheduler.sigmas[:-1], atol=1e-6)
    scheduler.timesteps = scheduler.sigmas[:-1] * TRAINING_STEPS
    np.testing.assert_allclose(sample_with(Multistep(shift), steps), sample_by_diffusers(scheduler), atol=1e-5)


@pytest.mark.diffusers
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20, 50])
def test_ddim_is_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(**BETAS, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(steps)
    assert Ddim(ALPHAS_CUMPROD).times(steps).tolist() == scheduler.timesteps.tolist()
    np.testing.assert_allclose(sample_with(Ddim(ALPHAS_CUMPROD), steps), sample_by_diffusers(scheduler), atol=1e-4)


@pytest.mark.diffusers
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50])
def test_dpm_solver_is_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS, timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2
    )
    scheduler.set_timesteps(steps)
    assert DpmSolver(ALPHAS_CUMPROD).times(steps).tolist() == scheduler.timesteps.tolist()
    np.testing.assert_allclose(sample_with(DpmSolver(ALPHAS_CUMPROD), steps), sample_by_diffusers(scheduler), atol=1e-4)


def every_sampler() -> list[Sampler]:
    return [Euler(), Multistep(), Ddim(ALPHAS_CUMPROD), DpmSolver(ALPHAS_CUMPROD)]


@pytest.mark.diffusers
@pytest.mark.parametrize("sampler", every_sampler(), ids=list(SAMPLERS))
def test_torch_and_numpy_agree(sampler):
    torch = pytest.importorskip("torch")
    ours = sample_with(sampler, 6)
    theirs = sample_with(sampler, 6, torch.from_numpy(NOISE))
    assert ours.dtype == np.float32 and theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def gaussian_velocity(scale: float):
    """The exact velocity field of a rectified flow to data N(0, scale²); its solution is ``scale * noise``."""
    return lambda x, t: x * (t - scale**2 * (1 - t)) / ((1 - t) ** 2 * scale**2 + t**2)


def gaussian_noise(scale: float):
    def predict(x, t):
        kept = ALPHAS_CUMPROD[round(t * TRAINING_STEPS)]
        return x * (1 - kept) ** 0.5 / (kept * scale**2 + 1 - kept)

    return predict


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (Euler(), Multistep(), gaussian_velocity(0.5)),
        (Ddim(ALPHAS_CUMPROD), DpmSolver(ALPHAS_CUMPROD), gaussian_noise(0.5)),
    ],
    ids=["flow", "noise"],
)
def test_more_steps_and_second_order_reduce_the_error(first, second, field):
    # The exact solution of the noise predictor's flow starts at a scale that is not quite 1.
    start = 1.0 if first.prediction == "velocity" else (0.25 * ALPHAS_CUMPROD[-1] + 1 - ALPHAS_CUMPROD[-1]) ** 0.5
    error = {
        (s, n): np.abs(sample_with(s, n, predict=field) - 0.5 / start * NOISE).max()
        for s in (first, second)
        for n in (10, 40)
    }
    assert error[first, 40] < error[first, 10] / 2.5
    assert error[second, 10] < error[first, 10] / 1.2
    assert error[second, 40] < error[first, 40] / 1.8


def test_a_sampler_must_fit_the_backend():
    flow = SimpleNamespace(name="light", prediction="velocity", alphas_cumprod=None, shift=2.0)
    noise = SimpleNamespace(name="sd", prediction="noise", alphas_cumprod=ALPHAS_CUMPROD, shift=1.0)
    sampler = make_sampler("euler", flow)
    assert isinstance(sampler, Euler) and sampler.shift == 2.0
    assert isinstance(make_sampler("ddim", noise), Ddim)
    with pytest.raises(UserError, match="sampler = 'ddim': light predicts velocity; choose one of euler, multistep"):
        make_sampler("ddim", flow)
    with pytest.raises(UserError, match=r"sampler = 'x': sd predicts noise; choose one of ddim, dpm-solver\+\+"):
        make_sampler("x", noise)
