"""The networks of the learners: actors (see policies/actor.py) and critics.

Initial weights come from NumPy, orthogonal (Saxe et al. 2014): QR inside a compiled function can hang XLA on CPUs.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies import actor as acting
from edgebrush.policies import diffusion as denoising
from edgebrush.policies import mlp
from edgebrush.policies.folder import DIFFUSION, MLP, MLP_DIFFUSION, SOFTMAX
from edgebrush.policies.rules import PRICED_GREEDY, tunable_parameters

AnyNetwork = TypeVar("AnyNetwork", bound=eqx.Module)
RELU_GAIN = 2.0**0.5
MAX_LOG_KAPPA = float(np.log(60.0))  # a sharper softmax hardly explores


def orthogonal(rng: np.random.Generator, rows: int, columns: int, gain: float) -> np.ndarray:
    """A ``(rows, columns)`` float32 matrix with orthonormal rows or columns, times ``gain``."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return (gain * (q if rows >= columns else q.T)).astype(np.float32)


class ActorInputs(NamedTuple):
    """What an actor makes of observations ``(B, ...)`` whatever its weights: worked out once, used in every epoch."""

    observations: jax.Array  # (B, layout.size)
    scaled: jax.Array  # the network's inputs


class Actor(eqx.Module):
    """A network of logits of all choices. ``scale``, of its inputs, is not trained."""

    weights: dict[str, jax.Array]
    scale: jax.Array
    layout: ObservationLayout = eqx.field(static=True)
    kind: ClassVar[str]  # of policy, see policies/folder.py

    def __call__(self, observations: jax.Array, draws: jax.Array | None = None) -> jax.Array:
        """Logits ``(B, C)`` of observations ``(B, layout.size)``; ``draws`` are for diffusion policies alone."""
        return self.logits(self.prepare(observations))

    def prepare(self, observations: jax.Array) -> ActorInputs:
        """The inputs of ``logits``."""
        return ActorInputs(observations, acting.scale_inputs(self.raw_inputs(observations, jnp), self.scale, jnp))

    def all_weights(self) -> dict[str, jax.Array]:
        """The arrays of a policy folder."""
        return {**self.weights, "scale": jax.lax.stop_gradient(self.scale)}

    def raw_inputs(self, observations: Any, xp: ModuleType) -> Any:
        """The network's inputs before scaling."""
        raise NotImplementedError

    def logits(self, inputs: ActorInputs) -> jax.Array:
        """Logits ``(B, C)`` of prepared observations."""
        raise NotImplementedError

    def advantages(self, observations: jax.Array) -> jax.Array:
        """The logits ``(B, C)`` minus their mean over the choices, see ``choice_weights``: a dueling network's part."""
        logits = self(observations)
        present = logits > 0.5 * acting.FORBIDDEN
        return logits - (self.choice_weights(logits, present) * logits).sum(-1, keepdims=True)

    def choice_weights(self, logits: jax.Array, present: jax.Array) -> jax.Array:
        """The weight of every choice ``(B, C)`` in the mean that ``advantages`` subtracts."""
        raise NotImplementedError

    def sharpened(self, inverse_temperature: jax.Array) -> Self:
        """The actor with its logits multiplied by ``inverse_temperature``."""
        raise NotImplementedError


class PricedActor(Actor):
    """The actor of policies/actor.py, which explains the weights."""

    kind = SOFTMAX

    def raw_inputs(self, observations: Any, xp: ModuleType) -> Any:
        return acting.raw_inputs(self.layout, observations, xp)

    def logits(self, inputs: ActorInputs) -> jax.Array:
        outputs = acting.forward(self.weights, inputs.scaled, jnp)
        return acting.combine_logits(self.weights, self.layout, inputs.observations, outputs, jnp)

    def choice_weights(self, logits: jax.Array, present: jax.Array) -> jax.Array:
        """The softmax: a uniform mean would give absurd choices the same weight as sensible ones.

        A dueling network's value is then that of the policy that acts.
        """
        return jax.nn.softmax(logits)

    def sharpened(self, inverse_temperature: jax.Array) -> PricedActor:
        weights, prices = dict(self.weights), self.layout.action_space.classes  # the network's first outputs are prices
        weights["log_kappa"] = weights["log_kappa"] + jnp.log(inverse_temperature)
        weights["class_slope"] = weights["class_slope"] * inverse_temperature
        for name in ("w_out", "b_out"):
            weights[name] = weights[name].at[..., prices:].multiply(inverse_temperature)
        return PricedActor(weights, self.scale, self.layout)


