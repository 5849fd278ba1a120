"""Networks from configs: flax modules, values of one observation.

A network is anything with `init(key, obs) -> params` and
`apply(params, obs) -> [num_outputs]` for ONE observation. It may announce places inside
itself, see `rl_grads.gradients.clips`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rl_grads import register
from rl_grads.config import ConfigError, schema_name
from rl_grads.gradients.clips import check_site
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params, PyTree, Section

AtSite = Callable[[str, jax.Array], jax.Array]

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "elu": nn.elu}


def make(config: Config, num_outputs: int) -> Network:
    """The network that `config.network` names, with `num_outputs` outputs.

    A ConfigError where `gradient.clip.site` is a place that it does not have.
    """
    name = schema_name(config.network)
    network = register.get("network", name)(config.network, num_outputs)
    check_site(network, config.gradient.clip)
    return network


def _floats(obs: jax.Array) -> jax.Array:
    return obs.astype(jnp.result_type(float))


def _pass(name: str, x: jax.Array) -> jax.Array:
    return x


def _biases(fan_in: int) -> Callable[..., jax.Array]:
    """Uniform in +-1/sqrt(fan_in): with zeros LayerNorm would see x and 2 x alike."""
    most = fan_in**-0.5

    def init(key: jax.Array, shape: PyTree, dtype: DTypeLike) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -most, most)

    return init


class _Dense(nn.Module):
    """Hidden layers and a linear output."""

    hidden: tuple[int, ...]
    num_outputs: int
    activation: str
    layer_norm: bool = False

    @property
    def sites(self) -> tuple[str, ...]:
        names = [f"layer_{i}" for i in range(len(self.hidden))]
        return (*names[:-1], "torso") if names else ()

    @nn.compact
    def __call__(self, x: jax.Array, at_site: AtSite = _pass) -> jax.Array:
        x = _floats(x).ravel()
        for width, site in zip(self.hidden, self.sites, strict=True):
            bias = _biases(x.size) if self.layer_norm else nn.initializers.zeros
            x = nn.Dense(width, param_dtype=x.dtype, bias_init=bias)(x)
            if self.layer_norm:
                x = nn.LayerNorm(use_bias=False, use_scale=False)(x)
            x = at_site(site, _ACTIVATIONS[self.activation](x))
        return nn.Dense(self.num_outputs, param_dtype=x.dtype)(x)


class _Convolution(nn.Module):
    """A 3x3 convolution, then dense layers."""

    channels: int
    dense: _Dense

    @property
    def sites(self) -> tuple[str, ...]:
        return ("convolution" if self.dense.hidden else "torso", *self.dense.sites)

    @nn.compact
    def __call__(self, x: jax.Array, at_site: AtSite = _pass) -> jax.Array:
        x = _floats(x)
        x = nn.Conv(self.channels, (3, 3), padding="VALID", param_dtype=x.dtype)(x)
        x = at_site(self.sites[0], _ACTIVATIONS[self.dense.activation](x))
        return self.dense(x, at_site)


class NetworkRecord(NamedTuple):
    """A network from two functions, where a flax module alone does not do.

    Attributes:
        init: `init(key, obs) -> params`.
        apply: `apply(params, obs) -> [num_outputs]`, for one observation.
        sites: Places inside that it announces, see `rl_grads.gradients.clips`.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[..., Any]
    sites: tuple[str, ...] = ()


def activations(network: Network) -> Callable[..., dict[str, jax.Array]] | None:
    """What a network holds at its places: `f(params, obs) -> {place: value}`.

    Args:
        network: Any network; None comes back for one that announces no places.

    Example:
        >>> from rl_grads.agents.schema import MLP
        >>> network = mlp(MLP(hidden=(8, 3)), num_outputs=2)
        >>> params = network.init(jax.random.key(0), jnp.ones(3))
        >>> found = activations(network)(params, jnp.ones(3))
        >>> {place: value.shape for place, value in found.items()}
        {'layer_0': (8,), 'torso': (3,)}
    """
    if not getattr(network, "sites", ()):
        return None

    def collect(params: Params, obs: jax.Array) -> dict[str, jax.Array]:
        found: dict[str, jax.Array] = {}

        def at_site(name: str, x: jax.Array) -> jax.Array:
            found[name] = x
            return x

        network.apply(params, obs, at_site=at_site)
        return found

    return collect


def mlp(config: Section, num_outputs: int) -> PyTree:
    """Fully connected network.

    With `layer_norm`, hidden layers begin with random biases: normalised without them,
    an observation and its double would give the same values.

    Example:
        >>> from rl_grads.agents.schema import MLP
        >>> network = mlp(MLP(hidden=(8,)), num_outputs=2)
        >>> params = network.init(jax.random.key(0), jnp.ones(3))
        >>> network.apply(params, jnp.ones(3)).shape
        (2,)
    """
    return _Dense(
        config.hidden, num_outputs, config.activation, config.layer_norm, parent=None
    )


def linear(config: Section, num_outputs: int) -> NetworkRecord:
    """Linear in the flattened observation, without a bias: `w @ x`.

    Parameters are `{"w": [num_outputs, features]}`. A ConfigError at `init` where
    `initial_weights` are not one per feature.

    Example:
        >>> from rl_grads.agents.schema import Linear
        >>> network = linear(Linear(initial_weights=(1.0, 2.0)), num_outputs=1)
        >>> params = network.init(jax.random.key(0), jnp.zeros(2))
        >>> network.apply(params, jnp.array([3.0, 4.0])).tolist()
        [11.0]
    """

    def init(key: jax.Array, obs: jax.Array) -> dict[str, jax.Array]:
        shape, dtype = (num_outputs, obs.size), _floats(obs).dtype
        given = config.initial_weights
        if given is None:
            return {"w": jnp.full(shape, config.initial_value, dtype)}
        if len(given) != obs.size:
            raise ConfigError(
                f"network.initial_weights: expected {obs.size} numbers, one per "
                f"feature, got {len(given)}"
            )
        return {"w": jnp.broadcast_to(jnp.asarray(given, dtype), shape)}

    def apply(params: dict[str, jax.Array], obs: jax.Array) -> jax.Array:
        return params["w"] @ _floats(obs).ravel()

    return NetworkRecord(init, apply)


def convolution(config: Section, num_outputs: int) -> NetworkRecord:
    """The convolution network of MinAtar's authors, for frames `[height, width, C]`.

    A ConfigError at `init` for observations of another rank.
    """
    dense = _Dense(config.hidden, num_outputs, config.activation, parent=None)
    module = _Convolution(config.channels, dense, parent=None)

    def init(key: jax.Array, obs: jax.Array) -> PyTree:
        if obs.ndim != 3:
            raise ConfigError(
                "network=convolution: expected observations [height, width, channels], "
                f"got the shape {obs.shape}"
            )
        return module.init(key, _floats(obs))

    def apply(params: Params, obs: jax.Array, at_site: AtSite = _pass) -> PyTree:
        return module.apply(params, _floats(obs) * config.scale, at_site)

    return NetworkRecord(init, apply, module.sites)
