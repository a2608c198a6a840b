"""MASL, multi-agent stochastic learning on a potential game (Liu et al. 2026, arXiv:2605.22277; Zheng et al. 2019).

Each player has a probability vector over its strategies. After each play, the vector moves towards the played strategy
in proportion to the normalised utility (linear reward-inaction, Sastry et al. 1994):

    p <- p + b u (e_played - p),    0 <= u <= 1.

For small b this converges to a pure Nash equilibrium of a potential game. The theory covers one-shot games in which the
same players meet repeatedly in one situation. Here tasks differ and queues change, so:

- A player is a context (see policies/automata.py). UEs share contexts as the other learners' actors share weights.
- The utility is the team's: the discounted return after the decision, minus its mean over the copies with common
  arrivals. A game of common interest is an exact potential game, and its best equilibrium is the optimum. If the
  utility were the cost of the UE's own task, a UE would learn the selfish greedy rule.
- The vectors start as the tuned rule's mean choice in each context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies import automata
from edgebrush.policies.folder import AUTOMATA

from ..networks import new_actor
from ..optimiser import Stats
from ..registry import COMMON
from ..returns import gae, subtract_group_mean
from ..rollout import Rollout
from ..trainer import SeedTraining, TrainingConfig

MAX_KINDS = 5  # a feature with more distinct values is continuous


@dataclass(frozen=True)
class MaslConfig(TrainingConfig):
    """Hyperparameters; see ``TrainingConfig`` for the rest. ``learning_rate`` is b."""

    learning_rate: PositiveFloat = 3e-3
    width: PositiveFloat = 2.0  # standard deviations between the mean return, utility 0.5, and utilities 0 and 1
    bins: PositiveInt = 3  # of each place's load
    trace_decay_per_s: NonNegativeFloat = 0.05  # a second discount of the team's later costs
    normaliser_decay: NonNegativeFloat = 0.9  # of the running deviation of the returns
    deploy_inverse_temperature: PositiveFloat = 4.0  # power of the deployed probabilities: training explores more


class Strategies(eqx.Module):
    """The probability vectors of policies/automata.py, which explains the arrays. Only ``strategies`` is trained."""

    strategies: jax.Array  # (contexts, places, K, P)
    edges: jax.Array  # (F, n)
    strides: jax.Array  # (F,)
    layout: ObservationLayout = eqx.field(static=True)
    kind: ClassVar[str] = AUTOMATA  # of policy, see policies/folder.py

    def __call__(self, observations: jax.Array, draws: jax.Array | None = None) -> jax.Array:
        """Logits ``(B, C)`` of observations ``(B, layout.size)``."""
        return automata.log_strategy(self.all_weights(), self.layout, observations, jnp)

    def all_weights(self) -> dict[str, jax.Array]:
        """The arrays of a policy folder."""
        return {"strategies": self.strategies, "edges": self.edges, "strides": self.strides}


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: Strategies
    return_deviation: jax.Array
    updates: jax.Array


class Training(SeedTraining):
    """The training of one seed of MASL."""

    algorithm = "masl"
    config: MaslConfig
    learner: Learner

    @property
    def name(self) -> str:
        return self.algorithm + COMMON if self.config.copies > 1 else self.algorithm

    def init_learner(self, rule_parameters: np.ndarray | None) -> Learner:
        """Strategies that start as the rule, in contexts whose bins fit a first rollout."""
        simulator = self.collector.simulator
        layout, bs_count = simulator.layout, self.scenario.bs_count
        rule = new_actor(np.random.default_rng(self.seed), layout, 1, bs_count, rule_parameters)
        observations = self.collector.collect(rule).observations.reshape(-1, layout.size)
        played = np.asarray(jax.nn.softmax(rule(jnp.asarray(observations))))
        features = automata.features(layout, observations, bs_count + 1, np)
        edges, strides, contexts = fit_bins(features, self.config.bins)
        strategies = mean_strategies(layout, observations, played, edges, strides, (contexts, bs_count + 1))
        actor = Strategies(jnp.asarray(strategies), jnp.asarray(edges), jnp.asarray(strides), layout)
        return Learner(actor, jnp.ones(()), jnp.zeros((), jnp.int32))

    def learn(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, rollout, learning_rate)

    @property
    def actor(self) -> Strategies:
        return self.learner.actor

    @property
    def deployed(self) -> Strategies:
        power = self.actor.strategies**self.config.deploy_inverse_temperature
        strategies = power / power.sum((1, 2, 3), keepdims=True)
        return eqx.tree_at(lambda actor: actor.strategies, self.actor, strategies)


def fit_bins(features: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Bins of ``features (N, F)``: edges ``(F, n)``, padded with infinity; strides ``(F,)`` of the contexts' numbers;
    the number of contexts.

    A feature with few distinct values, such as the kind of request, gets a bin for each of them. Any other feature gets
    ``bins`` bins with equally many samples.
    """
    cuts = []
    for column in features.T:
        values = np.unique(column)
        if len(values) <= MAX_KINDS:
            cuts.append((values[1:] + values[:-1]) / 2)
        else:
            cuts.append(np.quantile(column, np.arange(1, bins) / bins))
    sizes = np.array([len(each) + 1 for each in cuts])
    edges = np.full((len(cuts), max(sizes.max() - 1, 1)), np.inf, np.float32)
    for row, each in zip(edges, cuts, strict=True):
        row[: len(each)] = each
    strides = np.cumprod([1, *sizes[:-1]]).astype(np.int32)
    return edges, strides, int(sizes.prod())


