"""MASL, multi-agent stochastic learning on a potential game (Liu et al. 2026, arXiv:2605.22277; Zheng et al. 2019).

Each player keeps a probability vector over its strategies and, after each play, moves it towards what it played in
proportion to the normalised utility (linear reward-inaction, Sastry et al. 1994):

    p <- p + b u (e_played - p),    0 <= u <= 1,

which converges to a pure Nash equilibrium of a potential game for small b. The theory knows one-shot games of players
who meet again and again in one situation; to be of use where tasks differ and queues change, here

- a player is a context (see policies/automata.py), which UEs share as the other learners' actors share weights;
- the utility is the team's: the discounted return after the decision, less its mean over the copies with common
  arrivals. Common interest is an exact potential game, and its best equilibrium is the optimum; with its own task's
  cost as utility a UE would learn to be the selfish greedy rule;
- the vectors start as the tuned rule's mean choice in each context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies import automata
from edgebrush.policies.folder import AUTOMATA

from ..networks import new_actor
from ..onpolicy import OnPolicyTraining, gae, less_group_mean
from ..rollout import Batch


@dataclass(frozen=True)
class MaslConfig:
    """Hyperparameters; see ``MappoConfig`` for those that both have."""

    seconds: PositiveFloat | None = None
    decisions: PositiveInt = 10_000_000
    copies: PositiveInt = 8
    groups: PositiveInt = 32
    length: PositiveInt = 128
    learning_rate: PositiveFloat = 3e-3  # b; falls linearly to 0 over the training
    width: PositiveFloat = 2.0  # utilities 0 and 1 are so many standard deviations from the mean return
    bins: PositiveInt = 3  # of each place's load
    discount_per_s: NonNegativeFloat = 0.01
    trace_decay_per_s: NonNegativeFloat = 0.05  # a return forgets the team's later costs at this rate, too
    normaliser_decay: NonNegativeFloat = 0.9
    sharpness: PositiveFloat = 4.0  # training explores; the policy that it leaves has so high a power of the strategies
    own_prices: bool = False  # True: start as the rule without prices


class Strategies(eqx.Module):
    """All players' probability vectors; what they mean is in policies/automata.py. Only ``strategies`` is learnt."""

    strategies: jax.Array  # (contexts, places, K, P)
    edges: jax.Array  # (F, n)
    strides: jax.Array  # (F,)
    layout: ObservationLayout = eqx.field(static=True)

    def __call__(self, observations: jax.Array, draws: jax.Array | None = None) -> jax.Array:
        """Logits ``(B, C)`` of observations ``(B, layout.size)``."""
        return automata.log_strategy(self.all_weights(), self.layout, observations, jnp)

    def all_weights(self) -> dict[str, jax.Array]:
        return {"strategies": self.strategies, "edges": self.edges, "strides": self.strides}


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Strategies
    deviation: jax.Array  # of the returns
    updates: jax.Array


class Training(OnPolicyTraining):
    """One seed's training of MASL."""

    name = "masl"
    kind = AUTOMATA

    def start(self, numbers: np.ndarray | None) -> Learner:
        simulator = self.collector.simulator
        layout, grid, bs_count = simulator.layout, simulator.params.step_grid, self.scenario.bs_count
        rule = new_actor(np.random.default_rng(self.seed), layout, grid, 1, bs_count, numbers)
        observations = self.collector.collect(rule).observations.reshape(-1, layout.size)
        played = np.asarray(jax.nn.softmax(rule(jnp.asarray(observations))))
        edges, strides, contexts = cut(automata.features(layout, observations, bs_count + 1, np), self.config.bins)
        strategies = mean_strategies(layout, observations, played, edges, strides, (contexts, bs_count + 1))
        actor = Strategies(jnp.asarray(strategies), jnp.asarray(edges), jnp.asarray(strides), layout)
        return Learner(actor, jnp.ones(()), jnp.zeros((), jnp.int32))

    def update(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, batch, rate)

    @property
    def deployed(self) -> Strategies:
        power = self.actor.strategies**self.config.sharpness
        strategies = power / power.sum((1, 2, 3), keepdims=True)
        return eqx.tree_at(lambda actor: actor.strategies, self.actor, strategies)


