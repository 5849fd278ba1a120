"""Gymnasium environments inside a compiled program: `gymnasium/LunarLander-v3`.

The environments live on the host, in Gymnasium vector environments. A reset or step
leaves the program through one unordered `io_callback` for the whole batch, however
many `jax.vmap` stand around it. What a program carries is a handle, an index and a
counter per instance. The counter comes back from every call and goes into the next,
which orders the calls; the host refuses a counter that is not its own, so that a
state can never be stepped twice.

An environment may hand out the same array at every step. So what it returns is copied
before anything else is asked of it: a reset in the same step, or a step of another
instance, would write over it.
"""

import atexit
import collections
import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from rl_grads.config.classes import Fixed
from rl_grads.envs import faults
from rl_grads.envs.environment import Environment, Step
from rl_grads.envs.gymnasium_game import Game, game_of
from rl_grads.typing import PyTree, Value

# Instances that one reset site may keep before it reuses those of its oldest reset.
# Two resets per device are always kept.
_BUDGET = 256


class HostState(NamedTuple):
    """What a program carries of an instance on the host; int32 scalars.

    Attributes:
        handle: Which vector environment of this process.
        index: Which instance in it.
        counter: How many steps that vector environment has made.
    """

    handle: jax.Array
    index: jax.Array
    counter: jax.Array


def names() -> tuple[str, ...]:
    """Every id in Gymnasium's registry."""
    return tuple(gymnasium.registry)


def make(name: str, kwargs: Mapping[str, Value] | None = None) -> Environment:
    """The Gymnasium environment of that id.

    One call of `reset` under any nest of `jax.vmap` makes one vector environment, each
    instance seeded from its own key. The result may be stepped once, whole, and then
    the state that comes back. Resets made by one `make` share a budget: when it is
    used up, the instances of the oldest reset are reused and its states are refused.

    Args:
        name: A registered id with discrete actions, such as `"FrozenLake-v1"`.
        kwargs: Arguments of `gymnasium.make`, such as `{"map_name": "8x8"}`.

    Returns:
        The environment. Observations are float32, one-hot float32 where the space is
        discrete, and uint8 where it is an image of bytes. Its state cannot be
        sampled from twice (`resamples=False`).

    Raises:
        ConfigError: The id is unknown or cannot serve, or a dependency is missing.

    Example:
        >>> environment = make("FrozenLake-v1")
        >>> environment.num_actions, environment.observation.shape
        (4, (16,))
    """
    game = game_of(name, Fixed(kwargs or {}))
    reset_batch, step_batch = _host_calls(_Site(game))
    shown = game.encoding.shown

    def reset(key: jax.Array) -> tuple[HostState, jax.Array]:
        seed = jax.random.bits(key, dtype=jnp.uint32) >> 1
        state, obs = jax.tree.map(lambda x: x[0], reset_batch(seed[None]))
        return state, shown(obs)

    def step(
        key: jax.Array, state: HostState, action: jax.Array
    ) -> tuple[HostState, Step]:
        del key
        action = action.astype(jnp.int32)[None]
        batch = HostState(*(x[None] for x in state))
        counter, result = step_batch(*batch, action)
        result = jax.tree.map(lambda x: x[0], result)
        seen = {"obs": shown(result.obs), "final_obs": shown(result.final_obs)}
        return state._replace(counter=counter[0]), result._replace(**seen)

    return Environment(
        name=f"gymnasium/{name}",
        reset=reset,
        step=step,
        observation=game.observation,
        num_actions=game.num_actions,
        time_limit=game.time_limit,
        resamples=False,
    )


def check(name: str, kwargs: Mapping[str, Value] | None = None) -> None:
    """Refuse an id, or arguments, that `make` cannot serve.

    Raises:
        ConfigError: As `make`.
    """
    game_of(name, Fixed(kwargs or {}))


@atexit.register
def close() -> None:
    """Close every environment on the host; states that point to them are refused."""
    with _LOCK:
        pools = list(_POOLS.values())
        _POOLS.clear()
    for pool in pools:
        pool.vector.close()


