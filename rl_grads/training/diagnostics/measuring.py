"""What ONE member measures of itself between two stretches of training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads import config as configs
from rl_grads.agents.agent import AgentState
from rl_grads.autodiff.last_layer import last_layer
from rl_grads.gradients import optimizers
from rl_grads.replay import blocked_sums, buffer, priorities
from rl_grads.replay.memory import Memory
from rl_grads.replay.priorities import Priority
from rl_grads.td.transition import Signals, Transition
from rl_grads.training import maybe
from rl_grads.training.diagnostics import health
from rl_grads.training.diagnostics.sampling_variance import relative_variance
from rl_grads.training.learning import transition
from rl_grads.training.loop import progress
from rl_grads.training.maybe import Maybe
from rl_grads.training.member import MemberState, Parts
from rl_grads.training.schema import Config, replay_of
from rl_grads.typing import Params, PyTree

# Folded into a member's key; no iteration has this number.
_DIAGNOSTICS = 0xFFFFFFFE
_TOGETHER = 32  # Gradients of single examples held in memory at a time.

# Schemes to compare, with the exponents of their authors.
_SCHEMES = {
    "td_error_0.6": (priorities.td_error, 0.6),
    "td_error": (priorities.td_error, 1.0),
    "rank_0.7": (priorities.rank, 0.7),
    "loss_adjusted_0.4": (priorities.loss_adjusted, 0.4),
    "gradient_norm_last_layer": (priorities.gradient_norm_last_layer, 1.0),
    "gradient_norm": (priorities.gradient_norm, 1.0),
}


def is_on(config: Config) -> bool:
    """Whether a config asks for anything to be measured between two stretches."""
    settings = config.diagnostics
    return settings.sampling_variance or bool(health.asked(settings))


def diagnose(parts: Parts, member: MemberState, time: jax.Array) -> dict[str, Maybe]:
    """Metrics of the current parameters that the config asks for, scalars.

    One that is nan has had nothing to measure.

    All look at the same `diagnostics.examples` transitions of the member's own memory.
    What is named `diagnostics/...` is made in `health`.

    `sampling_variance/...` is for each scheme the variance of the gradient relative to
    uniform sampling, 1 if it is no better, where the examples are taken for the whole.
    `own` is the run's scheme with fresh priorities and `stored` with those in the
    memory; `preconditioned/...` is the same of the gradient as the optimizer scales it.

    Args:
        parts: What the member is made of.
        member: Its state, with a replay memory.
        time: Steps per environment so far.
    """
    part = progress(parts.config.training, time)
    parts = parts._replace(config=configs.anneal(parts.config, part))
    assert parts.size is not None and member.memory is not None
    key = jax.random.fold_in(jax.random.fold_in(member.key, _DIAGNOSTICS), time)
    count = parts.config.diagnostics.examples
    slots = _slots(parts, member, time, key, count)
    batch = _transitions(parts, member, key, slots)
    loss = _loss(parts, member)
    view = health.View(batch, slots, loss, key, member.agent)
    metrics = health.measure(parts, member, time, view)
    if parts.config.diagnostics.sampling_variance:
        metrics |= _sampling_variance(parts, member, slots, batch)
    return {name: maybe.unless_nan(value) for name, value in metrics.items()}


def _slots(
    parts: Parts, member: MemberState, time: jax.Array, key: jax.Array, count: int
) -> jax.Array:
    """Uniformly drawn transitions of the member's memory."""
    assert parts.size is not None and member.memory is not None
    size = parts.size

    def draw(key: jax.Array, count: int) -> jax.Array:
        return buffer.draw_uniform(key, size, time, count)

    return buffer.draw_whole(draw, key, member.memory.ring, size, count).slots


def _sampling_variance(
    parts: Parts, member: MemberState, slots: jax.Array, batch: Transition
) -> dict[str, jax.Array]:
    assert member.memory is not None
    norms = _norms(parts, member, batch)
    weights = _priorities(parts.config, member.memory, norms.signals, slots)
    batches = replay_of(parts.config).large_batch
    metrics = _ratios("sampling_variance", weights, norms.raw, batches)
    if norms.preconditioned is None:
        return metrics
    prefix = "sampling_variance/preconditioned"
    return metrics | _ratios(prefix, weights, norms.preconditioned, batches)


