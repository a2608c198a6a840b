"""Little worlds for the simulator's tests: invented profiles, a plain scenario, whole episodes."""

import json
from pathlib import Path

import numpy as np

from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator


def write_profile(folder: Path, name: str, role: str, **figures: float) -> str:
    """Writes a profile of a second and a joule per step, unless ``figures`` say otherwise; its file name."""
    compute = dict(encode_s=0.0, decode_s=0.0, round_intercept_s=0.0, round_slope_s=1.0)
    energy = dict(fixed_j=0.0, round_intercept_j=0.0, round_slope_j=1.0)
    quality = dict(ceiling=0.9, half_steps=3.0, sharpness=1.5)
    for block in (compute, energy, quality):
        block |= {key: value for key, value in figures.items() if key in block}
    points = []
    for k in (1, 4, 16):
        at = quality["ceiling"] / (1 + (quality["half_steps"] / k) ** quality["sharpness"])
        points.append(dict(steps=k, quality=at))
    profile = dict(
        name=name,
        title=name,
        role=role,
        model="none",
        hardware="none",
        resolution_px=1,
        compute=dict(source="a test", **compute),
        energy=dict(source="a test", **energy),
        quality=dict(source="a test", points=points, error=0.0, **quality),
    )
    (folder / f"{name}.json").write_text(json.dumps(profile))
    return f"{name}.json"


def plain(folder: Path = Path(), **fields) -> Scenario:
    """One UE, one BS, one kind of request, no fading; ``fields`` replace whole top-level fields."""
    request = dict(
        name="any",
        share=1.0,
        delay_weight=1.0,
        energy_weight=0.5,
        quality_weight=1.0,
        bits_in=1e4,
        bits_out=1e5,
    )
    defaults = dict(
        name="plain",
        title="a test",
        arrivals=dict(kind="poisson", rate_hz=0.5),
        requests=[request],
        ues=[dict(name="phone", count=1, profile="sd15-snapdragon-8-elite")],
        bss=[dict(name="bs", profile="sd15-a100")],
        radio=dict(fading="none"),
        directory=folder,
    )
    return Scenario.model_validate({**defaults, **fields})


def deciding(simulator: Simulator, e: int = 0) -> tuple[int, int, float]:
    """UE, number and moment of the decision that episode e waits for."""
    episode = simulator.worlds.episode[e, 0]
    task = simulator.worlds.task[e, episode["deciding"]]
    return int(task["ue"]), int(task["number"]), float(episode["time"])


def play(simulator: Simulator, seeds, decide, **options) -> np.ndarray:
    """Plays whole episodes; ``decide(simulator)`` gives a choice per episode. The rewards' sums ``(E,)``."""
    simulator.reset(np.asarray(seeds), **options)
    total = np.zeros(simulator.episodes)
    while simulator.alive.any():
        simulator.step(decide(simulator))
        total += simulator.rewards
    return total


def at_random(seed: int):
    """A policy that draws any choice with equal chance."""
    draw = np.random.default_rng(seed)
    return lambda simulator: draw.integers(simulator.action_space.count, size=simulator.episodes)