# ---------------------------------------------------------------------- in the program


def _host_calls(site: "_Site") -> tuple[Callable, Callable]:
    """Reset and step of a batch `[B, ...]`, each one call to the host."""
    sent = site.game.encoding.sent

    def shapes(size: int, *dtypes: PyTree) -> tuple[PyTree, ...]:
        return tuple(jax.ShapeDtypeStruct((size,), dtype) for dtype in dtypes)

    def observations(size: int) -> PyTree:
        return jax.ShapeDtypeStruct((size, *sent.shape), sent.dtype)

    def reset(seeds: jax.Array) -> tuple[HostState, jax.Array]:
        size = seeds.shape[0]
        state = HostState(*shapes(size, np.int32, np.int32, np.int32))
        host = functools.partial(site.reset, 2 * jax.local_device_count())
        return io_callback(host, (state, observations(size)), seeds)

    def step(
        handle: jax.Array, index: jax.Array, counter: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, Step]:
        size = action.shape[0]
        count, reward, end, cut = shapes(size, np.int32, np.float32, bool, bool)
        result = Step(observations(size), reward, end, cut, observations(size))
        arguments = (handle, index, counter, action)
        return io_callback(site.step, (count, result), *arguments)

    return _one_call(reset), _one_call(step)


def _one_call(batch: Callable) -> Callable:
    """A function of batches whose `vmap` is one call on the flattened batch."""
    call = custom_vmap(batch)

    def rule(axis_size: int, in_batched: list[bool], *arguments: jax.Array) -> tuple:
        flat = [
            (x if mapped else jnp.broadcast_to(x, (axis_size, *x.shape))).reshape(
                -1, *x.shape[1 + mapped :]
            )
            for x, mapped in zip(arguments, in_batched, strict=True)
        ]
        results = jax.tree.map(
            lambda x: x.reshape(axis_size, -1, *x.shape[1:]), call(*flat)
        )
        return results, jax.tree.map(lambda _: True, results)

    call.def_vmap(rule)
    return call


# ------------------------------------------------------------------------- on the host


class _Copied(gymnasium.Wrapper):
    """What an environment returns, in memory of its own; infos, which nobody reads."""

    def reset(self, **options: PyTree) -> tuple[np.ndarray, dict[str, PyTree]]:
        obs, _ = self.env.reset(**options)
        return self._own(obs, "reset()"), {}

    def step(
        self, action: PyTree
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, PyTree]]:
        obs, *numbers, _ = self.env.step(action)
        # Some return arrays of one number, which is not a number to Python.
        reward, terminated, truncated = (np.asarray(x).item() for x in numbers)
        copied = self._own(obs, "step()")
        return copied, reward, bool(terminated), bool(truncated), {}

    def _own(self, obs: PyTree, where: str) -> np.ndarray:
        copied, declared = np.array(obs), self.env.observation_space.shape
        if copied.shape != declared:
            said = f"observations of shape {declared}, as its observation_space says"
            raise ValueError(f"expected {said}; {where} gave {copied.shape}")
        return copied


def _instance(game: Game) -> gymnasium.Env:
    """One environment on the host.

    Of a spec, not its id: the id would be looked up, and warned about, each time.
    """
    env = gymnasium.make(game.spec, disable_env_checker=True, **game.kwargs)
    return _Copied(env)