class MlpActor(Actor):
    """The actor of policies/mlp.py, which explains the weights."""

    bs_count: int = eqx.field(static=True)
    kind = MLP

    def raw_inputs(self, observations: Any, xp: ModuleType) -> Any:
        return mlp.raw_inputs(self.layout, observations, self.bs_count, xp)

    def logits(self, inputs: ActorInputs) -> jax.Array:
        scores = mlp.forward(self.weights, inputs.scaled, jnp)
        return mlp.forbid_absent(self.layout, inputs.observations, scores, jnp)

    def choice_weights(self, logits: jax.Array, present: jax.Array) -> jax.Array:
        """Uniform over the present choices (Wang et al. 2016)."""
        return present / present.sum(-1, keepdims=True)

    def sharpened(self, inverse_temperature: jax.Array) -> MlpActor:
        last = {name: self.weights[name] * inverse_temperature for name in ("w_3", "b_3")}
        return MlpActor({**self.weights, **last}, self.scale, self.layout, self.bs_count)


def mlp_weights(rng: np.random.Generator, inputs: int, hidden: int, outputs: int) -> dict[str, jax.Array]:
    """Weights of a perceptron whose outputs are close to zero."""
    sizes, gains = (inputs, hidden, hidden, outputs), (RELU_GAIN, RELU_GAIN, 0.01)
    weights = {}
    for n, (rows, columns, gain) in enumerate(zip(sizes[:-1], sizes[1:], gains, strict=True), 1):
        weights[f"w_{n}"] = jnp.asarray(orthogonal(rng, rows, columns, gain))
        weights[f"b_{n}"] = jnp.zeros(columns)
    return weights


def new_actor(
    rng: np.random.Generator,
    layout: ObservationLayout,
    hidden: int,
    bs_count: int,
    rule_parameters: np.ndarray | None,
    network: str = SOFTMAX,
) -> Actor:
    """An actor of this kind of ``network``.

    One with prices starts as the priced greedy rule with these parameters; None: without prices. A perceptron starts
    with nearly equal probabilities (Andrychowicz et al. 2021).
    """
    if network == MLP:
        inputs = mlp.input_size(layout, bs_count)
        return MlpActor(mlp_weights(rng, inputs, hidden, layout.action_space.count), jnp.ones(inputs), layout, bs_count)
    inputs = acting.input_size(layout.action_space)
    weights = init_weights(rng, inputs, acting.output_size(layout.action_space), hidden, bs_count, rule_parameters)
    return PricedActor(weights, jnp.ones(inputs), layout)


def init_weights(
    rng: np.random.Generator, inputs: int, outputs: int, hidden: int, bs_count: int, rule_parameters: np.ndarray | None
) -> dict[str, jax.Array]:
    """Weights of an actor whose network outputs are close to zero, see ``new_actor``."""
    zeros = np.zeros(hidden, np.float32)
    weights = {
        "w_in": orthogonal(rng, inputs, hidden, RELU_GAIN),
        "b_in": zeros,
        "w_embed": orthogonal(rng, hidden, hidden, RELU_GAIN),
        "b_embed": zeros,
        "w_self": orthogonal(rng, hidden, hidden, 1.0),
        "w_mean": orthogonal(rng, hidden, hidden, 1.0),
        "b_mix": zeros,
        "w_out": orthogonal(rng, hidden, outputs, 0.01),
        "b_out": np.zeros(outputs, np.float32),
    }
    if rule_parameters is None:
        numbers = tunable_parameters(PRICED_GREEDY, bs_count)
        rule_parameters = np.array([number.start if number.name.startswith("log_") else 0.0 for number in numbers])
    *prices, price_own, growth_own, in_flight, wait_factor, log_temperature, log_urgency = rule_parameters
    scalars = {
        "price_own": price_own,
        "growth_own": growth_own,
        "in_flight": in_flight,
        "wait_factor": wait_factor,
        "log_kappa": min(-log_temperature, MAX_LOG_KAPPA),
        "log_urgency": log_urgency,
        "class_slope": 4.0,
    }
    weights |= {name: np.array(value, np.float32) for name, value in scalars.items()}
    weights["prices"] = np.array(prices[:bs_count], np.float32)
    weights["growth"] = np.array(prices[bs_count:], np.float32)
    return {name: jnp.asarray(value) for name, value in weights.items()}


class Diffusion(eqx.Module):
    """The policy of policies/diffusion.py, which explains the weights. Only ``weights`` is trained."""

    weights: dict[str, jax.Array]
    scale: jax.Array  # (denoising.input_size,)
    log_inverse_temperature: jax.Array
    layout: ObservationLayout = eqx.field(static=True)
    kind: ClassVar[str] = DIFFUSION

    def __call__(self, observations: jax.Array, draws: jax.Array) -> jax.Array:
        """Logits ``(B, C)`` of observations ``(B, layout.size)``, denoised from the noise of ``draws (B,)``."""
        return self.denoise(observations, denoising.noise_from_draws(draws, self.layout.action_space.count, jnp))

    def denoise(self, observations: jax.Array, noise: jax.Array) -> jax.Array:
        """Logits ``(B, C)`` denoised from ``noise (B, STEPS, C)``."""
        return denoising.logits(self.all_weights(), self.layout, observations, noise, jnp)

    def all_weights(self) -> dict[str, jax.Array]:
        """The arrays of a policy folder."""
        fixed = {"scale": self.scale, "log_sharpness": self.log_inverse_temperature}
        return {**self.weights, **jax.lax.stop_gradient(fixed)}

    def sharpened(self, inverse_temperature: jax.Array) -> Self:
        """The policy with its logits multiplied by ``inverse_temperature``."""
        log = self.log_inverse_temperature + jnp.log(inverse_temperature)
        return eqx.tree_at(lambda policy: policy.log_inverse_temperature, self, log)


