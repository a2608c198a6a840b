"""What the off-policy learners share: their numbers, returns, joint decisions, the loop of acting and learning.

*Long returns.* A choice's cost falls due over the next half minute, 100 decisions on, and what a UE sees of the BSs
is stale; so one-step targets, and short traces on a local value, make selfish policies. The targets are Q(lambda)
(Peng and Williams 1996; Hu et al. 2021 have it in QMIX) over whole sequences from the replay, and only decisions that
``horizon`` others follow are learnt from. The traces are not corrected for the older policies that made them, so the
replay is kept short.

*Copies.* A group's copies share arrivals, tasks and gaps. What they share, above all the arrivals' own noise, is taken
out of the error that a learner descends: the input-driven baseline (Mao et al. 2019) that MAPPO has.

*Units.* An advantage is an actor's logits times ``unit``, the cost that one logit of the new actor is worth, so that Q
starts as minus the social cost under the tuned rule's prices. Training acts by the softmax of the logits, which
explores; the policy that it leaves is sharper, the softmax of Q over ``temperature``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgebrush.policies.actor import raw_inputs

from .networks import Actor, Critic, new_actor, new_critic, scaled
from .onpolicy import gae, less_group_mean
from .replay_buffer import Replay, Sequences
from .rollout import Batch
from .trainer import SeedTraining


@dataclass(frozen=True)
class OffPolicyConfig:
    """Hyperparameters that all of them have."""

    seconds: PositiveFloat | None = None  # the training's length, compilation included; None: ``decisions`` set it
    decisions: PositiveInt = 3_000_000
    copies: PositiveInt = 8  # episodes per group with common arrivals; 1: none
    groups: PositiveInt = 16
    length: PositiveInt = 256  # decisions per episode and update, one sequence
    horizon: PositiveInt = 128  # decisions that must follow one that is learnt from
    replay: PositiveInt = 131_072  # decisions that are remembered, at least one update's
    gradient_steps: PositiveInt = 32  # per update
    minibatch: PositiveInt = 2  # sequences of a group per gradient step
    learning_rate: PositiveFloat = 1.5e-4  # of what chooses; falls linearly to 0 over the training
    value_speed: PositiveFloat = 15.0  # how many times as fast values and mixers learn
    value_updates: NonNegativeInt = 5  # at first they learn alone
    target_share: PositiveFloat = 0.02  # of the way to the online network, that its target moves per gradient step
    temperature: PositiveFloat = 1e-3  # in cost, of the policy that training leaves; near 0: greedy
    discount_per_s: NonNegativeFloat = 0.01  # rho: gamma over a gap dt is exp(-rho dt)
    trace_decay_per_s: NonNegativeFloat = 0.02  # lambda over a gap dt is exp(-decay dt)
    max_grad_norm: PositiveFloat = 0.5
    adam_eps: PositiveFloat = 1e-8
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    own_prices: bool = False  # True: start from no prices instead of the tuned rule's

    def __post_init__(self) -> None:
        if self.horizon >= self.length:
            raise ValueError(f"horizon = {self.horizon}: must be below length = {self.length}")


class Look(NamedTuple):
    """What a new learner is told of the world: a first batch under the rule, sizes, prices."""

    batch: Batch
    layout: Any
    step_grid: np.ndarray
    bs_count: int
    numbers: np.ndarray | None  # the tuned priced greedy rule's

    def new_actor(self, rng: np.random.Generator, hidden: int) -> Actor:
        actor = new_actor(rng, self.layout, self.step_grid, hidden, self.bs_count, self.numbers)
        return scaled(actor, raw_inputs(self.layout, self.batch.observations.reshape(-1, self.layout.size)[::7], np))

    def new_value(self, rng: np.random.Generator, inputs: np.ndarray, hidden: int, outputs: int = 1) -> Critic:
        """A critic of such inputs ``(..., n)``; it says next to nothing at first."""
        return scaled(new_critic(rng, inputs.shape[-1], hidden, gain=0.01, outputs=outputs), inputs)


def pick(x: jax.Array, choices: jax.Array) -> jax.Array:
    """``x (..., C)`` at ``choices (...)``."""
    return jnp.take_along_axis(x, choices[..., None], axis=-1)[..., 0]


def rows(x: jax.Array, axes: int = 1) -> jax.Array:
    """``x`` with all but its last ``axes`` axes made one, as the networks take it."""
    return x.reshape(-1, *x.shape[x.ndim - axes :])


def lambda_returns(config: Any, rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, horizon: int) -> jax.Array:
    """Peng's Q(lambda) ``(G, T - horizon, C)`` from rewards, gaps and the targets' values, all ``(G, T, C)``.

    With an infinite ``trace_decay_per_s`` these are the one-step targets.
    """
    rewards, gaps_s, values = (x.swapaxes(0, 1) for x in (rewards, gaps_s, values))
    advantages = gae(rewards[:-1], gaps_s[:-1], values, config.discount_per_s, config.trace_decay_per_s)
    returns = (values[:-1] + advantages)[: len(values) - horizon]
    return jax.lax.stop_gradient(returns.swapaxes(0, 1))


def squared_error(config: Any, values: jax.Array, returns: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean square of what the values ``(G, T', C)`` miss; with copies, of what differs between them."""
    error = values - returns
    if config.copies > 1:
        error, returns = less_group_mean(error, config.copies), less_group_mean(returns, config.copies)
    loss = (error**2).mean()
    return loss, {"value_loss": loss, "explained_variance": 1.0 - loss / jnp.maximum(returns.var(), 1e-12)}


