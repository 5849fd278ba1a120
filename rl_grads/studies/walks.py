"""Tabular prediction on common trajectories: textbook figures in one program.

The same trajectories serve every setting of a method, so that curves differ by the
method and not by luck. Values are tables and states are numbers, not observations. The
updates are those of `rl_grads.td`, one per transition, as the agents make them.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from rl_grads import prng
from rl_grads.envs.chain_answers import true_values
from rl_grads.envs.environment import Environment
from rl_grads.td import losses, traces
from rl_grads.td.transition import Transition
from rl_grads.training import devices
from rl_grads.typing import PyTree, State

_STRETCH = 256  # Steps per call while trajectories grow.
_RUNS, _TIME_RUNS = PartitionSpec("members"), PartitionSpec(None, "members")


class Walks(NamedTuple):
    """Episodes of a chain under its behaviour policy, end to end, in many runs.

    Attributes:
        steps: Transitions `[T, runs]`; their observations are numbers of states.
        episode: Number of the episode that a step ends, `[T, runs]`; -1 where it ends
            none, or one beyond the last that counts.
        ending: Runs in which an episode ends at a step, `[T, slots]`, by their place
            on their device. Each device has as many slots; the rest names any run.
        values: Exact value of each state, `[S]`; nan in terminal states.
        layout: Where the runs live; those beyond `layout.members` fill up devices.
    """

    steps: Transition
    episode: np.ndarray
    ending: np.ndarray
    values: np.ndarray
    layout: devices.Layout


# ---------------------------------------------------------------------------- sampling


def sample(
    environment: Environment,
    runs: int,
    episodes: int,
    seed: int = 0,
    discount: float = 1.0,
) -> Walks:
    """Walk through a chain of the textbooks, episode after episode.

    Args:
        environment: A Markov chain with exact answers (`rl_grads.envs.chain`) in which
            every episode terminates.
        runs: Independent runs.
        episodes: Episodes of each run.
        seed: Of all the runs together.
        discount: Discount per step.

    Raises:
        ValueError: The environment has no exact answers, or no end.

    Example:
        >>> from rl_grads.envs.chain import make
        >>> walks = sample(make("random_walk"), runs=2, episodes=3)
        >>> int(walks.episode.max())
        2
    """
    chain = environment.exact
    if chain is None or not chain.terminal.any():
        raise ValueError(
            f"environment={environment.name}: expected a Markov chain with an end"
        )
    layout = devices.layout(runs)
    begin, walk = _walking(environment, layout.mesh)
    keys = devices.put(layout, jax.random.split(prng.key(seed), runs))
    stretches, ended, state = [], np.zeros(layout.padded, int), begin(keys)
    while ended.min() < episodes:
        first = len(stretches) * _STRETCH
        state, steps = walk(keys, state, jnp.asarray(discount), first)
        stretches.append(steps)
        ended += np.asarray(steps.terminated).sum(0)
    steps = jax.tree.map(lambda *parts: jnp.concatenate(parts), *stretches)
    episode = _episodes(np.asarray(steps.terminated), episodes)
    length = np.flatnonzero((episode >= 0).any(1)).max() + 1
    return Walks(
        steps=jax.tree.map(lambda leaf: leaf[:length], steps),
        episode=episode[:length],
        ending=_ending(episode[:length] >= 0, layout.mesh.size),
        values=np.where(chain.terminal, np.nan, true_values(chain, discount)),
        layout=layout,
    )


def _episodes(terminated: np.ndarray, episodes: int) -> np.ndarray:
    """The number of the episode that each step ends, -1 where it ends none."""
    order = terminated.cumsum(0, dtype=np.int32)
    return np.where(terminated & (order <= episodes), order - 1, -1)


def _ending(ends: np.ndarray, num_devices: int) -> np.ndarray:
    """The places on each device where `ends` `[T, runs]`, first, then other places."""
    by_device = ends.reshape(len(ends), num_devices, -1)
    slots = by_device.sum(-1).max()
    places = np.argsort(~by_device, axis=-1, kind="stable")[..., :slots]
    return places.reshape(len(ends), -1).astype(np.int32)


@functools.lru_cache(maxsize=8)
def _walking(
    environment: Environment, mesh: jax.sharding.Mesh
) -> tuple[PyTree, PyTree]:
    """Programs that reset all runs, and that walk a stretch in all of them."""
    behaviour = environment.behaviour
    assert behaviour is not None

    def step(
        key: jax.Array, state: State, discount: jax.Array
    ) -> tuple[PyTree, Transition]:
        key_act, key_step = jax.random.split(key)
        action, rho = behaviour(key_act, state)
        after, out = environment.step(key_step, state, action)
        return after, Transition(
            s_tm1=state.index,
            a_tm1=action,
            r_t=out.reward,
            s_t=after.index,
            terminated=out.terminated,
            truncated=out.truncated,
            discount_t=discount * (1 - out.terminated),
            rho=rho,
        )

    def stretch(
        keys: jax.Array, states: State, discount: jax.Array, first: int
    ) -> PyTree:
        def all_runs(states: State, time: jax.Array) -> PyTree:
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
            return jax.vmap(step, (0, 0, None))(now, states, discount)

        return jax.lax.scan(all_runs, states, first + jnp.arange(_STRETCH))

    def begin(keys: jax.Array) -> PyTree:
        return jax.vmap(lambda key: environment.reset(key)[0])(keys)

    shard = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    everyone = PartitionSpec()
    return (
        jax.jit(shard(begin, in_specs=_RUNS, out_specs=_RUNS)),
        jax.jit(
            shard(
                stretch,
                in_specs=(_RUNS, _RUNS, everyone, everyone),
                out_specs=(_RUNS, _TIME_RUNS),
            )
        ),
    )


def doublings(walks: Walks, count: int) -> Iterator[tuple[int, Walks]]:
    """n-step walks for n = 1, 2, 4, .., `count` of them; one program makes them all.

    A method that learns from one transition becomes an n-step method on them, in the
    textbook's order: what an episode's end completes is learned before the next begins.

    Example:
        >>> from rl_grads.envs.chain import make
        >>> common = sample(make("random_walk"), runs=2, episodes=1)
        >>> [n for n, _ in doublings(common, 3)]
        [1, 2, 4]
    """
    for power in range(count):
        n = 2**power
        yield n, walks
        walks = walks._replace(steps=_join_later(walks.steps, walks.steps, n))


def monte_carlo(walks: Walks) -> Walks:
    """The walks with each step joined to all that follow in its episode."""
    count = len(walks.episode).bit_length() + 1
    return list(doublings(walks, count))[-1][1]


_join_later = jax.jit(traces.join_later)


# ----------------------------------------------------------------------------- methods


class Setting(NamedTuple):
    """Numbers of a method, each `[K]` for K settings at once."""

    step_size: Any
    trace_decay: Any = 0.0


class Method(NamedTuple):
    """A tabular prediction method.

    Attributes:
        init: `init(values) -> state`, from initial values `[S]`.
        update: `update(state, transition, setting) -> state`.
        values: `values(state) -> [S]`.
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, Transition, Setting], Any]
    values: Callable[[Any], jax.Array]


