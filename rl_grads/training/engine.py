"""One population's compiled programs: vmapped over members, sharded over devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from rl_grads import register
from rl_grads.agents.agent import Agent
from rl_grads.config import schema_name
from rl_grads.envs.environment import Environment
from rl_grads.envs.make import make as make_environment
from rl_grads.training import evaluation, loop
from rl_grads.training.diagnostics import measuring
from rl_grads.training.member import MemberState, Parts, ring_size
from rl_grads.training.schema import Config
from rl_grads.typing import Function, PyTree

_MEMBERS = PartitionSpec("members")
_SHARED = PartitionSpec()
_TOGETHER = "together"  # The members on one device.
AT_ONCE = 8  # Members on a core; what more of them work on leaves its cache.


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
        warm_up: `warm_up(configs, members, time, iterations) -> (members, {})`.
        chunk: `chunk(configs, members, time, iterations, first) -> (members, metrics)`.
        evaluate: `evaluate(configs, members, time) -> metrics`.
        diagnose: `diagnose(configs, members, time) -> metrics`.
    """

    init: Callable[..., Any]
    warm_up: Callable[..., Any]
    chunk: Callable[..., Any]
    evaluate: Callable[..., Any]
    diagnose: Callable[..., Any]


def parts(given: Given, config: Config) -> Parts:
    """What a program is made of, from a config whose numbers may be tracers."""
    environment = given.environment or make_environment(config.env)
    agent = given.agent or make_agent(config, environment)
    return Parts(agent, environment, ring_size(config, environment), config)


def make_agent(config: Config, environment: Environment) -> Agent:
    """The agent that a config names, for an environment."""
    make = register.get("agent", schema_name(config.agent))
    return make(config, environment.num_actions)


@functools.lru_cache(maxsize=64)
def engine(given: Given, mesh: jax.sharding.Mesh) -> Engine:
    """The programs for given parts on a mesh, compiled once per config structure."""

    def init(config: Config, key: jax.Array) -> PyTree:
        return loop.begin(parts(given, config), key)

    def evaluate(config: Config, member: MemberState, time: jax.Array) -> PyTree:
        return evaluation.evaluate(parts(given, config), member, time, _TOGETHER)

    def diagnose(config: Config, member: MemberState, time: jax.Array) -> PyTree:
        return measuring.diagnose(parts(given, config), member, time)

    def warm_up(
        config: Config, member: MemberState, time: jax.Array, iterations: PyTree
    ) -> PyTree:
        return loop.warm_up(parts(given, config), member, time, iterations), {}

    def chunk(
        config: Config,
        member: MemberState,
        time: PyTree,
        iterations: PyTree,
        first: PyTree,
    ) -> PyTree:
        return loop.chunk(parts(given, config), member, time, iterations, first)

    def apart(config: Config) -> bool:
        first = jax.tree.map(_first, config)  # Host environments step together.
        return on_cpu and parts(given, first).environment.resamples

    on_cpu = mesh.devices.flat[0].platform == "cpu"
    spread = functools.partial(over_members, mesh)
    train = functools.partial(training_members, mesh, apart)
    return Engine(
        init=jax.jit(spread(init, (0, 0))),
        evaluate=jax.jit(spread(evaluate, (0, 0, None))),
        diagnose=jax.jit(spread(diagnose, (0, 0, None))),
        warm_up=jax.jit(train(warm_up, 2), donate_argnums=1),
        chunk=jax.jit(train(chunk, 3), donate_argnums=1),
    )


def over_members(
    mesh: jax.sharding.Mesh, fun: Function, axes: tuple[int | None, ...]
) -> Function:
    """Vmap a function of one member over all, sharded; arguments with axis None are
    shared.

    Args:
        mesh: The devices, see `devices.layout`.
        fun: Of ONE member.
        axes: 0 or None for each argument.
    """
    return _sharded(mesh, jax.vmap(fun, axes, axis_name=_TOGETHER), axes)


def training_members(
    mesh: jax.sharding.Mesh,
    apart: Callable[[PyTree], bool],
    fun: Function,
    shared: int,
) -> Function:
    """As `over_members`, for what members do each for itself, as fast as they can.

    A member that has a device for itself is not vmapped at all. Of many on one core,
    parts of at most eight run one after another, each in place: what more of them work
    on does not stay in the core's cache.

    Args:
        mesh: The devices, see `devices.layout`.
        apart: Of the stacked configs: whether members may run apart from each other.
        fun: `fun(config, member, *shared) -> (member, metrics)`, of ONE member.
        shared: How many arguments are shared.
    """
    axes = (0, 0, *[None] * shared)
    vmapped = jax.vmap(fun, axes)

    def run(config: Config, members: MemberState, *rest: PyTree) -> PyTree:
        count = jax.tree.leaves(members)[0].shape[0]
        size = _part(count)
        if count == 1:
            own = jax.tree.map(_first, (config, members))
            return jax.tree.map(lambda x: x[None], fun(*own, *rest))
        if size is None or not apart(config):
            return vmapped(config, members, *rest)
        return in_parts(config, members, rest, size)

    def in_parts(
        config: Config, members: MemberState, rest: PyTree, size: int
    ) -> PyTree:
        def part(at: jax.Array, whole: PyTree) -> PyTree:
            def take(x: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(x, at * size, size)

            def put(x: jax.Array, new: jax.Array) -> jax.Array:
                return jax.lax.dynamic_update_slice_in_dim(x, new, at * size, 0)

            own = jax.tree.map(take, (config, whole[0]))
            return jax.tree.map(put, whole, vmapped(*own, *rest))

        found = jax.eval_shape(vmapped, config, members, *rest)[1]
        metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)
        parts = jax.tree.leaves(members)[0].shape[0] // size
        return jax.lax.fori_loop(0, parts, part, (members, metrics))

    return _sharded(mesh, run, axes)


def _sharded(
    mesh: jax.sharding.Mesh, fun: Function, axes: tuple[int | None, ...]
) -> Function:
    """A function of the members on one device, on all devices."""
    sharded = jax.shard_map(
        fun,
        mesh=mesh,
        in_specs=tuple(_SHARED if axis is None else _MEMBERS for axis in axes),
        out_specs=_MEMBERS,
        check_vma=False,
    )

    def spread(*args: PyTree) -> PyTree:
        # Op by op a shard_map compiles every one of them by itself, for minutes.
        off = jax.config.jax_disable_jit  # pyright: ignore[reportAttributeAccessIssue]
        return (fun if off else sharded)(*args)

    return spread


def _part(count: int) -> int | None:
    """How many of a device's members run at once; None: all, or there are no equal
    parts.

    Example:
        >>> [_part(count) for count in (8, 10, 15, 16, 17)]
        [None, 5, 5, 8, None]
    """
    if count <= AT_ONCE:
        return None
    sizes = range(AT_ONCE, AT_ONCE // 2, -1)
    return next((size for size in sizes if count % size == 0), None)


def _first(leaf: jax.Array) -> jax.Array:
    return leaf[0]
