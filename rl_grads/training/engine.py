"""One population's compiled programs: vmapped over members, sharded over devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

from rl_grads import register
from rl_grads.agents.agent import Agent
from rl_grads.config import schema_name
from rl_grads.envs.environment import Environment
from rl_grads.envs.make import make as make_environment
from rl_grads.training import evaluation, loop
from rl_grads.training.diagnostics import measuring
from rl_grads.training.member import Parts, ring_size

_MEMBERS = PartitionSpec("members")
_SHARED = PartitionSpec()
_TOGETHER = "together"  # The members on one device.


class Given:
    """Agent and environment handed over as objects; None: as the config says.

    Compared by the identity of what it holds, so that one program serves both runs of
    the same agent in the same environment.
    """

    def __init__(self, agent: Agent | None, environment: Environment | None):
        self.agent, self.environment = agent, environment

    def __hash__(self) -> int:
        return hash((id(self.agent), id(self.environment)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Given)
            and self.agent is other.agent
            and self.environment is other.environment
        )


class Engine(NamedTuple):
    """The programs of a population; `members` and `configs` have a leading axis.

    Attributes:
        init: `init(configs, keys) -> members`.
        warm_up: `warm_up(configs, members, time, iterations) -> members`.
        chunk: `chunk(configs, members, time, iterations, first) -> (members, metrics)`.
        evaluate: `evaluate(configs, members, time) -> metrics`.
        diagnose: `diagnose(configs, members, time) -> metrics`.
    """

    init: Callable[..., Any]
    warm_up: Callable[..., Any]
    chunk: Callable[..., Any]
    evaluate: Callable[..., Any]
    diagnose: Callable[..., Any]


def parts(given: Given, config: Any) -> Parts:
    """What a program is made of, from a config whose numbers may be tracers."""
    environment = given.environment or make_environment(config.env)
    agent = given.agent or make_agent(config, environment)
    return Parts(agent, environment, ring_size(config, environment), config)


def make_agent(config: Any, environment: Environment) -> Agent:
    """The agent that a config names, for an environment."""
    make = register.get("agent", schema_name(config.agent))
    return make(config, environment.num_actions)


@functools.lru_cache(maxsize=64)
def engine(given: Given, mesh: jax.sharding.Mesh) -> Engine:
    """The programs for given parts on a mesh, compiled once per config structure."""

    def init(config: Any, key: jax.Array) -> Any:
        return loop.begin(parts(given, config), key)

    def evaluate(config: Any, member: Any, time: jax.Array) -> Any:
        return evaluation.evaluate(parts(given, config), member, time, _TOGETHER)

    def diagnose(config: Any, member: Any, time: jax.Array) -> Any:
        return measuring.diagnose(parts(given, config), member, time)

    def warm_up(config: Any, member: Any, time: jax.Array, iterations: Any) -> Any:
        return loop.warm_up(parts(given, config), member, time, iterations)

    def chunk(config: Any, member: Any, time: Any, iterations: Any, first: Any) -> Any:
        return loop.chunk(parts(given, config), member, time, iterations, first)

    spread = functools.partial(over_members, mesh)
    train = functools.partial(over_members, mesh, in_lockstep=False)
    return Engine(
        init=jax.jit(spread(init, (0, 0))),
        evaluate=jax.jit(spread(evaluate, (0, 0, None))),
        diagnose=jax.jit(spread(diagnose, (0, 0, None))),
        warm_up=jax.jit(train(warm_up, (0, 0, None, None)), donate_argnums=1),
        chunk=jax.jit(train(chunk, (0, 0, None, None, None)), donate_argnums=1),
    )


def over_members(
    mesh: jax.sharding.Mesh,
    fun: Callable[..., Any],
    axes: tuple[int | None, ...],
    in_lockstep: bool = True,
) -> Callable[..., Any]:
    """Vmap a function of one member over all, sharded; arguments with axis None are
    shared.

    Args:
        mesh: The devices, see `devices.layout`.
        fun: Of ONE member.
        axes: 0 or None for each argument.
        in_lockstep: It may name the axis of the members on its device. Where it does
            not, a member that has a device for itself is not vmapped at all.
    """
    vmapped = jax.vmap(fun, axes, axis_name=_TOGETHER)

    def together(*args: Any) -> Any:
        return vmapped(*args) if in_lockstep or _count(args, axes) > 1 else alone(*args)

    def alone(*args: Any) -> Any:
        pairs = zip(args, axes, strict=True)
        own = [a if axis is None else jax.tree.map(_first, a) for a, axis in pairs]
        return jax.tree.map(lambda x: x[None], fun(*own))

    sharded = jax.shard_map(
        together,
        mesh=mesh,
        in_specs=tuple(_SHARED if axis is None else _MEMBERS for axis in axes),
        out_specs=_MEMBERS,
        check_vma=False,
    )

    def spread(*args: Any) -> Any:
        # Op by op a shard_map compiles every one of them by itself, for minutes.
        off = jax.config.jax_disable_jit  # pyright: ignore[reportAttributeAccessIssue]
        return (together if off else sharded)(*args)

    return spread


def _first(leaf: jax.Array) -> jax.Array:
    return leaf[0]


def _count(args: tuple[Any, ...], axes: tuple[int | None, ...]) -> int:
    """How many members a device has."""
    own = [a for a, axis in zip(args, axes, strict=True) if axis is not None]
    return jax.tree.leaves(own)[0].shape[0]