class _Table(NamedTuple):
    """A network whose parameters are the values of so many states."""

    states: int

    def init(self, key: jax.Array, state: jax.Array) -> jax.Array:
        return jnp.zeros(self.states)

    def apply(self, values: jax.Array, state: jax.Array) -> jax.Array:
        return values[state][None]


def _td_update(
    values: jax.Array, transition: Transition, setting: Setting
) -> jax.Array:
    loss = losses.td(_Table(values.shape[0]))
    gradient, _ = jax.grad(loss, has_aux=True)(values, values, transition, None)
    return values - setting.step_size * gradient


TD = Method(init=lambda values: values, update=_td_update, values=lambda state: state)


def aggregated(method: Method, groups: np.ndarray) -> Method:
    """A method whose table has one value per group of states (S&B 2018, section 9.3).

    Args:
        method: A tabular one.
        groups: The number of each state's group, `[S]`.

    Example:
        >>> halves = aggregated(TD, np.array([0, 0, 1, 1]))
        >>> halves.values(halves.init(jnp.zeros(4))).shape
        (4,)
    """
    group, count = jnp.asarray(groups), int(groups.max()) + 1

    def update(state: State, transition: Transition, setting: Setting) -> PyTree:
        ends = {"s_tm1": group[transition.s_tm1], "s_t": group[transition.s_t]}
        return method.update(state, transition._replace(**ends), setting)

    return Method(
        init=lambda values: method.init(values[:count]),
        update=update,
        values=lambda state: method.values(state)[group],
    )


class _Traced(NamedTuple):
    """State of TD(lambda)."""

    values: jax.Array
    trace: traces.Trace


@functools.cache
def td_lambda(trace: str) -> Method:
    """Online TD(lambda) with a kind of trace, see `rl_grads.td.traces`.

    Args:
        trace: `"accumulating"`, `"replacing"` or `"true_online"`.
    """

    def update(state: _Traced, transition: Transition, setting: Setting) -> _Traced:
        found = traces.td_lambda(
            lambda values, state: values[state],
            state.trace,
            state.values,
            state.values,
            transition,
            traces.Settings(trace, setting.trace_decay, setting.step_size),
        )
        values = state.values - setting.step_size * found.direction
        return _Traced(values, found.trace)

    return Method(
        init=lambda values: _Traced(values, traces.start(values)),
        update=update,
        values=lambda state: state.values,
    )