def mean_strategies(
    layout: ObservationLayout,
    observations: np.ndarray,
    played: np.ndarray,
    edges: np.ndarray,
    strides: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Mean of the choice probabilities ``played (N, C)`` in each context, ``(contexts, places, K, P)``.

    The mean over all contexts counts as one more visit of each context. A context without visits has only that.
    """
    context = automata.context_of(edges, strides, automata.features(layout, observations, size[1], np))
    total = np.zeros((*size, *layout.action_space.shape[1:]))
    probabilities = played.reshape(-1, *layout.action_space.shape)
    np.add.at(total, (context[:, None], automata.place_of(layout, observations)), probabilities)
    total += total.sum(0) / total.sum()
    return (total / total.sum((1, 2, 3), keepdims=True)).astype(np.float32)


@eqx.filter_jit(donate="all-except-first")
def update(config: MaslConfig, learner: Learner, rollout: Rollout, learning_rate: jax.Array) -> tuple[Learner, Stats]:
    """Reward-inaction for all decisions of the rollout at once, with b = ``learning_rate``.

    The plays of a context in sequence would multiply the rest of its vector by each ``1 - b u``, and distribute the
    freed probability over the played strategies in proportion to u, up to their order.
    """
    actor = learner.actor
    strategies = actor.strategies.reshape(len(actor.strategies), -1)
    utility, deviation = utilities(config, learner, rollout)
    context, entry = played_entries(actor, rollout)

    played = jnp.zeros_like(strategies).at[context, entry].add(learning_rate * utility)
    kept = jnp.exp(jnp.zeros(len(strategies)).at[context].add(jnp.log1p(-learning_rate * utility)))[:, None]
    towards = played / jnp.maximum(played.sum(1, keepdims=True), 1e-30)
    strategies = kept * strategies + (1.0 - kept) * towards
    actor = eqx.tree_at(lambda actor: actor.strategies, actor, strategies.reshape(actor.strategies.shape))
    stats = {
        "entropy": -rollout.log_probs.mean(),
        "utility_deviation": utility.std(),
        "return_deviation": deviation,
        "moved": 1.0 - kept.mean(),
    }
    return Learner(actor, deviation, learner.updates + 1), stats


def utilities(config: MaslConfig, learner: Learner, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
    """The utility of every decision, ``(T × E,)``, and the running standard deviation of the returns."""
    no_values = jnp.zeros((rollout.rewards.shape[0] + 1, rollout.rewards.shape[1]))
    returns = gae(rollout.rewards, rollout.gaps_s, no_values, config.discount_per_s, config.trace_decay_per_s)
    returns = subtract_group_mean(returns, config.copies if config.copies > 1 else returns.shape[1])
    keep = jnp.where(learner.updates == 0, 0.0, config.normaliser_decay)
    deviation = keep * learner.return_deviation + (1.0 - keep) * jnp.maximum(returns.std(), 1e-6)
    return jnp.clip(0.5 + returns / (2.0 * config.width * deviation), 0.0, 1.0).reshape(-1), deviation


def played_entries(actor: Strategies, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
    """The context of every decision, and the index of the played strategy in its vector, ``(T × E,)`` each."""
    layout = actor.layout
    observations = rollout.observations.reshape(-1, layout.size)
    features = automata.features(layout, observations, actor.strategies.shape[1], jnp)
    context = automata.context_of(actor.edges, actor.strides, features)
    slot, choice = jnp.divmod(rollout.choices.reshape(-1), layout.action_space.per_slot)
    place = jnp.take_along_axis(automata.place_of(layout, observations), slot[:, None], axis=1)[:, 0]
    return context, place * layout.action_space.per_slot + choice