class Windows(NamedTuple):
    """Sequences cut into joint decisions of ``W`` successive deciders each."""

    observations: jax.Array  # (G, T / W, C, W, O)
    states: jax.Array  # (G, T / W, C, Z), at the first of them
    choices: jax.Array  # (G, T / W, C, W)
    rewards: jax.Array  # (G, T / W, C), discounted to the first of them
    gaps_s: jax.Array  # (G, T / W, C)


def windows(config: Any, sequences: Sequences) -> Windows:
    """Joint decisions of ``config.window`` successive deciders.

    They fall within one broadcast interval or so, so hardly one of them can see what the others chose, as in a slot of
    the slotted literature; and nobody waits for the slot's end, in training no more than where the policy is used. It
    is an approximation: what a later observation of the window does show of an earlier choice takes its credit.
    """

    def cut(x):
        groups, length = x.shape[:2]
        x = x.reshape(groups, length // config.window, config.window, *x.shape[2:])
        return jnp.moveaxis(x, 2, 3)

    gaps_s, rewards = cut(sequences.gaps_s), cut(sequences.rewards)
    elapsed_s = jnp.cumsum(gaps_s, -1) - gaps_s
    return Windows(
        cut(sequences.observations),
        sequences.states[:, :: config.window],
        cut(sequences.choices),
        (jnp.exp(-config.discount_per_s * elapsed_s) * rewards).sum(-1),
        gaps_s.sum(-1),
    )


def check_window(config: Any) -> None:
    """Raise ``ValueError`` where sequences do not fall into whole windows."""
    for name in ("length", "horizon"):
        if getattr(config, name) % config.window:
            raise ValueError(f"{name} = {getattr(config, name)}: must be a multiple of window = {config.window}")


class OffPolicyTraining(SeedTraining):
    """One seed's training of an off-policy learner; an algorithm gives it ``new_learner`` and ``update``."""

    def start(self, numbers: np.ndarray | None) -> Any:
        config, simulator = self.config, self.collector.simulator
        rng, grid = np.random.default_rng(self.seed), simulator.params.step_grid
        rule = new_actor(rng, simulator.layout, grid, 1, self.scenario.bs_count, numbers)
        look = Look(self.collector.collect(rule), simulator.layout, grid, self.scenario.bs_count, numbers)
        room = max(config.groups, config.replay // (config.length * config.copies))
        self.replay = Replay(room, config.length, config.copies, simulator.layout.size, simulator.state_size)
        return self.new_learner(look, rng)

    def new_learner(self, look: Look, rng: np.random.Generator) -> Any:
        """A learner before its first update."""
        raise NotImplementedError

    def update(self, sequences: Sequences, keys: jax.Array, rate: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """The learner after a gradient step on each of ``sequences (gradient_steps, minibatch, T, C, ...)``."""
        raise NotImplementedError

    def learn(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        self.replay.add(batch)
        rng = np.random.default_rng([self.seed, 2, len(self.rows)])
        sequences = self.replay.draw(rng, self.config.gradient_steps, self.config.minibatch)
        return self.update(sequences, jax.random.split(key, self.config.gradient_steps), rate)

    def memory(self) -> dict[str, np.ndarray]:
        return {**super().memory(), **self.replay.state()}

    def take_up(self, saved) -> None:
        super().take_up(saved)
        self.replay.take_up(saved)
