"""Networks from configs: flax modules, values of one observation.

A network is anything with `init(key, obs) -> params` and
`apply(params, obs) -> [num_outputs]` for ONE observation.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rl_grads import register
from rl_grads.config import schema_name

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "elu": nn.elu}


def make(config: Any, num_outputs: int) -> Any:
    """The network that `config.network` names, with `num_outputs` outputs."""
    return register.get("network", schema_name(config.network))(
        config.network, num_outputs
    )


def _floats(obs: jax.Array) -> jax.Array:
    return obs.astype(jnp.result_type(float))


class _Dense(nn.Module):
    """Hidden layers and a linear output."""

    hidden: tuple[int, ...]
    num_outputs: int
    activation: str
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _floats(x).ravel()
        for width in self.hidden:
            x = nn.Dense(width, param_dtype=x.dtype)(x)
            if self.layer_norm:
                x = nn.LayerNorm(use_bias=False, use_scale=False)(x)
            x = _ACTIVATIONS[self.activation](x)
        return nn.Dense(self.num_outputs, param_dtype=x.dtype)(x)


class _Convolution(nn.Module):
    """A 3x3 convolution, then dense layers."""

    channels: int
    dense: _Dense

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _floats(x)
        x = nn.Conv(self.channels, (3, 3), padding="VALID", param_dtype=x.dtype)(x)
        return self.dense(_ACTIVATIONS[self.dense.activation](x))


class _Bound:
    """A module whose initial parameters or inputs depend on config numbers."""

    def __init__(self, init: Any, apply: Any):
        self.init, self.apply = init, apply


def mlp(config: Any, num_outputs: int) -> Any:
    """Fully connected network."""
    return _Dense(
        config.hidden, num_outputs, config.activation, config.layer_norm, parent=None
    )


def linear(config: Any, num_outputs: int) -> Any:
    """Linear in the flattened observation, without a bias: `w @ x`."""

    def init(key: jax.Array, obs: jax.Array) -> dict[str, jax.Array]:
        dtype = _floats(obs).dtype
        if config.initial_weights is not None:
            given = jnp.asarray(config.initial_weights, dtype)
            return {"w": jnp.broadcast_to(given, (num_outputs, obs.size))}
        return {"w": jnp.full((num_outputs, obs.size), config.initial_value, dtype)}

    return _Bound(init, lambda params, obs: params["w"] @ _floats(obs).ravel())


def convolution(config: Any, num_outputs: int) -> Any:
    """The convolution network of MinAtar's authors."""
    dense = _Dense(config.hidden, num_outputs, config.activation, parent=None)
    module = _Convolution(config.channels, dense, parent=None)

    def apply(params: Any, obs: jax.Array) -> jax.Array:
        return module.apply(params, _floats(obs) * config.scale)

    return _Bound(lambda key, obs: module.init(key, _floats(obs)), apply)
