"""Optimizers from configs: optax, with every number traced.

They are built anew inside each trace, so a learning rate or a clip threshold is an
input of the compiled program. Schedules are not in here: `config.anneal` exchanges
the numbers themselves.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from rl_grads import register
from rl_grads.config import ConfigError, nearest, schema_name
from rl_grads.gradients import layers, receipts, update_clips
from rl_grads.typing import Params, PyTree, Section, State


def make(config: Section) -> optax.GradientTransformation:
    """The clip of the update followed by the optimizer that a config names.

    The clip leaves a receipt in the state, see `receipts.of_update`.

    Args:
        config: The whole config: `optimizer` and `gradient.update` are read.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> state = make(Config()).init({"w": 1.0})
    """
    optimizer, name = _unclipped(config.optimizer), config.gradient.update.clip
    if name is None:
        return optimizer
    clip = receipts.reported(register.get("clip", name)(config))
    return optax.chain(optax.GradientTransformation(*clip), optimizer)


def _unclipped(settings: Section) -> optax.GradientTransformation:
    """The optimizer that a section names, with its factors for single layers."""
    optimizer = register.get("optimizer", schema_name(settings))(settings)
    factors = getattr(settings, "layer_factors", {})
    return optax.chain(optimizer, scale_layers(factors)) if factors else optimizer


def scale_layers(factors: Mapping[str, PyTree]) -> optax.GradientTransformation:
    """Scale the steps of single layers; the others stay as they are.

    Args:
        factors: By name of the layer, see `layers.layers`; may be traced. A
            ConfigError at `init` for a name that is no layer.

    Example:
        >>> params = {"one": {"w": 1.0}, "two": {"w": 1.0}}
        >>> scaled, _ = scale_layers({"two": 0.5}).update(params, optax.EmptyState())
        >>> float(scaled["one"]["w"]), float(scaled["two"]["w"])
        (1.0, 0.5)
    """

    def init(params: Params) -> optax.EmptyState:
        known = layers.layers(params)
        for name in factors:
            if name not in known:
                raise ConfigError(
                    f"optimizer.layer_factors.{name}: expected a layer of the network "
                    f"({', '.join(known)}){nearest(name, known)}"
                )
        return optax.EmptyState()

    def update(
        updates: Params, state: State, params: Params = None
    ) -> tuple[Params, State]:
        def scaled(path: PyTree, leaf: jax.Array) -> jax.Array:
            return leaf * factors.get(layers.layer(path), 1.0)

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def preconditioner(config: Section, state: State) -> Params:
    """What the optimizer multiplies each element of a gradient by, at step size one.

    Measured, so that no optimizer's formula stands here again: a first update of its
    own, which has no history but the gradient, by a gradient whose second moment is
    that of the state. Momentum and the clip of the update are left out; factors of
    single layers are not.

    Args:
        config: The whole config; `optimizer` is read.
        state: The optimizer's state.

    Returns:
        A pytree like the parameters; None for an optimizer without second moments.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> adam = make(Config())
        >>> _, state = adam.update({"w": 4.0}, adam.init({"w": 1.0}))
        >>> round(float(preconditioner(Config(), state)["w"]), 4)
        0.25
    """
    settings = config.optimizer
    moment = _second_moment(settings, state)
    if moment is None:
        return None
    if hasattr(settings, "learning_rate"):
        settings = dataclasses.replace(settings, learning_rate=1.0)
    first = functools.partial(_first_update, _unclipped(settings))
    ones = jax.tree.map(jnp.ones_like, moment)
    of_ones = _second_moment(settings, first(ones)[1])
    gradient = jax.tree.map(_root_of_ratio, moment, of_ones)
    return jax.tree.map(lambda g, u: -u / g, gradient, first(gradient)[0])


_LEAST = 1e-20  # Beside any eps its root is nothing, and a quotient by it is finite.


def _root_of_ratio(moment: jax.Array, of_one: jax.Array) -> jax.Array:
    """The gradient with this second moment after one update, where 1 has `of_one`."""
    ratio = jnp.where(of_one > 0, moment / jnp.where(of_one > 0, of_one, 1), 0)
    return jnp.maximum(jnp.sqrt(ratio), _LEAST)


def _first_update(optimizer: PyTree, gradient: Params) -> tuple[Params, State]:
    """The update from a new state, of parameters at zero."""
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    return optimizer.update(gradient, optimizer.init(zeros), zeros)


def _second_moment(settings: Section, state: State) -> Params:
    """That of an optimizer's state, bias-corrected where it does so; None without."""
    moment = optax.tree.get(state, "nu")
    if moment is None or not hasattr(settings, "b2"):
        return moment
    count = optax.tree.get(state, "count")
    return optax.tree.bias_correction(moment, settings.b2, count)


def sgd(config: Section) -> optax.GradientTransformation:
    """Stochastic gradient descent, with heavy-ball momentum (Polyak 1964) if any."""
    return optax.sgd(config.learning_rate, config.momentum)


def adam(config: Section) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015)."""
    return optax.adam(
        config.learning_rate, config.b1, config.b2, config.eps, config.eps_root
    )


def rmsprop(config: Section) -> optax.GradientTransformation:
    """RMSProp (Tieleman & Hinton 2012), with eps inside the root."""
    return optax.rmsprop(
        config.learning_rate, config.decay, config.eps, momentum=config.momentum
    )


def clip_global_norm(config: Section) -> receipts.Reported:
    """Scale the whole update down to `max_norm`."""

    def receipt(updates: Params, clipped: Params, state: State) -> receipts.Receipt:
        return receipts.of_norm(
            optax.tree.norm(updates), config.gradient.update.max_norm
        )

    return receipts.reported(
        update_clips.clip_by_norm(config.gradient.update.max_norm), receipt
    )


def clip_element(config: Section) -> optax.GradientTransformation:
    """Clip every element to `[-max_abs, max_abs]`."""
    return optax.clip(config.gradient.update.max_abs)


def clip_block_rms(config: Section) -> optax.GradientTransformation:
    """Scale every array down to a root mean square of `max_rms`."""
    return update_clips.clip_by_rms(config.gradient.update.max_rms)


def clip_per_layer(config: Section) -> optax.GradientTransformation:
    """Scale every layer down to `max_norm`."""
    return update_clips.clip_by_layer(config.gradient.update.max_norm)


def clip_agc(config: Section) -> optax.GradientTransformation:
    """Adaptive gradient clipping (Brock et al. 2021): relative to the parameters."""
    clip = optax.adaptive_grad_clip(
        config.gradient.update.max_ratio, config.gradient.update.eps
    )
    return update_clips.leaving_zero_units(clip)


def clip_auto(config: Section) -> receipts.Reported:
    """AutoClip (Seetharaman et al. 2020): to a percentile of the norms so far."""

    def receipt(updates: Params, clipped: Params, state: State) -> receipts.Receipt:
        limit = update_clips.auto_limit(state, config.gradient.update.percentile)
        return receipts.of_norm(optax.tree.norm(updates), limit)

    return receipts.reported(
        update_clips.auto_clip(config.gradient.update.percentile), receipt
    )
