"""What gradients and activations of a batch say about the health of a network."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rl_grads.gradients.layers import layers
from rl_grads.typing import Params

# ----------------------------------------------------------------------------- layers


def layer_norms(gradient: Params) -> dict[str, jax.Array]:
    """The L2 norm of each layer, see `layers`.

    Example:
        >>> layer_norms({"one": {"w": 3.0, "b": 4.0}})["one"].item()
        5.0
    """
    return {name: optax.tree.norm(own) for name, own in layers(gradient).items()}


def update_ratios(before: Params, after: Params) -> dict[str, jax.Array]:
    """`|after - before| / |before|` of each layer; nan where the layer is zero.

    Around 1e-3 is a common rule of thumb (Karpathy's lecture notes of CS231n); far
    above it learning is rough, far below it stands still.

    Args:
        before: Parameters.
        after: The same after an update.

    Example:
        >>> update_ratios({"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([3.0, 4.5])})
        {'all': Array(0.1, dtype=float32)}
    """
    moved = layer_norms(jax.tree.map(jnp.subtract, after, before))
    norms = layer_norms(before)
    return {
        name: jnp.where(norm > 0, moved[name] / jnp.where(norm > 0, norm, 1), jnp.nan)
        for name, norm in norms.items()
    }


# ----------------------------------------------------------------------- interference


class Interference(NamedTuple):
    """How gradients of single examples stand to each other, means over pairs.

    Attributes:
        cosine: Mean cosine.
        negative: Part of the pairs with a negative inner product: a step for one raises
            the loss of the other.
        product: Mean inner product: what a step of unit size for one takes off the loss
            of the other, to first order.
    """

    cosine: jax.Array
    negative: jax.Array
    product: jax.Array


def cosines(gram: jax.Array) -> jax.Array:
    """Cosines `[B, B]`; nan where a gradient is zero or not finite.

    Args:
        gram: Inner products of gradients, `[B, B]`.

    Example:
        >>> cosines(jnp.array([[4.0, 3.0], [3.0, 9.0]])).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    squares = jnp.diagonal(gram)
    usable = jnp.isfinite(squares) & (squares > 0)
    norms = jnp.sqrt(jnp.where(usable, squares, jnp.nan))
    return gram / norms[:, None] / norms


def interference(gram: jax.Array, same: jax.Array | None = None) -> Interference:
    """Statistics of a batch's interference matrix (Bengio, Pineau & Precup 2020).

    Pairs with a gradient that is zero or not finite do not count; without any pair all
    are nan.

    Args:
        gram: Inner products of the gradients, `[B, B]`: the interference matrix.
        same: Pairs that are one example and do not count, `[B, B]`; None: the diagonal.

    Example:
        >>> found = interference(jnp.array([[4.0, 3.0], [3.0, 9.0]]))
        >>> [float(value) for value in found]
        [0.5, 0.0, 3.0]
    """
    same = jnp.eye(len(gram), dtype=bool) if same is None else same
    angles = cosines(gram)
    pairs = jnp.isfinite(angles) & ~same

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(pairs, values, 0)) / jnp.sum(pairs)

    return Interference(mean(angles), mean(gram < 0), mean(gram))


# ------------------------------------------------------------------------ activations


def dormant_units(activations: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Which units are dormant, `[units]` (Sokar et al. 2023, definition 3.1).

    Their mean absolute activation is at most `threshold` times that of their layer's
    average unit. In a layer without any activation all are.

    Args:
        activations: Of a layer, `[N, ..., units]`; a filter is one unit.
        threshold: Their tau; may be traced. The authors take .025 for Atari.

    Example:
        >>> dormant_units(jnp.array([[0.0, 2.0], [0.0, 1.0]]), 0.025).tolist()
        [True, False]
    """
    size = jnp.mean(jnp.abs(activations), tuple(range(activations.ndim - 1)))
    return size <= threshold * jnp.mean(size)


def effective_rank(features: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """srank: how many singular values make up all but a part of their sum.

    The least k with `sum of the k largest >= (1 - threshold) * sum of all` (Kumar et
    al. 2021, "Implicit under-parameterization", section 3); 0 for features that are all
    zero.

    Args:
        features: `[N, d]`, not centred.
        threshold: Their delta; may be traced. The authors take .01.

    Returns:
        An integer scalar; -1 where a feature is not finite.

    Example:
        >>> int(effective_rank(jnp.diag(jnp.array([90.0, 9.5, 0.5])), 0.01))
        2
    """
    finite = jnp.all(jnp.isfinite(features))
    values = jnp.linalg.svd(jnp.where(finite, features, 0), compute_uv=False)
    reached = jnp.cumsum(values)
    short = reached < (1 - threshold) * reached[-1]
    rank = jnp.where(reached[-1] > 0, 1 + jnp.sum(short), 0)
    return jnp.where(finite, rank, -1)


def dormant_fractions(
    activations: Mapping[str, jax.Array], threshold: jax.Array | float
) -> dict[str, jax.Array]:
    """The part of dormant units in each layer, and in `all` of them together.

    Args:
        activations: Layer to activations `[N, ..., units]`.
        threshold: See `dormant_units`.

    Example:
        >>> layers = {"a": jnp.array([[0.0, 1.0]]), "b": jnp.ones((1, 2))}
        >>> {k: float(v) for k, v in dormant_fractions(layers, 0.025).items()}
        {'a': 0.5, 'b': 0.0, 'all': 0.25}
    """
    found = {name: dormant_units(a, threshold) for name, a in activations.items()}
    parts = {name: jnp.mean(units) for name, units in found.items()}
    return {**parts, "all": jnp.mean(jnp.concatenate(list(found.values())))}
