"""MAPPO: a centralised critic, actors with shared weights that see only what their UE sees.

Yu et al. 2022's practices (value normalisation, orthogonal initialisation, clipping, one learning-rate schedule) on
the merged sequence of all UEs' decisions as a semi-Markov process: each gap has its own discount. With ``copies``
above 1, episodes come in groups that share arrivals, tasks and channels while their decisions are drawn apart; so
decision n is the same task at the same moment in every copy, and the group's mean is an input-driven baseline (Mao
et al. 2019) that takes the arrivals' own noise out of the advantage. The critic then learns what *differs* between
the copies: the baseline takes the rest. One seed is one single-threaded process; several seeds run side by side.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgebrush.policies.actor import raw_inputs
from edgebrush.policies.folder import save_policy
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator

from .collect import Batch, Collector, validate
from .networks import Actor, Critic, input_scale, new_actor, new_critic


@dataclass(frozen=True)
class MappoConfig:
    """Hyperparameters; names as in Yu et al. 2022 where they have one."""

    seconds: PositiveFloat | None = None  # the training's length, compilation included; None: ``decisions`` set it
    decisions: PositiveInt = 10_000_000
    copies: PositiveInt = 8  # episodes per group with common arrivals; 1 is plain MAPPO
    groups: PositiveInt = 32
    length: PositiveInt = 128  # decisions per episode and update
    epochs: PositiveInt = 3
    minibatches: PositiveInt = 16
    learning_rate: PositiveFloat = 2e-3  # falls linearly to 0 over the training
    clip: PositiveFloat = 0.2
    entropy: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 0.5  # of actor and critic each: under one norm the actor starves the critic
    adam_eps: PositiveFloat = 1e-8
    discount_per_s: NonNegativeFloat = 0.01  # rho: gamma over a gap dt is exp(-rho dt)
    trace_decay_per_s: NonNegativeFloat = 0.02  # GAE's lambda over a gap dt is exp(-decay dt)
    critic_updates: NonNegativeInt = 5  # at first the critic learns alone
    episode_s: PositiveFloat = 600.0  # mean life of a training episode before it starts anew
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    normaliser_decay: NonNegativeFloat = 0.9
    own_prices: bool = False  # True: start from no prices instead of the tuned rule's

    def __post_init__(self) -> None:
        rows = self.groups * self.length
        if rows % self.minibatches:
            raise ValueError(f"minibatches = {self.minibatches}: must divide groups × length = {rows}")


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Actor
    critic: Critic
    actor_state: optax.OptState
    critic_state: optax.OptState
    mean: jax.Array  # of the value targets
    deviation: jax.Array
    updates: jax.Array


def new_learner(scenario: Scenario, config: MappoConfig, simulator: Simulator, seed: int, numbers) -> Learner:
    """A learner before its first update; ``numbers``: the tuned priced greedy rule's, or None."""
    rng = np.random.default_rng(seed)
    grid = simulator.params.step_grid
    numbers = None if config.own_prices else numbers
    actor = new_actor(rng, simulator.layout, grid, config.actor_hidden, scenario.bs_count, numbers)
    critic = new_critic(rng, simulator.state_size, config.critic_hidden)
    optimiser = make_optimiser(config)
    return Learner(
        actor, critic,
        optimiser.init(eqx.filter(actor, eqx.is_array)), optimiser.init(eqx.filter(critic, eqx.is_array)),
        jnp.zeros(()), jnp.ones(()), jnp.zeros((), jnp.int32),
    )  # fmt: skip