class MlpDiffusion(Diffusion):
    """The policy of policies/diffusion.py whose denoiser is a perceptron."""

    bs_count: int = eqx.field(static=True)
    kind = MLP_DIFFUSION

    def denoise(self, observations: jax.Array, noise: jax.Array) -> jax.Array:
        return denoising.mlp_logits(self.all_weights(), self.layout, observations, noise, self.bs_count, jnp)


def new_diffusion(
    rng: np.random.Generator, actor: Actor, hidden: int, bs_count: int, rule_parameters: np.ndarray | None
) -> Diffusion:
    """A diffusion policy of the actor's kind, with its input scales.

    It starts as the softmax of the tuned rule; a perceptron, with nearly equal scores.
    """
    layout, action_space = actor.layout, actor.layout.action_space
    if actor.kind == MLP:
        inputs = denoising.mlp_input_size(layout, bs_count)
        weights = mlp_weights(rng, inputs, hidden, action_space.count)
        return MlpDiffusion(weights, _padded(actor.scale, inputs), jnp.zeros(()), layout, bs_count)
    inputs, outputs = denoising.input_size(action_space), acting.output_size(action_space)
    weights = init_weights(rng, inputs, outputs, hidden, bs_count, rule_parameters)
    return Diffusion(weights, _padded(actor.scale, inputs), jnp.zeros(()), layout)


def _padded(scale: jax.Array, size: int) -> jax.Array:
    return jnp.concatenate([scale, jnp.ones(size - len(scale))])


class Critic(eqx.Module):
    """A value network: of the global state, or of a local observation. Scales are not trained."""

    w: tuple[jax.Array, ...]
    b: tuple[jax.Array, ...]
    scale: jax.Array  # (state_size,)
    mean: jax.Array  # of what the outputs estimate
    deviation: jax.Array

    def __call__(self, states: jax.Array) -> jax.Array:
        """The first output ``(B,)`` for states ``(B, state_size)``."""
        return self.outputs(states)[:, 0]

    def outputs(self, states: jax.Array) -> jax.Array:
        """All outputs, ``(B, n)``."""
        return self.outputs_of(self.prepare(states))

    def prepare(self, states: jax.Array) -> jax.Array:
        """The scaled inputs of ``outputs_of``: worked out once, used in every epoch."""
        return acting.scale_inputs(states, jax.lax.stop_gradient(self.scale), jnp)

    def outputs_of(self, x: jax.Array) -> jax.Array:
        """All outputs, ``(B, n)``, of prepared states."""
        for w, b in zip(self.w[:-1], self.b[:-1], strict=True):
            x = jax.nn.relu(x @ w + b)
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        return mean + deviation * (x @ self.w[-1] + self.b[-1])


def new_critic(rng: np.random.Generator, state_size: int, hidden: int, gain: float = 1.0, outputs: int = 1) -> Critic:
    """A critic whose outputs are of the size of ``gain`` before training."""
    sizes = (state_size, hidden, hidden, outputs)
    gains = (RELU_GAIN, RELU_GAIN, gain)
    w = tuple(
        jnp.asarray(orthogonal(rng, rows, columns, gain))
        for rows, columns, gain in zip(sizes[:-1], sizes[1:], gains, strict=True)
    )
    b = tuple(jnp.zeros(columns) for columns in sizes[1:])
    return Critic(w, b, jnp.ones(state_size), jnp.zeros(()), jnp.ones(()))


def logit_cost_of(actor: Actor) -> jax.Array:
    """The cost of one logit of a new actor. With it, Q starts as minus the social cost."""
    return jnp.exp(-actor.weights["log_kappa"])


def fit_input_scale(network: AnyNetwork, inputs: np.ndarray) -> AnyNetwork:
    """The network with the input scales of typical ``inputs (..., n)``."""
    scale = input_scale(inputs.reshape(-1, inputs.shape[-1]))
    return eqx.tree_at(lambda network: network.scale, network, jnp.asarray(scale))


def input_scale(inputs: np.ndarray) -> np.ndarray:
    """The mean magnitude of each column of ``inputs (rows, n)``, zeros left out; 1 for a column of zeros."""
    magnitude = np.abs(inputs)
    used = (magnitude > 0).sum(0)
    return np.where(used > 0, magnitude.sum(0) / np.maximum(used, 1), 1.0).astype(np.float32)
