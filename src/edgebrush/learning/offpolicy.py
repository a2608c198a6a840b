"""What the off-policy learners share: configs, losses, joint decisions, and the loop of replay and gradient steps.

*Long returns.* The effects of a choice last for half a minute, about 100 decisions, and a UE's view of the BSs is
stale. With one-step targets, or short traces on a local value, policies become selfish. The targets are therefore
Q(lambda) (Peng and Williams 1996; Hu et al. 2021 use it in QMIX) over whole sequences from the replay buffer. Every
decision that ``horizon`` others follow is learnt from. The traces are not corrected for the older policies that
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
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies.actor import FORBIDDEN
from edgebrush.policies.folder import MLP

from .networks import Actor, Critic, fit_input_scale, logit_cost_of, new_actor, new_critic
from .optimiser import Stats, TrainState, gradient_step, make_optimiser, new_train_state, polyak_update
from .replay_buffer import ReplayBuffer, Sequences
from .returns import gae, subtract_group_mean
from .rollout import Array, Rollout
from .trainer import SeedTraining, TrainingConfig

Networks = dict[str, Any]  # by name; "value" and "mixer" have their own learning rate
Loss = Callable[..., tuple[jax.Array, Stats]]  # (networks, learner, sequences, key, config), see ``gradient_step``


@dataclass(frozen=True)
class OffPolicyConfig(TrainingConfig):
    """Hyperparameters of every off-policy learner; see ``TrainingConfig`` for the rest."""

    decisions: PositiveInt = 3_000_000
    horizon: PositiveInt = 128  # decisions that must follow one that is learnt from
    replay: PositiveInt = 131_072  # decisions in the replay buffer that are learnt from, at least one update's
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


@dataclass(frozen=True)
class JointConfig(OffPolicyConfig):
    """Hyperparameters of learners of joint decisions, see ``join_decisions``."""

    window: PositiveInt = 4  # deciders of a joint decision

    def __post_init__(self) -> None:
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

    @property
    def logit_cost(self) -> jax.Array:
        """The cost of one logit of a new actor: with it, Q starts as minus the social cost under the rule's prices.

        A perceptron's is the returns' standard deviation.
        """
        if self.config.network == MLP:
            return jnp.float32(self.returns.std())
        return logit_cost_of(new_actor(np.random.default_rng(), self.layout, 1, self.bs_count, self.rule_parameters))

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
        scales = jnp.float32(self.returns.mean()), jnp.float32(self.returns.std())
        return eqx.tree_at(lambda value: (value.mean, value.deviation), value, scales)

    @property
    def returns(self) -> np.ndarray:
        """Returns of the first half of the first rollout, without traces or bootstrap."""
        rewards, gaps_s = jnp.asarray(self.rollout.rewards), jnp.asarray(self.rollout.gaps_s)
        no_values = jnp.zeros((len(rewards) + 1, rewards.shape[1]))
        returns = gae(rewards, gaps_s, no_values, self.config.discount_per_s, 0.0)
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


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    parts: dict[str, TrainState[Any]]  # the networks, each with its optimiser's state
    target: Any  # a slower copy of what the targets bootstrap from, see ``OffPolicyTraining.online``
    logit_cost: jax.Array
    updates: jax.Array

    @property
    def networks(self) -> Networks:
        return {name: part.network for name, part in self.parts.items()}


@eqx.filter_jit(donate="all-except-first")
def update(
    config: OffPolicyConfig,
    method: type[OffPolicyTraining],
    learner: Learner,
    sequences: Sequences,
    keys: jax.Array,
    learning_rate: jax.Array,
) -> tuple[Learner, Stats]:
    """A gradient step of every loss on each of ``sequences (steps, G, T, C, ...)``, with ``keys (steps,)``."""
    optimiser, rates = make_optimiser(config), learning_rates(config, learner, learning_rate)

    def step(learner: Learner, batch: tuple[Sequences, jax.Array]) -> tuple[Learner, Stats]:
        sequences, key = batch
        parts, stats = dict(learner.parts), Stats()
        for number, (names, loss) in enumerate(method.losses):
            trained = {name: learner.parts[name] for name in names if name in learner.parts}
            inputs = (learner, sequences, jax.random.fold_in(key, number), config)
            trained, loss_stats = gradient_step(
                loss, trained, {name: rates[name] for name in trained}, optimiser, *inputs
            )
            parts |= trained
            stats |= loss_stats
        learner = learner._replace(parts=parts)
        online = method.online(learner.networks, learner.logit_cost)
        return learner._replace(target=polyak_update(learner.target, online, config.target_share)), stats

    learner, stats = jax.lax.scan(step, learner, (sequences, keys))
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def learning_rates(config: OffPolicyConfig, learner: Learner, learning_rate: jax.Array) -> dict[str, jax.Array]:
    """The rate of every part in this update; actors and advantages wait for ``value_updates``."""
    waiting = learning_rate * (learner.updates >= config.value_updates)
    fast = config.value_speed * learning_rate
    return {name: fast if name in ("value", "mixer") else waiting for name in learner.parts}


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
    """The training of one seed of an off-policy learner. An algorithm adds its networks and losses."""

    config: OffPolicyConfig
    learner: Learner
    losses: ClassVar[tuple[tuple[tuple[str, ...], Loss], ...]]  # the parts that each loss trains

    def new_networks(self, context: InitContext, rng: np.random.Generator) -> Networks:
        """The networks before training; ``actor`` is the one that acts."""
        raise NotImplementedError

    @staticmethod
    def online(networks: Networks, logit_cost: jax.Array) -> Any:
        """What the targets bootstrap from, with the present networks."""
        raise NotImplementedError

    def init_learner(self, rule_parameters: np.ndarray | None) -> Learner:
        """A new learner, and a replay buffer with the first rollouts of the rule."""
        config, simulator = self.config, self.collector.simulator
        rng, bs_count = np.random.default_rng(self.seed), self.scenario.bs_count
        start = new_actor(rng, simulator.layout, 1, bs_count, rule_parameters, config.network)
        sizes = simulator.layout.size, simulator.state_size
        self.replay = ReplayBuffer(config.replay, config.groups, config.length, config.horizon, config.copies, *sizes)
        for _ in range(-(-config.horizon // config.length)):  # so that the first update has whole sequences
            rollout = self.collector.collect(start)
            self.replay.add(rollout, self.collector.restarted)
        return self.new_learner(InitContext(config, rollout, simulator.layout, bs_count, rule_parameters), rng)

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Learner:
        """The learner before its first update."""
        networks, optimiser = self.new_networks(context, rng), make_optimiser(self.config)
        parts = {name: new_train_state(optimiser, network) for name, network in networks.items()}
        logit_cost = context.logit_cost
        target = jax.tree.map(jnp.copy, self.online(networks, logit_cost))
        return Learner(parts, target, logit_cost, jnp.zeros((), jnp.int32))

    def learn(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        config = self.config
        self.replay.add(rollout, self.collector.restarted)
        rng = np.random.default_rng([self.seed, 2, len(self.rows)])
        sequences = self.replay.sample(rng, config.gradient_steps, config.minibatch)
        keys = jax.random.split(key, config.gradient_steps)
        return update(config, type(self), self.learner, sequences, keys, learning_rate)

    @property
    def actor(self) -> Any:
        return self.learner.parts["actor"].network

    @property
    def logit_temperature(self) -> float:
        """The temperature at which the actor's logits are Q, in multiples of ``logit_cost``."""
        return 1.0

    @property
    def deployed(self) -> Any:
        """The softmax of Q over ``temperature``."""
        network = self.learner.parts["actor"].network
        return network.sharpened(self.logit_temperature * self.learner.logit_cost / self.config.temperature)

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
        actor: Actor = super().actor
        if self.config.network != MLP:
            return actor
        passed = min(self.share / self.config.epsilon_decisions, 1.0)
        return EpsilonGreedy(actor, jnp.float32(1.0 + passed * (self.config.epsilon - 1.0)))