def make_optimiser(config: MappoConfig) -> optax.GradientTransformation:
    """Adam's direction after clipping; ``update`` gives it its length, which falls with the training's progress."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps))


def gae(
    rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, discount_per_s: float, trace_decay_per_s: float
) -> jax.Array:
    """Generalised advantages ``(T, E)`` (Schulman et al. 2016) with each gap's own discount and trace decay.

    ``values (T + 1, E)``: the last row is the bootstrap after the trace.
    """
    gammas = jnp.exp(-discount_per_s * gaps_s)
    lambdas = jnp.exp(-trace_decay_per_s * gaps_s)
    deltas = rewards + gammas * values[1:] - values[:-1]

    def backwards(advantage, row):
        delta, carry = row
        advantage = delta + carry * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(rewards[0]), (deltas, gammas * lambdas), reverse=True)
    return advantages


def less_group_mean(x: jax.Array, copies: int) -> jax.Array:
    """``x (..., E)`` less its mean over the copies of each group; the input-driven baseline (Mao et al. 2019)."""
    grouped = x.reshape(*x.shape[:-1], -1, copies)
    return (grouped - grouped.mean(-1, keepdims=True)).reshape(x.shape)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: MappoConfig, learner: Learner, batch: Batch, key: jax.Array, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One whole update at learning rate ``rate``: advantages, then all epochs and minibatches."""
    length, episodes = batch.rewards.shape
    states = batch.states.reshape(-1, batch.states.shape[-1])
    values = learner.mean + learner.deviation * learner.critic(states).reshape(length + 1, episodes)
    advantages = gae(batch.rewards, batch.gaps_s, values, config.discount_per_s, config.trace_decay_per_s)
    targets = advantages + values[:-1]
    explained_variance = _explained_variance(values[:-1], targets, config.copies)
    if config.copies > 1:
        advantages = less_group_mean(advantages, config.copies)
        targets = less_group_mean(targets, config.copies)
    deviation_of_advantage = advantages.std()
    advantages = (advantages - advantages.mean()) / (deviation_of_advantage + 1e-8)
    learner = _normalise_values(learner, targets, config.normaliser_decay)
    targets = (targets - learner.mean) / learner.deviation

    rows = length * (episodes // config.copies)  # a row is one task in all copies of a group
    data = jax.tree.map(
        lambda x: x[:length].reshape(rows, config.copies, *x.shape[2:]),
        (batch.observations, batch.states, batch.choices, batch.log_probs, advantages, targets),
    )
    teach_actor = learner.updates >= config.critic_updates

    def minibatch(carry, index):
        actor, critic, actor_state, critic_state = carry
        observations, states, choices, log_probs, advantage, target = jax.tree.map(
            lambda x: x[index].reshape(-1, *x.shape[2:]), data
        )
        optimiser = make_optimiser(config)
        (_, stats), gradient = eqx.filter_value_and_grad(actor_loss, has_aux=True)(
            actor, observations, choices, log_probs, advantage, config
        )
        step, new_state = optimiser.update(gradient, actor_state)
        taught = _descend(actor, step, rate)
        actor, actor_state = jax.tree.map(
            lambda new, old: jnp.where(teach_actor, new, old) if eqx.is_array(new) else new,
            (taught, new_state), (actor, actor_state),
        )  # fmt: skip
        loss, gradient = eqx.filter_value_and_grad(critic_loss)(critic, states, target, config.copies)
        step, critic_state = optimiser.update(gradient, critic_state)
        critic = _descend(critic, step, rate)
        return (actor, critic, actor_state, critic_state), {**stats, "value_loss": loss}

    def epoch(carry, key):
        order = jax.random.permutation(key, rows).reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch, carry, order)

    carry = (learner.actor, learner.critic, learner.actor_state, learner.critic_state)
    carry, stats = jax.lax.scan(epoch, carry, jax.random.split(key, config.epochs))
    stats = jax.tree.map(jnp.mean, stats)
    stats |= {"explained_variance": explained_variance, "advantage_deviation": deviation_of_advantage}
    return Learner(*carry, learner.mean, learner.deviation, learner.updates + 1), stats


def _descend(network, step, rate):
    return eqx.apply_updates(network, jax.tree.map(lambda x: -rate * x, step))


def actor_loss(actor, observations, choices, old_log_probs, advantages, config):
    """PPO's clipped objective on the joint choice's probability, less the entropy bonus."""
    scores = actor(observations)
    log_probs = jax.nn.log_softmax(scores)
    ratio = jnp.exp(jnp.take_along_axis(log_probs, choices[:, None], axis=-1)[:, 0] - old_log_probs)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    gain = jnp.minimum(ratio * advantages, clipped * advantages).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    stats = {
        "entropy": entropy,
        "kl": (ratio - 1.0 - jnp.log(ratio)).mean(),
        "clipped": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }
    return -gain - config.entropy * entropy, stats


def critic_loss(critic, states, targets, copies):
    """Mean square error; with copies, of what differs between them (the targets have no group mean already)."""
    values = critic(states)
    if copies > 1:
        values = less_group_mean(values, copies)
    return jnp.mean((values - targets) ** 2)


def _explained_variance(values, targets, copies):
    if copies > 1:
        values, targets = less_group_mean(values, copies), less_group_mean(targets, copies)
    return 1.0 - jnp.var(targets - values) / jnp.maximum(jnp.var(targets), 1e-12)


def _normalise_values(learner: Learner, targets: jax.Array, decay: float) -> Learner:
    """Follow the targets' mean and deviation; the critic's last layer moves along (PopArt, Hessel et al. 2019)."""
    keep = jnp.where(learner.updates == 0, 0.0, decay)
    mean = keep * learner.mean + (1.0 - keep) * targets.mean()
    deviation = keep * learner.deviation + (1.0 - keep) * jnp.maximum(targets.std(), 1e-3)
    w, b = learner.critic.w, learner.critic.b
    ratio = learner.deviation / deviation
    critic = eqx.tree_at(
        lambda critic: (critic.w[-1], critic.b[-1]), learner.critic,
        (w[-1] * ratio, (b[-1] * learner.deviation + learner.mean - mean) / deviation),
    )  # fmt: skip
    return learner._replace(critic=critic, mean=mean, deviation=deviation)