def _priorities(
    config: Config, memory: Memory, signals: Signals, slots: jax.Array
) -> dict[str, jax.Array]:
    """The priorities of the schemes, `[M]` each."""
    weights = {
        name: _fresh(scheme, signals, config) ** exponent
        for name, (scheme, exponent) in _SCHEMES.items()
    }
    if memory.priorities is None:
        return weights
    own = _fresh(priorities.scheme(config), signals, config)
    stored = blocked_sums.get(memory.priorities.tree, slots)
    return weights | {"own": own ** replay_of(config).exponent, "stored": stored}


def _fresh(scheme: Priority, signals: Signals, config: Config) -> jax.Array:
    """Scores, or 1 over their ranks among these."""
    scores = scheme(signals, config)
    if scheme.keeps != "ranks":
        return scores
    return 1.0 / (1 + jnp.sum(scores > scores[:, None], 1))


def _ratios(
    prefix: str, weights: dict[str, jax.Array], squares: "_Squares", batches: int
) -> dict[str, jax.Array]:
    """The variances by scheme; `batches` are what `large_batch` draws."""
    ratios = {
        name: relative_variance(squares.each, weight, squares.mean)
        for name, weight in weights.items()
    }
    # To first order in 1 / batch size: the large batch is uniform itself.
    large = (1 + (batches - 1) * ratios["gradient_norm"]) / batches
    ratios = {**ratios, "large_batch": large}
    return {f"{prefix}/{name}": ratio for name, ratio in ratios.items()}


def _transitions(
    parts: Parts, member: MemberState, key: jax.Array, slots: jax.Array
) -> Transition:
    """What the loss sees of stored transitions, with a next action where one acts."""
    assert parts.size is not None and member.memory is not None
    stored = buffer.take(member.memory.ring, parts.size, slots)
    batch = transition(stored, parts.config)
    if parts.agent.act is None:
        return batch
    act, keys = parts.agent.act, jax.random.split(key, len(slots))
    a_t = jax.vmap(act, (None, 0, 0, None))(member.agent, keys, batch.s_t, parts.config)
    return batch._replace(a_t=a_t)


class _Squares(NamedTuple):
    """Squared norms of single gradients `[M]`, and that of their mean."""

    each: jax.Array
    mean: jax.Array


class _Norms(NamedTuple):
    """What single gradients say.

    Attributes:
        raw: Of the gradients.
        preconditioned: Of the gradients as the optimizer scales them; None where it
            scales all elements alike.
        signals: Of the loss, with both gradient norms.
    """

    raw: _Squares
    preconditioned: _Squares | None
    signals: Signals


def _norms(parts: Parts, member: MemberState, batch: Transition) -> _Norms:
    """Squared norms on a batch, from single gradients, a few at a time."""
    params = member.agent.params
    loss = _loss(parts, member)
    last = last_layer(parts.agent.value, params, batch.s_tm1[0])
    mean = jax.grad(lambda p: jnp.mean(jax.vmap(loss, (None, 0))(p, batch)[0]))(params)
    scale = _preconditioner(parts.config, member.agent, mean)

    def differentiate(example: Transition) -> tuple[jax.Array, jax.Array, Signals]:
        gradient, signals = jax.grad(loss, has_aux=True)(params, example)
        outer = jax.tree.map(jnp.multiply, gradient, last)
        extra = {"gradient_norm_last_layer": jnp.sqrt(_square(outer))}
        square = _square(gradient)
        signals = Signals(signals.td_error, extra, jnp.sqrt(square))
        return square, _square(gradient, scale), signals

    raw, scaled, signals = jax.lax.map(differentiate, batch, batch_size=_TOGETHER)
    preconditioned = None if scale is None else _Squares(scaled, _square(mean, scale))
    return _Norms(_Squares(raw, _square(mean)), preconditioned, signals)


def _loss(parts: Parts, member: MemberState) -> PyTree:
    """`loss(params, transition)` of ONE transition, beside what bootstraps now."""
    agent = member.agent
    bootstrap = agent.params if agent.target_params is None else agent.target_params

    def loss(params: Params, example: Transition) -> tuple[jax.Array, Signals]:
        return parts.agent.loss(params, bootstrap, example, parts.config)

    return loss


def _preconditioner(config: Config, agent: AgentState, mean: Params) -> PyTree:
    """That of an update by the mean gradient, so that no second moment is zero."""
    update = optimizers.make(config).update
    return optimizers.preconditioner(config, update(mean, agent.optimizer)[1])


def _square(gradient: Params, scale: Params = None) -> jax.Array:
    """Squared norm, of the gradient times `scale` if there is one."""
    if scale is not None:
        gradient = jax.tree.map(jnp.multiply, gradient, scale)
    return optax.tree.norm(gradient, squared=True)
