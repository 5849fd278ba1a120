"""Receipts: what a clip did, as metrics `clip/KIND/...`.

There are clips of three kinds: `graph` (`gradient.clip`, of each example's derivative
at a place in the network), `per_example` (of each example's gradient) and `update`
(`gradient.update`, of what the optimizer gets). All report the same four numbers, and
only where a config asks for the clip.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.custom_derivatives import SymbolicZero

from rl_grads.arrays import Number, Scalar
from rl_grads.autodiff.clip import clip_gradient
from rl_grads.gradients.estimators import About, Params, has_clip, weighted_losses
from rl_grads.typing import PyTree, Section, State


class Receipt(NamedTuple):
    """What a clip did to one vector; of several clips, `[B]` or their mean.

    Attributes:
        fraction: The part of its non-zero elements that the clip changed. A clip by
            norm changes all or none, so its mean is the part of the clips that did.
        norm_before: L2 norm.
        norm_after: L2 norm.
        angle: Between before and after, in degrees; 0 where either is zero.
    """

    fraction: jax.Array
    norm_before: jax.Array
    norm_after: jax.Array
    angle: jax.Array


def compare(before: Params, after: Params) -> Receipt:
    """The receipt of a clip, from what it got and what it gave.

    Nothing is differentiated through a receipt.

    Args:
        before: A pytree of arrays, seen as one vector.
        after: One of the same structure.

    Example:
        >>> receipt = compare(jnp.array([3.0, 4.0, 0.0]), jnp.array([3.0, 3.0, 0.0]))
        >>> [round(float(x), 3) for x in receipt]
        [0.5, 5.0, 4.243, 8.13]
    """
    before, after = jax.lax.stop_gradient((before, after))
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    nonzero = sum(jnp.sum(b != 0) for b, _ in pairs)
    changed = sum(jnp.sum((b != 0) & (a != b)) for b, a in pairs)
    norm_before, norm_after = optax.tree.norm(before), optax.tree.norm(after)
    return Receipt(
        fraction=changed / jnp.maximum(nonzero, 1),
        norm_before=norm_before,
        norm_after=norm_after,
        angle=_angle(pairs, norm_before, norm_after),
    )


def _angle(
    pairs: list[tuple[jax.Array, jax.Array]], norm: jax.Array, other: jax.Array
) -> jax.Array:
    """The angle from the chord between the unit vectors: it keeps its digits near 0."""
    zero = (norm == 0) | (other == 0)
    inverse, other_inverse = (1 / jnp.where(zero, 1, n) for n in (norm, other))
    square = sum(jnp.sum(jnp.square(b * inverse - a * other_inverse)) for b, a in pairs)
    half_chord = jnp.minimum(jnp.sqrt(square) / 2, 1)
    return jnp.where(zero, 0, jnp.rad2deg(2 * jnp.arcsin(half_chord)))


def of_norm(before: Scalar, max_norm: Number) -> Receipt:
    """The receipt of a clip to a norm, which needs nothing but the norm before.

    The passes of `compare` over all parameters are felt in the update of a small
    network; this is free.

    Args:
        before: L2 norm of what it got.
        max_norm: The largest norm that it gives.

    Example:
        >>> [float(x) for x in of_norm(jnp.array(5.0), 2.0)]
        [1.0, 5.0, 2.0, 0.0]
    """
    before, max_norm = jax.lax.stop_gradient((before, max_norm))
    return Receipt(
        fraction=(before > max_norm).astype(before.dtype),
        norm_before=before,
        norm_after=jnp.minimum(before, max_norm),
        angle=jnp.zeros_like(before),
    )


def metrics(kind: str, receipt: Receipt) -> dict[str, jax.Array]:
    """A receipt as metrics; those of several clips `[B]` are averaged.

    Args:
        kind: `graph`, `per_example` or `update`.
        receipt: Of one clip, or of several.
    """
    fields = receipt._asdict().items()
    return {f"clip/{kind}/{name}": jnp.mean(value) for name, value in fields}


# ---------------------------------------------------------------- clips of the update


class ReportedState(NamedTuple):
    """State of a clip, and the receipt of its last update."""

    clip: Any
    receipt: Receipt


class Reported(NamedTuple):
    """An optax transformation whose state is a `ReportedState`."""

    init: Callable[..., Any]
    update: Callable[..., Any]


def reported(
    clip: PyTree, receipt: Callable[[PyTree, PyTree, PyTree], Receipt] | None = None
) -> Reported:
    """The same transformation, with the receipt of each update in its state.

    Args:
        clip: An optax transformation; one that is `Reported` comes back.
        receipt: `receipt(updates, clipped, state)`, with the clip's state after the
            update; None: `compare` of the first two.

    Example:
        >>> clip = reported(optax.clip_by_global_norm(1.0))
        >>> gradient = jnp.array([0.0, 4.0])
        >>> _, state = clip.update(gradient, clip.init(gradient))
        >>> float(state.receipt.norm_before), float(state.receipt.norm_after)
        (4.0, 1.0)
    """

    if isinstance(clip, Reported):
        return clip

    def init(params: Params) -> ReportedState:
        nothing = jnp.zeros((), jnp.result_type(float))
        return ReportedState(clip.init(params), Receipt(*[nothing] * 4))

    def update(
        updates: Params, state: State, params: Params = None
    ) -> tuple[Params, State]:
        clipped, inner = clip.update(updates, state.clip, params)
        if receipt is None:
            return clipped, ReportedState(inner, compare(updates, clipped))
        return clipped, ReportedState(inner, receipt(updates, clipped, inner))

    return Reported(init, update)


def of_update(optimizer_state: State) -> dict[str, jax.Array]:
    """The metrics of the update's clip; none without a clip.

    Args:
        optimizer_state: State of what `optimizers.make` made, after an update.
    """
    receipt = optax.tree.get(optimizer_state, "receipt")
    return {} if receipt is None else metrics("update", receipt)


# --------------------------------------------------------------- clips inside the graph


def of_graph(about: About) -> dict[str, jax.Array]:
    """The metrics of the clip inside the graph: means over examples and places.

    What it clips is a derivative of one example's loss, here times its weight, which
    also scales the thresholds. This is a backward pass of its own for any gradient
    estimator, but only down to the clips: what it has in common with the estimator's
    own, the compiler computes once.

    Args:
        about: Its loss clips by `clip_of` and `clip_here` as `gradient.clip` of its
            config says; without a clip inside the graph there are no metrics.
    """
    if not has_clip(about.config):
        return {}
    fixed = About(about.loss, *jax.lax.stop_gradient(about[1:]))

    def total(params: Params, note: jax.Array) -> jax.Array:
        noted = fixed._replace(params=params, config=_with_note(fixed.config, note))
        return jnp.sum(weighted_losses(noted)[0])

    # Also in `params`, so that `clip_of` can tell them from constants.
    _, note = jax.grad(total, (0, 1))(fixed.params, jnp.zeros(5))
    count, *sums = note
    means = (x / jnp.maximum(count, 1) for x in sums)
    return metrics("graph", Receipt(*means))


def _with_note(config: Section, note: jax.Array) -> Params:
    clip = config.gradient.clip
    noted = Noted(clip.max_abs, clip.max_norm, clip.site, note)
    gradient = dataclasses.replace(config.gradient, clip=noted)
    return dataclasses.replace(config, gradient=gradient)


@dataclasses.dataclass(frozen=True)
class Noted:
    """`gradient.clip` with a place for its receipts; stands in a config for it.

    Attributes:
        max_abs: As in the config.
        max_norm: As in the config.
        site: As in the config.
        note: Zeros `[5]`. Its "gradient" is a count of clips and the sums of their
            receipts.
    """

    max_abs: Any
    max_norm: Any
    site: str
    note: jax.Array


def clip_of(clip: PyTree, params: Params) -> Params:
    """The clip for one pass of a network, which notes nothing for constant parameters.

    Nothing is clipped where no derivative is taken, as in a bootstrap.

    Args:
        clip: `gradient.clip`, or a `Noted` one.
        params: What the network is about to be applied to.
    """
    if not isinstance(clip, Noted):
        return clip
    return dataclasses.replace(clip, note=_if_differentiated(clip.note, params))


def clip_here(x: jax.Array, clip: PyTree) -> jax.Array:
    """The identity, with the gradient clipped as `gradient.clip` says.

    Args:
        x: A value in the network.
        clip: From `clip_of`.
    """
    if isinstance(clip, Noted):
        return _clip_and_note(x, clip.note, clip.max_abs, clip.max_norm)
    return clip_gradient(x, clip.max_abs, clip.max_norm)


@jax.custom_vjp
def _if_differentiated(note: jax.Array, params: Params) -> jax.Array:
    """The note, cut off from its own "gradient" where parameters are constant."""
    return note


def _gate(note: PyTree, params: Params) -> tuple[jax.Array, tuple[()] | None]:
    moved = any(leaf.perturbed for leaf in jax.tree.leaves(params))
    return note.value, () if moved else None


_if_differentiated.defvjp(
    _gate,
    lambda moved, noted: (None if moved is None else noted, None),
    symbolic_zeros=True,
)


@jax.custom_vjp
def _clip_and_note(
    x: jax.Array, note: jax.Array, max_abs: PyTree, max_norm: PyTree
) -> jax.Array:
    """The clip, whose receipt goes where a gradient of `note` would."""
    return x


def _forward(
    x: PyTree, note: PyTree, max_abs: PyTree, max_norm: PyTree
) -> tuple[Params, State]:
    return x.value, jax.tree.map(lambda t: t.value, (max_abs, max_norm))


def _backward(thresholds: PyTree, cotangent: PyTree) -> tuple[Params, ...]:
    if isinstance(cotangent, SymbolicZero):  # Without a derivative, as in an argmax.
        return None, None, None, None
    max_abs, max_norm = thresholds
    _, pull = jax.vjp(lambda x: clip_gradient(x, max_abs, max_norm), cotangent)
    (clipped,) = pull(cotangent)
    if max_abs is None:
        receipt = of_norm(optax.tree.norm(cotangent), max_norm)
    else:
        receipt = compare(cotangent, clipped)
    noted = jnp.stack([jnp.ones(()), *receipt])
    return clipped, noted.astype(jnp.result_type(float)), None, None


_clip_and_note.defvjp(_forward, _backward, symbolic_zeros=True)