class _Pool:
    """One Gymnasium vector environment under its current handle."""

    def __init__(self, game: Game, size: int):
        maker = functools.partial(_instance, game)
        self.vector = SyncVectorEnv(
            [maker] * size, autoreset_mode=AutoresetMode.SAME_STEP
        )
        self.game, self.size, self.read = game, size, game.encoding.read
        self.handle = self.count = self.used = 0

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start anew, one seed per instance."""
        self.count, self.used = 0, next(_CLOCK)
        obs, _ = self.vector.reset(seed=[int(seed) for seed in seeds])
        return self.read(obs)

    def step(self, actions: np.ndarray) -> Step:
        """One step of every instance, as arrays `[size, ...]`."""
        self.count, self.used = self.count + 1, next(_CLOCK)
        obs, reward, terminated, truncated, info = self.vector.step(
            actions + self.game.first_action
        )
        obs = self.read(obs)
        final_obs = obs.copy()
        for i in np.flatnonzero(info.get("_final_obs", ())):
            final_obs[i] = self.read(info["final_obs"][i])
        return _step(obs, reward, terminated, truncated & ~terminated, final_obs)


def _step(*arrays: PyTree) -> Step:
    """A step made of numpy arrays."""
    return Step(*arrays)


_POOLS: dict[int, _Pool] = {}
_LOCK = threading.Lock()
_HANDLES = itertools.count(1)
_CLOCK = itertools.count()


class _Site:
    """Where resets come from; it keeps the pools of its last resets."""

    def __init__(self, game: Game):
        self.game = game
        self.pools: dict[int, list[_Pool]] = collections.defaultdict(list)

    def reset(self, least: int, seeds: jax.Array) -> tuple[HostState, np.ndarray]:
        """A vector environment with these seeds, and its first observations."""
        with faults.noted(self.game.name):
            return self._reset(least, np.asarray(seeds))

    def _reset(self, least: int, host: np.ndarray) -> tuple[HostState, np.ndarray]:
        pool = self._pool(len(host), least)
        obs = pool.reset(host)
        index = np.arange(len(host), dtype=np.int32)
        handle = np.full_like(index, pool.handle)
        state: tuple[Any, ...] = (handle, index, np.zeros_like(index))
        return HostState(*state), obs

    def step(self, *arguments: jax.Array) -> tuple[np.ndarray, Step]:
        """Step the vector environments behind the handles, each as a whole."""
        with faults.noted(self.game.name):
            return self._step(*arguments)

    def _step(self, *arguments: jax.Array) -> tuple[np.ndarray, Step]:
        handle, index, counter, action = map(np.asarray, arguments)
        result = self._empty(len(handle))
        for number in np.unique(handle):
            rows = np.flatnonzero(handle == number)
            pool = _find(int(number), index[rows], counter[rows])
            actions = np.empty(pool.size, np.int64)
            actions[index[rows]] = action[rows]
            for whole, part in zip(result, pool.step(actions), strict=True):
                whole[rows] = part[index[rows]]
        return counter + np.int32(1), result

    def _empty(self, size: int) -> Step:
        """Arrays for the results of a batch."""
        sent = self.game.encoding.sent
        obs, final_obs = np.empty((2, size, *sent.shape), sent.dtype)
        ended, cut = np.empty((2, size), bool)
        return _step(obs, np.empty(size, np.float32), ended, cut, final_obs)

    def _pool(self, size: int, least: int) -> _Pool:
        """A pool of that size under a fresh handle: a new one, or the oldest."""
        with _LOCK:
            alive = [p for p in self.pools[size] if p.handle in _POOLS]
            full = len(alive) >= least and (len(alive) + 1) * size > _BUDGET
            pool = min(alive, key=lambda p: p.used) if full else None
            if pool is None:
                pool = _Pool(self.game, size)
                alive.append(pool)
            _POOLS.pop(pool.handle, None)
            pool.handle, pool.used = next(_HANDLES), next(_CLOCK)
            _POOLS[pool.handle], self.pools[size] = pool, alive
            return pool


def _find(handle: int, index: np.ndarray, counter: np.ndarray) -> _Pool:
    """The pool of a handle, if these are its instances at its present step."""
    pool = _POOLS.get(handle)
    if pool is None:
        raise RuntimeError(
            "the host environments of this state are gone (closed, reused by a later "
            "reset, or of another process): reset again"
        )
    if not np.array_equal(np.sort(index), np.arange(pool.size)):
        raise RuntimeError(
            f"the {pool.size} host environments of one reset step together: expected "
            f"each index once, got {index.tolist()[:8]}"
        )
    if np.any(counter != pool.count):
        raise RuntimeError(
            f"a host state can be stepped once: expected the state after {pool.count} "
            f"steps, got the one after {counter[0]}"
        )
    return pool