def cut(found: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Where the features ``found (N, F)`` are cut into bins: edges ``(F, n)`` (infinite where one has fewer), strides
    ``(F,)`` of the contexts' numbers, and how many contexts there are.

    A feature with few values, as of request kinds, gets a bin for each; any other equally full ones.
    """
    cuts = []
    for column in found.T:
        values = np.unique(column)
        if len(values) <= MOST_KINDS:
            cuts.append((values[1:] + values[:-1]) / 2)
        else:
            cuts.append(np.quantile(column, np.arange(1, bins) / bins))
    sizes = np.array([len(each) + 1 for each in cuts])
    edges = np.full((len(cuts), max(sizes.max() - 1, 1)), np.inf, np.float32)
    for row, each in zip(edges, cuts, strict=True):
        row[: len(each)] = each
    strides = np.cumprod([1, *sizes[:-1]]).astype(np.int32)
    return edges, strides, int(sizes.prod())


MOST_KINDS = 5  # more different values than that are a scale


def mean_strategies(layout, observations, played, edges, strides, size) -> np.ndarray:
    """Mean of the choice probabilities ``played (N, C)`` in each context, ``(contexts, places, K, P)``.

    The mean over all contexts counts as one more visit of each, and is all that an unvisited one has.
    """
    context = automata.context_of(edges, strides, automata.features(layout, observations, size[1], np), np)
    total = np.zeros((*size, *layout.action_space.shape[1:]))
    probabilities = played.reshape(-1, *layout.action_space.shape)
    np.add.at(total, (context[:, None], automata.place_of(layout, observations)), probabilities)
    total += total.sum(0) / total.sum()
    return (total / total.sum((1, 2, 3), keepdims=True)).astype(np.float32)


@eqx.filter_jit(donate="all-except-first")
def update(config: MaslConfig, learner: Learner, batch: Batch, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
    """Reward-inaction for every decision of the batch, with ``b`` = ``rate``, all at once.

    A context's plays in a row multiply the rest of its vector by every ``1 - b u`` and spread what that frees over
    what was played in proportion to u, up to their order.
    """
    actor, layout = learner.actor, learner.actor.layout
    strategies = actor.strategies.reshape(len(actor.strategies), -1)
    nothing = jnp.zeros((batch.rewards.shape[0] + 1, batch.rewards.shape[1]))
    returns = gae(batch.rewards, batch.gaps_s, nothing, config.discount_per_s, config.trace_decay_per_s)
    returns = less_group_mean(returns, config.copies if config.copies > 1 else returns.shape[1])
    keep = jnp.where(learner.updates == 0, 0.0, config.normaliser_decay)
    deviation = keep * learner.deviation + (1.0 - keep) * jnp.maximum(returns.std(), 1e-6)
    utility = jnp.clip(0.5 + returns / (2.0 * config.width * deviation), 0.0, 1.0).reshape(-1)

    observations = batch.observations.reshape(-1, layout.size)
    found = automata.features(layout, observations, actor.strategies.shape[1], jnp)
    context = automata.context_of(actor.edges, actor.strides, found, jnp)
    slot, choice = jnp.divmod(batch.choices.reshape(-1), layout.action_space.per_slot)
    place = jnp.take_along_axis(automata.place_of(layout, observations), slot[:, None], axis=1)[:, 0]
    entry = place * layout.action_space.per_slot + choice

    played = jnp.zeros_like(strategies).at[context, entry].add(rate * utility)
    stays = jnp.exp(jnp.zeros(len(strategies)).at[context].add(jnp.log1p(-rate * utility)))[:, None]
    goes_to = played / jnp.maximum(played.sum(1, keepdims=True), 1e-30)
    strategies = stays * strategies + (1.0 - stays) * goes_to
    actor = eqx.tree_at(lambda actor: actor.strategies, actor, strategies.reshape(actor.strategies.shape))
    stats = {
        "entropy": -batch.log_probs.mean(),
        "utility_deviation": utility.std(),
        "return_deviation": deviation,
        "moved": 1.0 - stays.mean(),
    }
    return Learner(actor, deviation, learner.updates + 1), stats
