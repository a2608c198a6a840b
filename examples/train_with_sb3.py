"""Another library's learner on our environment: Stable-Baselines3's PPO on the merged decisions of `campus`.

    pip install "edgebrush[sb3]"
    python examples/train_with_sb3.py --decisions 600000

It prints the mean cost per task on fresh episodes beside those of two rules. SB3's PPO knows neither the
action mask nor the time between decisions, both of which the environment offers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from edgebrush.decision.observation import PRESENT
from edgebrush.sim.envs import MergedVectorEnv, make

TEST_SEED = 1_000_000


class Sb3VecEnv(VecEnv):
    """A ``MergedVectorEnv`` as Stable-Baselines3 wants it: infos one by one, seeds set beforehand."""

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


def squash(observations: np.ndarray) -> np.ndarray:
    """Bits, seconds and shares on one scale, for a plain MLP."""
    return np.sign(observations) * np.log1p(np.abs(observations))


def mean_cost(env: MergedVectorEnv, choose: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Mean cost per task over the episodes from ``TEST_SEED`` on, and the half width of its 95% interval."""
    observations, _ = env.reset(seed=TEST_SEED)
    costs, tasks, running = np.zeros(env.num_envs), np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while running.any():
        observations, rewards, over, _, _ = env.step(choose(observations))
        costs -= np.where(running, rewards, 0.0)
        tasks += running
        running &= ~over
    ratio = costs.sum() / tasks.sum()
    deviation = np.std(costs - ratio * tasks, ddof=1) / tasks.mean()
    return ratio, 1.96 * deviation / np.sqrt(env.num_envs)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scenario", default="campus", help="a preset's name or a YAML file")
    options.add_argument("--decisions", type=int, default=600_000, help="decisions to train on")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()

    vector = Sb3VecEnv(make(options.scenario, "vector", episodes=64))
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

    test = make(options.scenario, "vector", episodes=256)

    def local_only(observations):
        _, _, cost = test.layout.split(observations)
        return cost[:, 0].reshape(test.num_envs, -1).argmin(1)

    def selfish(observations):
        _, candidates, cost = test.layout.split(observations)
        offered = np.where(candidates[..., PRESENT, None, None] > 0, cost, np.inf)
        return offered.reshape(test.num_envs, -1).argmin(1)

    def ppo(observations):
        return learner.predict(env.normalize_obs(squash(observations)), deterministic=True)[0]

    for name, choose in {"local-only": local_only, "selfish greedy": selfish, "SB3 PPO": ppo}.items():
        cost, half_width = mean_cost(test, choose)
        print(f"{name:15} {cost:.4f} ± {half_width:.4f} per task")


if __name__ == "__main__":
    main()