class Training:
    """One seed's training, update by update; saved and loaded, it goes on exactly as if it had never stopped."""

    def __init__(self, scenario: Scenario, config: MappoConfig, seed: int, numbers: np.ndarray | None):
        self.scenario, self.config, self.seed = scenario, config, seed
        self.begun, self.seconds_before = time.perf_counter(), 0.0
        self.collector = Collector(scenario, config.groups, config.copies, config.length, seed)
        self.learner = _scaled(new_learner(scenario, config, self.collector.simulator, seed, numbers), self.collector)
        self.rows: list[dict[str, float]] = []  # the learning curve

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.begun

    @property
    def decisions(self) -> int:
        return len(self.rows) * self.collector.choices.size

    @property
    def share(self) -> float:
        """What share of the training is done."""
        if self.config.seconds is not None:
            return self.seconds / self.config.seconds
        return self.decisions / self.config.decisions

    def step(self) -> dict[str, float]:
        """One update; its row of the learning curve."""
        config, number = self.config, len(self.rows)
        rate = config.learning_rate * max(0.0, 1.0 - self.share)
        batch = self.collector.collect(self.learner.actor)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        self.learner, stats = update(config, self.learner, batch, key, jnp.float32(rate))
        row = {
            "update": number + 1, "seconds": round(self.seconds, 2), "decisions": (number + 1) * batch.choices.size,
            "seed": self.seed, "cost": float(-batch.rewards.sum() / batch.rewards.size),
            "learning_rate": rate, **{name: float(value) for name, value in stats.items()},
        }  # fmt: skip
        if number % VALIDATED_EVERY == 0:
            row["validation_cost"] = validate(self.scenario, self.learner.actor)
        self.collector.restart_some(config.episode_s)
        self.rows.append(row)
        return row

    def save_policy(self, folder: Path) -> None:
        about = {
            "algorithm": "mappo", "scenario": self.scenario.name, "seed": self.seed,
            "step_grid": list(self.scenario.decision.step_grid), "classes": self.scenario.decision.classes,
            "decisions": self.rows[-1]["decisions"], "seconds": round(self.seconds, 1), "config": asdict(self.config),
        }  # fmt: skip
        weights = {name: np.asarray(value) for name, value in self.learner.actor.all_weights().items()}
        save_policy(folder, "mappo" if self.config.copies > 1 else "mappo-plain", weights, about)

    def save(self, path: Path) -> None:
        """Write the whole state to an ``.npz``; no pickle."""
        arrays = {f"learner_{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(self.learner))}
        meta = {"config": asdict(self.config), "seed": self.seed, "seconds": self.seconds, "rows": self.rows}
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(file, **{"meta": np.array(json.dumps(meta)), **arrays, **self.collector.state()})  # type: ignore[arg-type]
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Take up the state of ``save``. Raises ``ValueError`` where it is another training's."""
        with np.load(path) as saved:
            meta = json.loads(str(saved["meta"]))
            if meta["config"] != asdict(self.config) or meta["seed"] != self.seed:
                raise ValueError("the checkpoint is of a training with other settings")
            leaves, structure = jax.tree.flatten(self.learner)
            loaded = [jnp.asarray(saved[f"learner_{n}"]) for n in range(len(leaves))]
            self.learner = jax.tree.unflatten(structure, loaded)
            self.collector.take_up(saved)
        self.rows, self.seconds_before, self.begun = meta["rows"], meta["seconds"], time.perf_counter()


VALIDATED_EVERY = 15  # updates


def _scaled(learner: Learner, collector: Collector) -> Learner:
    """The learner with its networks' input scales set by a first look at the world."""
    batch = collector.collect(learner.actor)
    layout = collector.simulator.layout
    observations = batch.observations.reshape(-1, layout.size)[::7]
    inputs = raw_inputs(layout, observations, np)
    states = batch.states.reshape(-1, batch.states.shape[-1])
    scales = [input_scale(x.reshape(-1, x.shape[-1])) for x in (inputs, states)]
    actor = eqx.tree_at(lambda actor: actor.scale, learner.actor, jnp.asarray(scales[0]))
    critic = eqx.tree_at(lambda critic: critic.scale, learner.critic, jnp.asarray(scales[1]))
    return learner._replace(actor=actor, critic=critic)
