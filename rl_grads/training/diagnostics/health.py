"""How healthy ONE member's gradients and network are: `diagnostics.*`.

Every measurement is asked for by name in the config; of one that is not, the compiled
program has no trace.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.agents.agent import AgentState
from rl_grads.autodiff.per_example import gradient_statistics
from rl_grads.config import ConfigError
from rl_grads.replay import memory
from rl_grads.td.transition import Transition
from rl_grads.training.diagnostics import measures
from rl_grads.training.learning import transition
from rl_grads.training.member import MemberState, Parts
from rl_grads.typing import PyTree, Section

Metrics = dict[str, jax.Array]

SETTINGS = (
    "noise_scale",
    "layer_norms",
    "nonfinite_examples",
    "interference",
    "update_ratios",
    "dormant_threshold",
    "rank_threshold",
    "own",
)
OF_ACTIVATIONS = ("dormant_threshold", "rank_threshold")
_OF_GRADIENTS = {"noise_scale", "layer_norms", "nonfinite_examples", "interference"}
_LAST = "torso"  # The name of what the last layer reads.


class View(NamedTuple):
    """What a member looks at.

    Attributes:
        batch: Transitions `[M, ...]`, as an update's loss sees them.
        slots: Where they lie in the memory, `[M]`.
        loss: `loss(params, transition) -> (scalar, signals)`.
        key: PRNG key.
        agent: State of the agent; `loss` is derived at its `params`.
    """

    batch: Transition
    slots: jax.Array
    loss: Callable[..., Any]
    key: jax.Array
    agent: AgentState


def is_asked(value: object) -> bool:
    """Whether the value of a setting of `diagnostics` asks for a measurement."""
    if isinstance(value, tuple):
        return len(value) > 0
    return value is not None and value is not False  # Numbers may be traced.


def asked(settings: Section) -> tuple[str, ...]:
    """The measurements that section `diagnostics` asks for.

    Example:
        >>> from rl_grads.training.diagnostics.schema import Diagnostics
        >>> asked(Diagnostics(interference=True, rank_threshold=0.0))
        ('interference', 'rank_threshold')
    """
    values = ((name, getattr(settings, name)) for name in SETTINGS)
    return tuple(name for name, value in values if is_asked(value))


def measure(
    parts: Parts, member: MemberState, time: jax.Array, view: View
) -> dict[str, jax.Array]:
    """Metrics `diagnostics/...`, scalars, of what the config asks for.

    Args:
        parts: What the member is made of, with the numbers of this moment.
        member: Its state, with a replay memory.
        time: Steps per environment so far.
        view: What to look at.
    """
    found = _of_gradients(parts, member, view) | _of_activations(parts, member, view)
    if parts.config.diagnostics.update_ratios:
        found |= _of_an_update(parts, member, time, view.key)
    for name in parts.config.diagnostics.own:
        found |= _named(name, register.get("diagnostic", name)(view, parts.config))
    return {f"diagnostics/{name}": value for name, value in found.items()}


def _named(name: str, measured: PyTree) -> Metrics:
    """A number under the name of its measurement, several below it."""
    if isinstance(measured, Mapping):
        return _prefixed(name, measured)
    return {name: measured}


def _of_gradients(parts: Parts, member: MemberState, view: View) -> Metrics:
    """What the gradients of single examples say, by one backward pass."""
    wanted = parts.config.diagnostics
    if not _OF_GRADIENTS & set(asked(wanted)):
        return {}
    ask = gradient_statistics(
        view.loss,
        noise_scale=wanted.noise_scale,
        gram=wanted.interference,
        has_aux=True,
    )
    found, size = ask(member.agent.params, None, view.batch), len(view.slots)
    metrics: Metrics = {}
    if found.noise_scale is not None:
        metrics["noise_scale"] = found.noise_scale
    if wanted.nonfinite_examples:
        metrics["nonfinite_examples"] = found.num_nonfinite / size
    if wanted.layer_norms:
        usable = jnp.maximum(size - found.num_nonfinite, 1)
        mean = jax.tree.map(lambda leaf: leaf / usable, found.gradient)
        metrics |= _prefixed("gradient_norm", measures.layer_norms(mean))
    if found.gram is not None:
        # Draws are with replacement, and the cosine of an example with itself is 1.
        same = view.slots[:, None] == view.slots
        pairs = measures.interference(found.gram, same)
        metrics |= _prefixed("interference", pairs._asdict())
    return metrics


def _of_activations(parts: Parts, member: MemberState, view: View) -> Metrics:
    wanted, params = parts.config.diagnostics, member.agent.params
    if not set(OF_ACTIVATIONS) & set(asked(wanted)):
        return {}
    assert parts.agent.activations is not None
    activations = jax.vmap(parts.agent.activations, (None, 0))
    found, metrics = activations(params, view.batch.s_tm1), {}
    if wanted.dormant_threshold is not None:
        fractions = measures.dormant_fractions(found, wanted.dormant_threshold)
        metrics |= _prefixed("dormant", fractions)
    if wanted.rank_threshold is not None:
        rank = measures.effective_rank(_features(found), wanted.rank_threshold)
        metrics["effective_rank"] = rank
    return metrics


def _features(activations: Mapping[str, jax.Array]) -> jax.Array:
    """What the last layer reads, `[M, d]`."""
    if _LAST not in activations:
        raise ConfigError(
            f"diagnostics.rank_threshold: expected a network with a place {_LAST!r}, "
            f"what its last layer reads; it announces {', '.join(activations)}"
        )
    return activations[_LAST].reshape(len(activations[_LAST]), -1)


def _of_an_update(
    parts: Parts, member: MemberState, time: jax.Array, key: jax.Array
) -> Metrics:
    """What the next update would do, on a batch as the run draws them."""
    assert parts.size is not None and member.memory is not None
    key = jax.random.fold_in(key, 1)
    drawn = memory.sample(member.memory, parts.size, time, key, parts.config)
    batch = transition(drawn.experience, parts.config)
    new, _ = parts.agent.update(member.agent, batch, drawn.weights, parts.config)
    ratios = measures.update_ratios(member.agent.params, new.params)
    return _prefixed("update_ratio", ratios)


def _prefixed(prefix: str, values: Mapping[str, jax.Array]) -> Metrics:
    return {f"{prefix}/{name}": value for name, value in values.items()}
