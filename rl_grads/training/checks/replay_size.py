"""Whether the replay memory of one member finds room on the device."""

import math

import jax

from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment
from rl_grads.replay import memory
from rl_grads.training import devices
from rl_grads.training.member import ring_size
from rl_grads.training.schema import Config


def check(config: Config, environment: Environment) -> None:
    """Refuse a memory that alone is larger than the device's, before it is asked for.

    Args:
        config: The config.
        environment: What it trains in; large observations are what fills a memory.

    Raises:
        ConfigError: Names the capacity, what it would take and what there is.
    """
    needed, room = _bytes(config, environment), devices.memory()
    if needed <= room or config.replay is None:
        return
    most = int(config.replay.capacity * room / needed)
    if most < 1:
        expected = "observations that fit into memory"
        raise ConfigError(f"{_observations(config, environment)}: expected {expected}")
    raise ConfigError(
        f"replay.capacity={config.replay.capacity}: expected at most about {most}, as "
        f"observations of {_observations(config, environment)} would take "
        f"{needed / 2**30:,.1f} GiB for one member, of {room / 2**30:,.1f} GiB that "
        "there are"
    )


def _observations(config: Config, environment: Environment) -> str:
    """What gives the observations their shape, and the shape."""
    stack = config.env.wrappers.frame_stack
    stacked = "" if stack is None else f"env.wrappers.frame_stack={stack}, "
    shape = environment.observation.shape
    return f"{stacked}env.id={environment.name} (shape {shape})"


def _bytes(config: Config, environment: Environment) -> int:
    """What the memory of one member takes."""
    size = ring_size(config, environment)
    if size is None:
        return 0
    frame = environment.observation
    obs = jax.ShapeDtypeStruct((size.num_envs, *frame.shape), frame.dtype)
    shapes = jax.eval_shape(
        lambda obs: memory.create(size, obs, jax.numpy.result_type(float), config), obs
    )
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
