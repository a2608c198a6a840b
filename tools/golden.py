"""Digests of what edgebrush computes, to hold before a change against after it: the same seeds, the same numbers.

Run it on both versions on the same machine and compare the outputs line by line::

    .venv/bin/python tools/golden.py > before.txt      # 10 minutes on 2 cores
    .venv/bin/python tools/golden.py rules observations   # some parts alone

A digest is the first 16 hex digits of a SHA-256. Weights and costs are digested bit for bit. Times, dates, versions
and the names of settings in a policy's ``policy.json`` are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.onnx import load_model, shipped_models
from edgebrush.diffusion.samplers import make_sampler
from edgebrush.evaluation.episodes import RuleEvaluator
from edgebrush.jobs.local import LocalExecutor
from edgebrush.learning.registry import ALGORITHMS
from edgebrush.policies.load import shipped_rules
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.presets import preset_names
from edgebrush.sim.simulator import Simulator
from edgebrush.study.compare import compare
from edgebrush.study.findings import Plan
from edgebrush.study.reproduce import reproduce
from edgebrush.study.train import train_policies
from edgebrush.tuning.cmaes import Budget

EPISODES = 4  # of each rule on each preset
STEPS = 40  # decisions whose observations are digested
DECISIONS = 98_304  # of each learner: three updates
WARM_UP = ("critic_updates", "value_updates")  # one update in which critics learn alone, then the actor learns, too
SMALL_STUDY = Plan(2, 1, 32_768, 32_768, 1, 4, 2, Budget(16, 2))
TIMES = {"finished", "timings_s", "versions", "machine", "command", "training_s", "seconds"}  # differ from run to run

Line = tuple[str, str]


def digest(*parts: bytes) -> str:
    """The first 16 hex digits of the parts' SHA-256."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def digest_array(array: np.ndarray) -> str:
    """A digest of an array's type, shape and bytes."""
    return digest(str(array.dtype).encode(), str(array.shape).encode(), np.ascontiguousarray(array).tobytes())


def digest_json(content: Any) -> str:
    """A digest of what JSON can hold, without ``TIMES``."""
    return digest(json.dumps(without_times(content), sort_keys=True).encode())


def without_times(content: Any) -> Any:
    """The content without the entries that differ from run to run."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(each) for each in content] if isinstance(content, list) else content


def rules() -> Iterator[Line]:
    """The mean cost of every rule on the same episodes of every preset."""
    for name in preset_names():
        scenario = load_scenario(name)
        for rule in shipped_rules(scenario) or ():
            cost = RuleEvaluator(scenario, rule.name, 7 + np.arange(EPISODES), 1).costs([rule.parameters])
            yield f"{name}/{rule.name}", digest_array(cost)


def observations() -> Iterator[Line]:
    """Observations, global states and rewards of random choices on every preset."""
    for name in preset_names():
        simulator = Simulator(load_scenario(name), 2, states=True, threads=1)
        rng = np.random.default_rng(3)
        simulator.reset(np.array([11, 12]))
        seen: list[np.ndarray] = []
        for _ in range(STEPS):
            seen += [simulator.observations.copy(), simulator.states.copy(), simulator.rewards.copy()]
            simulator.step(rng.integers(simulator.action_space.count, size=2))
        yield name, digest(*(array.tobytes() for array in seen))


def images() -> Iterator[Line]:
    """An image of every shipped model by every sampler that can make one."""
    for name in shipped_models():
        backend = load_model(name)
        for sampler in ("euler", "multistep"):
            engine = Engine(backend, make_sampler(sampler, backend), batch_limit=1, queue_limit=1, max_steps=10)
            job = engine.submit(Request(Prompt("sneaker"), steps=6, seed=5))
            while engine.round():
                pass
            assert job.image is not None
            yield f"{name}/{sampler}", digest_array(job.image)


def learners() -> Iterator[Line]:
    """The weights that every learner leaves after a few decisions on the preset pair."""
    scenario = load_scenario("pair")
    for name in ALGORITHMS:
        settings = {field.name: 1 for field in fields(ALGORITHMS[name].config) if field.name in WARM_UP}
        with tempfile.TemporaryDirectory() as folder:
            (policy,) = train_policies(
                scenario, Path(folder) / name, algorithm=name, seeds=1, decisions=DECISIONS, settings=settings
            )
            weights = load_file(policy / "actor.safetensors")
            yield name, digest(*(each.encode() + digest_array(weights[each]).encode() for each in sorted(weights)))


def comparison() -> Iterator[Line]:
    """The results of ``compare`` on the preset testbed with one short training."""
    with tempfile.TemporaryDirectory() as folder:
        run = compare(load_scenario("testbed"), Path(folder) / "run", seeds=1, decisions=32_768, episodes=8)
        yield "results.json", digest_json(json.loads(json.dumps(run.results)))


def study() -> Iterator[Line]:
    """The results and figures' rows of a tiny ``reproduce``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "study"
        reproduce(
            load_scenario("pair"),
            out,
            SMALL_STUDY,
            figures=["comparison", "improvement", "load"],
            algorithms=["mappo", "masl+common"],
            executor=LocalExecutor(2),
        )
        yield "results.json", digest_json(json.loads((out / "results.json").read_text()))
        for path in sorted((out / "figures").glob("*.csv")):
            yield path.name, digest(path.read_bytes())


PARTS: dict[str, Callable[[], Iterator[Line]]] = {
    part.__name__: part for part in (rules, observations, images, learners, comparison, study)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"these alone: {', '.join(PARTS)}; none: all")
    chosen = parser.parse_args().parts
    for part in chosen:
        if part not in PARTS:
            sys.exit(f"part {part!r}: not known; give some of {', '.join(PARTS)}")
    for part in chosen or PARTS:
        for name, found in PARTS[part]():
            print(f"{part} {name} {found}", flush=True)


if __name__ == "__main__":
    main()
