"""Train another library's learner on our environment: Stable-Baselines3's PPO, the team as one agent.

    pip install ".[sb3]"
    python examples/train_with_sb3.py --decisions 600000 --out trained-sb3
    edgebrush compare --policy examples.sb3_policy:Sb3Policy:trained-sb3

SB3's PPO uses neither the action mask nor the time between decisions, both of which the environment provides.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sb3_policy import MODEL, NORMALISATION, squash  # beside this file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

import edgebrush
from edgebrush.envs import MergedVectorEnv


class Sb3VecEnv(VecEnv):
    """A ``MergedVectorEnv`` behind SB3's interface: a list of infos, seeds set before the reset."""

    def __init__(self, env: MergedVectorEnv):
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return squash(observations)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self):
        observations, rewards, over, _, infos = self.env.step(self._actions)
        each = [{"TimeLimit.truncated": False} for _ in over]
        for e in np.flatnonzero(over):
            each[e]["terminal_observation"] = squash(infos["final_obs"][e])
        return squash(observations), rewards.astype(np.float32), over, each

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self.env, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError("the episodes share one compiled environment")

    def env_method(self, method_name, *args, indices=None, **kwargs):
        raise NotImplementedError("the episodes share one compiled environment")

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False for _ in self._get_indices(indices)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scenario", default="campus", help="name of a preset, or path of a YAML file")
    options.add_argument("--decisions", type=int, default=600_000, help="budget of the training in decisions")
    options.add_argument("--out", type=Path, default=Path("trained-sb3"), help="folder for the trained policy")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()

    vector = Sb3VecEnv(edgebrush.make(options.scenario, "vector", episodes=64))
    env = VecNormalize(VecMonitor(vector), gamma=0.99)
    learner = PPO(
        "MlpPolicy",
        env,
        n_steps=128,
        batch_size=1024,
        n_epochs=5,
        learning_rate=lambda left: 1e-3 * left,
        gamma=0.99,
        gae_lambda=0.95,
        ent_coef=0.002,
        seed=options.seed,
        device="cpu",
        verbose=1,
        policy_kwargs={"net_arch": [256, 256]},
    )
    began = time.perf_counter()
    learner.learn(options.decisions, log_interval=10)
    print(f"PPO: {learner.num_timesteps:,} decisions in {time.perf_counter() - began:.0f} s")

    options.out.mkdir(parents=True, exist_ok=True)
    learner.save(options.out / MODEL)
    deviation = np.sqrt(env.obs_rms.var + env.epsilon)
    np.savez(options.out / NORMALISATION, mean=env.obs_rms.mean, deviation=deviation)
    scenario = "" if options.scenario == "campus" else f" {options.scenario}"
    print(f"now: edgebrush compare{scenario} --policy examples.sb3_policy:Sb3Policy:{options.out}")


if __name__ == "__main__":
    main()
