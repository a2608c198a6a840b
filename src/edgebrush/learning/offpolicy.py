"""What the off-policy learners share: configs, losses, joint decisions, and the loop of replay and gradient steps.

*Long returns.* The effects of a choice last for half a minute, about 100 decisions, and a UE's view of the BSs is
stale. With one-step targets, or short traces on a local value, policies become selfish. The targets are therefore
Q(lambda) (Peng and Williams 1996; Hu et al. 2021 use it in QMIX) over whole sequences from the replay buffer, and only
decisions that ``horizon`` others follow are learnt from. The traces are not corrected for the older policies that
collected them, so the buffer is small.

*Copies.* The copies of a group share arrivals, tasks and gaps. Their mean, most of which is the arrivals' noise, is
subtracted from the error: the input-driven baseline (Mao et al. 2019) that MAPPO uses too, see returns.py.

*Scale.* An advantage is an actor's logits times ``logit_cost``, the cost of one logit of the new actor. So Q starts as
minus the social cost under the tuned rule's prices. Training acts by the softmax of the logits, which explores. The
deployed policy is the softmax of Q over ``temperature``, which is sharper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies.actor import FORBIDDEN
from edgebrush.policies.folder import MLP

from .networks import Actor, Critic, fit_input_scale, logit_cost_of, new_actor, new_critic
from .optimiser import Stats, gradient_step, make_optimiser
from .replay_buffer import ReplayBuffer, Sequences
from .returns import gae, subtract_group_mean
from .rollout import Array, Rollout
from .trainer import SeedTraining, TrainingConfig

AnyLearner = TypeVar("AnyLearner", bound=tuple[Any, ...])
Loss = Callable[..., tuple[jax.Array, Stats]]  # (networks, learner, sequences, [key,] config), see ``gradient_step``
Rates = tuple[jax.Array, jax.Array]  # learning rates of actors and advantages, and of values and mixers


@dataclass(frozen=True)
class OffPolicyConfig(TrainingConfig):
    """Hyperparameters of every off-policy learner; see ``TrainingConfig`` for the rest."""

    decisions: PositiveInt = 3_000_000
    groups: PositiveInt = 16
    length: PositiveInt = 256  # decisions per episode and update; one sequence of the replay buffer
    horizon: PositiveInt = 128  # decisions that must follow one that is learnt from
    replay: PositiveInt = 131_072  # capacity of the replay buffer in decisions, at least one update's
    gradient_steps: PositiveInt = 32  # per update
    minibatch: PositiveInt = 2  # sequences of a group per gradient step
    learning_rate: PositiveFloat = 1.5e-4  # of actors and advantages; falls linearly to 0 over the training
    value_speed: PositiveFloat = 15.0  # learning rate of values and mixers, as a multiple of ``learning_rate``
    value_updates: NonNegativeInt = 5  # updates at the start in which only values and mixers learn
    target_share: PositiveFloat = 0.02  # tau: share of the way that targets move at each gradient step
    temperature: PositiveFloat = 1e-3  # of the deployed policy, in cost; near 0: greedy
    trace_decay_per_s: NonNegativeFloat = 0.02
    max_grad_norm: PositiveFloat = 0.5
    adam_eps: PositiveFloat = 1e-8
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    epsilon: NonNegativeFloat = 0.05  # perceptrons only: final share of random choices of D3QN, VDN and QMIX
    epsilon_decisions: PositiveFloat = 0.1  # until then it falls from 1, as a share of the training

    def __post_init__(self) -> None:
        if self.horizon >= self.length:
            raise ValueError(f"horizon = {self.horizon}: must be below length = {self.length}")


@dataclass(frozen=True)
class JointConfig(OffPolicyConfig):
    """Hyperparameters of learners of joint decisions, see ``join_decisions``."""

    window: PositiveInt = 4  # deciders of a joint decision

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("length", "horizon"):
            if getattr(self, name) % self.window:
                raise ValueError(f"{name} = {getattr(self, name)}: must be a multiple of window = {self.window}")


class InitContext(NamedTuple):
    """What the networks of a new learner depend on: its config, a first rollout, the sizes, the rule's parameters."""

    config: OffPolicyConfig
    rollout: Rollout
    layout: ObservationLayout
    bs_count: int
    rule_parameters: np.ndarray | None  # None: start without prices

    def new_actor(self, rng: np.random.Generator) -> Actor:
        """An actor that starts as the rule; a perceptron starts with nearly equal logits."""
        config = self.config
        actor = new_actor(rng, self.layout, config.actor_hidden, self.bs_count, self.rule_parameters, config.network)
        observations = self.rollout.observations.reshape(-1, self.layout.size)[::7]
        return fit_input_scale(actor, actor.raw_inputs(observations, np))

    def logit_cost(self, actor: Actor) -> jax.Array:
        """The cost of one logit of a new actor: the price of the rule's own, or the returns' standard deviation."""
        return jnp.float32(self.returns.std()) if self.config.network == MLP else logit_cost_of(actor)

    def new_network(self, rng: np.random.Generator, inputs: np.ndarray, outputs: int = 1) -> Critic:
        """A network for inputs like these, ``(..., n)``. Its outputs are close to zero."""
        return fit_input_scale(
            new_critic(rng, inputs.shape[-1], self.config.critic_hidden, gain=0.01, outputs=outputs), inputs
        )

    def new_value(self, rng: np.random.Generator, inputs: np.ndarray) -> Critic:
        """A value network for inputs like these, ``(..., n)``.

        As published, its outputs start at the mean of the first rollout's returns, in units of their deviation.
        """
        value = self.new_network(rng, inputs)
        if self.config.network != MLP:
            return value
        returns = self.returns
        scales = jnp.float32(returns.mean()), jnp.float32(returns.std())
        return eqx.tree_at(lambda value: (value.mean, value.deviation), value, scales)

    @property
    def returns(self) -> np.ndarray:
        """Returns of the first half of the first rollout, without traces or bootstrap."""
        rollout = self.rollout
        rewards, no_values = (
            jnp.asarray(rollout.rewards),
            jnp.zeros((len(rollout.rewards) + 1, rollout.rewards.shape[1])),
        )
        returns = gae(rewards, jnp.asarray(rollout.gaps_s), no_values, self.config.discount_per_s, 0.0)
        return np.asarray(returns)[: len(returns) // 2]


def take_along_choices(x: jax.Array, choices: jax.Array) -> jax.Array:
    """``x (..., C)`` at ``choices (...)``."""
    return jnp.take_along_axis(x, choices[..., None], axis=-1)[..., 0]


def flatten_batch(x: Array, axes: int = 1) -> Array:
    """``x`` with all axes but the last ``axes`` merged into one, as the networks take it."""
    return x.reshape(-1, *x.shape[x.ndim - axes :])


def value_loss(config: OffPolicyConfig, values: jax.Array, returns: jax.Array) -> tuple[jax.Array, Stats]:
    """Mean squared error of values ``(G, T', C)``; with copies, of the error without its group mean."""
    error = values - returns
    if config.copies > 1:
        error, returns = subtract_group_mean(error, config.copies), subtract_group_mean(returns, config.copies)
    loss = (error**2).mean()
    return loss, {"value_loss": loss, "explained_variance": 1.0 - loss / jnp.maximum(returns.var(), 1e-12)}


class JointDecisions(NamedTuple):
    """Sequences as joint decisions of ``W`` successive deciders each."""

    observations: jax.Array  # (G, T / W, C, W, O)
    states: jax.Array  # (G, T / W, C, Z), at the first decider
    choices: jax.Array  # (G, T / W, C, W)
    rewards: jax.Array  # (G, T / W, C), discounted to the first decider
    gaps_s: jax.Array  # (G, T / W, C)


def join_decisions(config: JointConfig, sequences: Sequences) -> JointDecisions:
    """Joint decisions of ``config.window`` successive deciders.

    They fall within about one broadcast interval, so hardly any of them can see the others' choices, as in a slot of
    the slotted literature. Unlike there, nobody waits for the end of a slot, neither in training nor in use. This is an
    approximation: where a later observation of the window does show an earlier choice, it takes the credit for it.
    """
    window = config.window
    gaps_s, rewards = split_windows(sequences.gaps_s, window), split_windows(sequences.rewards, window)
    elapsed_s = jnp.cumsum(gaps_s, -1) - gaps_s
    return JointDecisions(
        split_windows(sequences.observations, window),
        sequences.states[:, ::window],
        split_windows(sequences.choices, window),
        (jnp.exp(-config.discount_per_s * elapsed_s) * rewards).sum(-1),
        gaps_s.sum(-1),
    )


def split_windows(x: Array, window: int) -> Array:
    """``x (G, T, C, ...)`` as windows ``(G, T / W, C, W, ...)``."""
    groups, length = x.shape[:2]
    return x.reshape(groups, length // window, window, *x.shape[2:]).swapaxes(2, 3)


def learning_rates(config: OffPolicyConfig, updates: jax.Array, learning_rate: jax.Array) -> Rates:
    """The rates of this update; actors and advantages wait for ``value_updates``."""
    return learning_rate * (updates >= config.value_updates), config.value_speed * learning_rate


def q_step(config: OffPolicyConfig, learner: Any, sequences: Sequences, rates: Rates, loss: Loss) -> tuple[Any, Stats]:
    """A gradient step of a learner's ``actor`` and ``value`` on one loss: D3QN, QMIX."""
    states = (learner.actor, learner.value)
    (actor, value), stats = gradient_step(loss, states, rates, make_optimiser(config), learner, sequences, config)
    return learner._replace(actor=actor, value=value), stats


def actor_critic_step(
    config: OffPolicyConfig,
    learner: Any,
    sequences: Sequences,
    key: jax.Array,
    rates: Rates,
    critic_loss: Loss,
    actor_loss: Loss,
) -> tuple[Any, Stats]:
    """A gradient step of a learner's critic, ``advantage`` and ``value``, and one of its ``actor``: MADDPG, D2SAC."""
    optimiser, critic = make_optimiser(config), (learner.advantage, learner.value)
    (advantage, value), critic_stats = gradient_step(
        critic_loss, critic, rates, optimiser, learner, sequences, key, config
    )
    actor, actor_stats = gradient_step(
        actor_loss, learner.actor, rates[0], optimiser, learner, sequences, jax.random.fold_in(key, 1), config
    )
    return learner._replace(actor=actor, advantage=advantage, value=value), {**critic_stats, **actor_stats}


def scan_steps(
    step: Callable[[AnyLearner, Any], tuple[AnyLearner, Stats]], learner: AnyLearner, batches: Any
) -> tuple[AnyLearner, Stats]:
    """The learner after a ``step`` on each of ``batches (steps, ...)``, one update in all, and the mean stats."""
    learner, stats = jax.lax.scan(step, learner, batches)
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)  # type: ignore[attr-defined]


class EpsilonGreedy(eqx.Module):
    """The best choice of an actor's logits, or a random present one with probability ``epsilon``."""

    actor: Actor
    epsilon: jax.Array

    def __call__(self, observations: jax.Array, draws: jax.Array) -> jax.Array:
        """Logits ``(B, C)`` of observations ``(B, layout.size)``."""
        logits = self.actor(observations, draws)
        present = logits > 0.5 * FORBIDDEN
        best = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
        probabilities = self.epsilon * present / present.sum(-1, keepdims=True) + (1.0 - self.epsilon) * best
        return jnp.where(present, jnp.log(jnp.maximum(probabilities, 1e-12)), FORBIDDEN)


class OffPolicyTraining(SeedTraining):
    """The training of one seed of an off-policy learner. An algorithm adds ``new_learner`` and ``update``."""

    config: OffPolicyConfig

    def init_learner(self, rule_parameters: np.ndarray | None) -> Any:
        """A new learner, from a first rollout of the rule, and an empty replay buffer."""
        config, simulator = self.config, self.collector.simulator
        rng, bs_count = np.random.default_rng(self.seed), self.scenario.bs_count
        start = new_actor(rng, simulator.layout, 1, bs_count, rule_parameters, config.network)
        context = InitContext(config, self.collector.collect(start), simulator.layout, bs_count, rule_parameters)
        capacity = max(config.groups, config.replay // (config.length * config.copies))
        self.replay = ReplayBuffer(capacity, config.length, config.copies, simulator.layout.size, simulator.state_size)
        return self.new_learner(context, rng)

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Any:
        """The learner before its first update."""
        raise NotImplementedError

    def update(self, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array) -> tuple[Any, Stats]:
        """The learner after a gradient step on each of ``sequences (gradient_steps, minibatch, T, C, ...)``."""
        raise NotImplementedError

    def learn(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Any, Stats]:
        self.replay.add(rollout)
        rng = np.random.default_rng([self.seed, 2, len(self.rows)])
        sequences = self.replay.sample(rng, self.config.gradient_steps, self.config.minibatch)
        return self.update(sequences, jax.random.split(key, self.config.gradient_steps), learning_rate)

    @property
    def deployed(self) -> Any:
        """The softmax of Q over ``temperature``."""
        return self.learner.actor.network.sharpened(self.learner.logit_cost / self.config.temperature)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {**super().state_dict(), **self.replay.state_dict()}

    def load_state_dict(self, saved: Mapping[str, np.ndarray]) -> None:
        super().load_state_dict(saved)
        self.replay.load_state_dict(saved)


class QTraining(OffPolicyTraining):
    """The training of one seed of a learner of Q: D3QN, VDN, QMIX."""

    @property
    def actor(self) -> Actor | EpsilonGreedy:
        """Epsilon-greedy as published; ours explores by the softmax itself."""
        actor: Actor = self.learner.actor.network
        if self.config.network != MLP:
            return actor
        passed = min(self.share / self.config.epsilon_decisions, 1.0)
        return EpsilonGreedy(actor, jnp.float32(1.0 + passed * (self.config.epsilon - 1.0)))
