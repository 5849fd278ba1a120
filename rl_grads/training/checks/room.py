"""Whether all members find room on the devices."""

import math
from collections.abc import Mapping

import jax

from rl_grads import prng
from rl_grads.config import ConfigError, get, schema_name
from rl_grads.envs.environment import Environment
from rl_grads.training import devices, loop
from rl_grads.training.engine import AT_ONCE, Given, make_agent
from rl_grads.training.member import Parts, ring_size
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree


def check(config: Config, given: Given, environment: Environment, members: int) -> None:
    """Refuse members that need more memory than there is, before they ask for it.

    Their state is known exactly, by shapes alone; what an update computes with on top
    of it is guessed, rather too low.

    Args:
        config: The config.
        given: What was handed over as objects.
        environment: What it trains in; large observations are what fills a memory.
        members: How many there are.

    Raises:
        ConfigError: Names the largest part, what it would take and what there is.
    """
    parts = sizes(config, given, environment)
    per_member, room = sum(parts.values()), devices.memory() * devices.memories()
    idle = max(members - AT_ONCE * jax.local_device_count(), 0)
    together = members * per_member - idle * parts["an update"]
    if together <= room:
        return
    if per_member > devices.memory():
        raise ConfigError(_too_large(config, parts, room))
    most = int(room / per_member)
    largest = max(parts, key=lambda name: parts[name])
    raise ConfigError(
        f"seeds={members}: expected at most about {most:,}, as a member takes "
        f"{_bytes(per_member)} (most of it {largest}) and all together "
        f"{_bytes(together)} of {_bytes(room)} that there are"
    )


def sizes(config: Config, given: Given, environment: Environment) -> Mapping[str, int]:
    """Bytes of one member, by what they are for. Nothing is computed.

    Example:
        >>> from rl_grads.envs.make import make
        >>> found = sizes(Config(), Given(None, None), make(Config().env))
        >>> max(found, key=lambda name: found[name])
        'replay memory'
    """
    agent = given.agent or make_agent(config, environment)
    parts = Parts(agent, environment, ring_size(config, environment), config)
    member = jax.eval_shape(lambda: loop.init(parts, prng.key(0)))
    parameters = _size((member.agent.params, member.agent.target_params))
    return {
        "replay memory": _size(member.memory),
        "parameters": parameters + _size(member.agent.average),
        "the optimizer": _size(member.agent.optimizer),
        "environments": _size((member.environment, member.obs)),
        "an update": _update(config, member.agent.params),
    }


def _update(config: Config, params: PyTree) -> int:
    """A gradient and a step, and what the layers give forwards and backwards."""
    training, leaves = config.training, jax.tree.leaves(params)
    batch = training.batch_size
    if config.replay is None:
        batch = training.num_envs * training.num_steps
    width = sum(x.shape[-1] * x.dtype.itemsize for x in leaves if len(x.shape) > 1)
    return 2 * _size(params) + 2 * batch * width


def _size(tree: PyTree) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def _bytes(count: float) -> str:
    unit, name = next(
        (size, name)
        for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
        if count >= size or size == 1
    )
    return f"{count / unit:,.1f} {name}"


def _too_large(config: Config, parts: Mapping[str, int], room: float) -> str:
    """What to say of one member that is too large by itself; see also `replay_size`."""
    largest = max(parts, key=lambda name: parts[name])
    takes = f"{_bytes(parts[largest])} for one member, of {_bytes(room)} that there are"
    if largest == "replay memory" and config.replay is not None:
        capacity = config.replay.capacity
        return f"replay.capacity={capacity}: expected less: it would take {takes}"
    if largest == "environments":
        num_envs = config.training.num_envs
        return f"training.num_envs={num_envs}: expected fewer: they would take {takes}"
    if largest == "an update" and 2 * parts["parameters"] <= room:  # Of one example.
        key = "training.num_envs" if config.replay is None else "training.batch_size"
        return f"{key}={get(config, key)}: expected less: an update would take {takes}"
    name = schema_name(config.network)
    hidden = getattr(config.network, "hidden", None)
    given = f"network={name}" if hidden is None else f"network.hidden={list(hidden)}"
    return f"{given}: expected a smaller network: {largest} would take {takes}"