def episode_errors(
    walks: Walks, method: Method, setting: Setting, initial_value: float = 0.0
) -> np.ndarray:
    """Root mean square error of the values at the end of each episode.

    Over all states alike, as the textbook's figures have it, not weighted by visits.

    Args:
        walks: Common trajectories; of n steps each for an n-step method.
        method: Called once per transition, in order.
        setting: Numbers of the method, `[K]`.
        initial_value: Of every state.

    Returns:
        `[K, episodes]`, means over the runs.

    Example:
        >>> rates = Setting(np.array([0.1, 0.2]))
        >>> episode_errors(walks, TD, rates).shape  # doctest: +SKIP
        (2, 10)
    """
    count, dtype = np.size(setting.step_size), walks.steps.r_t.dtype
    setting = Setting(*(np.broadcast_to(x, count).astype(dtype) for x in setting))
    program = _learning(method, walks.layout.mesh)
    start = np.full(walks.values.shape, initial_value, dtype)
    exact = walks.values.astype(dtype)
    found = program(walks.steps, walks.ending, setting, start, exact)
    return _mean_by_episode(walks, np.asarray(found, np.float64))


def values_after(
    walks: Walks,
    method: Method,
    setting: Setting,
    episodes: Sequence[int],
    initial_value: float = 0.0,
) -> np.ndarray:
    """The values that the first run has after some of its episodes.

    Args:
        walks: Trajectories.
        method: Called once per transition, in order.
        setting: Numbers of the method, scalars.
        episodes: Numbers of episodes, each at least 1.
        initial_value: Of every state.

    Returns:
        `[len(episodes), S]`.

    Example:
        >>> values_after(walks, TD, Setting(0.1), [1, 10]).shape  # doctest: +SKIP
        (2, 7)
    """
    dtype = walks.steps.r_t.dtype
    start = jnp.full(walks.values.shape, initial_value, dtype)

    def step(state: State, now: Transition) -> tuple[PyTree, jax.Array]:
        state = method.update(state, now, setting)
        return state, method.values(state)

    def learn(steps: Transition) -> jax.Array:
        return jax.lax.scan(step, method.init(start), steps)[1]

    found = jax.jit(learn)(jax.tree.map(lambda leaf: leaf[:, 0], walks.steps))
    order = walks.episode[:, 0].tolist()
    return np.asarray(found)[[order.index(count - 1) for count in episodes]]


def _mean_by_episode(walks: Walks, found: np.ndarray) -> np.ndarray:
    """Means over the runs `[K, episodes]` of what was found in each slot."""
    time, slots = walks.ending.shape
    num_devices = walks.layout.mesh.size
    device = np.arange(slots) // (slots // num_devices)
    run = walks.ending + device * (walks.episode.shape[1] // num_devices)
    episode = walks.episode[np.arange(time)[:, None], run]
    counts = (episode >= 0) & (run < walks.layout.members)
    total = np.zeros((episode.max() + 1, found.shape[-1]))
    np.add.at(total, episode[counts], found[counts])
    return total.T / walks.layout.members


@functools.lru_cache(maxsize=8)
def _learning(method: Method, mesh: jax.sharding.Mesh) -> PyTree:
    """The program behind `episode_errors`: errors `[T, slots, K]`."""
    everyone = PartitionSpec()
    update = jax.vmap(jax.vmap(method.update, (0, None, 0)), (0, 0, None))

    def learn(
        steps: PyTree, ending: PyTree, setting: PyTree, start: PyTree, exact: PyTree
    ) -> PyTree:
        shape = (steps.r_t.shape[1], len(setting.step_size), *start.shape)
        begin = jax.vmap(jax.vmap(method.init))(jnp.broadcast_to(start, shape))
        error = jax.vmap(jax.vmap(lambda state: _error(method.values(state), exact)))

        def step(state: State, now: PyTree) -> tuple[PyTree, jax.Array]:
            transition, runs = now
            state = update(state, transition, setting)
            return state, error(jax.tree.map(lambda leaf: leaf[runs], state))

        return jax.lax.scan(step, begin, (steps, ending))[1]

    return jax.jit(
        jax.shard_map(
            learn,
            mesh=mesh,
            in_specs=(_TIME_RUNS, _TIME_RUNS, everyone, everyone, everyone),
            out_specs=_TIME_RUNS,
            check_vma=False,
        )
    )


def _error(values: jax.Array, exact: jax.Array) -> jax.Array:
    """Root mean square error over the states that have an exact value."""
    known = jnp.isfinite(exact)
    square = jnp.where(known, jnp.square(values - exact), 0.0)
    return jnp.sqrt(jnp.sum(square) / jnp.sum(known))
