"""Whether an environment keeps the contract of `rl_grads.envs.environment`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import blame, prng
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step
from rl_grads.envs.schema import Env
from rl_grads.typing import PyTree, State

_FIELDS = {"reward": "float", "terminated": "bool", "truncated": "bool"}


def check(
    environment: Environment | str, episodes: int = 20, max_steps: int = 10_000
) -> None:
    """Play an environment of your own at random, and say what is not as it should be.

    Shapes and types of everything that `reset` and `step` return, finite observations
    and rewards, `final_obs` against `obs`, `time_limit`, and, where it says that it
    `resamples`, that a step is a function of its arguments. Gymnasium's own check is
    `gymnasium.utils.env_checker.check_env`.

    Args:
        environment: The record, or an id as `env.id` takes it.
        episodes: How many episodes to play.
        max_steps: Where to stop in any case.

    Raises:
        ConfigError: Names what is wrong, the step, and what was expected.

    Example:
        >>> check("gymnax/CartPole-v1", episodes=2)
    """
    if isinstance(environment, str):
        from rl_grads.envs import make

        environment = make.make(Env(id=environment))
    what = f"env={environment.name}"
    check_shapes(environment, what, environment.step)
    if environment.resamples:
        _check_same(environment, what)
    _play(environment, what, episodes, max_steps)


def check_shapes(environment: Environment, what: str, whose: object) -> None:
    """Refuse an environment whose functions return other shapes than they have to.

    Nothing is computed.

    Args:
        environment: The environment.
        what: How it was asked for.
        whose: The object to blame.

    Raises:
        ConfigError: Names what it returns, and what was expected.
    """
    name = blame.named(what, whose)
    with blame.calling(what, whose):
        first = jax.eval_shape(environment.reset, prng.key(0))
    if not (isinstance(first, tuple) and len(first) == 2):
        raise _refusal(name, f"reset(key) -> (state, obs), not {blame.shown(first)}")
    state, obs = first
    _check_observation(name, "reset()", obs, environment)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    with blame.calling(what, whose):
        found = jax.eval_shape(environment.step, prng.key(0), state, action)
    if not (isinstance(found, tuple) and len(found) == 2):
        words = "step(key, state, action) -> (state, Step)"
        raise _refusal(name, f"{words}, not {blame.shown(found)}")
    after, out = found
    if not isinstance(out, Step):
        raise _refusal(name, f"step() to return a Step, not {blame.shown(out)}")
    if not _alike(after, state):
        words = "a state of the shapes and types that reset() makes"
        raise _refusal(name, f"step() to return {words}{_difference(after, state)}")
    for field in ("obs", "final_obs"):
        _check_observation(name, f"Step.{field}", getattr(out, field), environment)
    for field, kind in _FIELDS.items():
        value = getattr(out, field)
        fits = getattr(value, "shape", None) == () and value.dtype.name.startswith(kind)
        if not fits:
            raise _refusal(name, f"Step.{field} a {kind}[], not {blame.shown(value)}")


def _check_observation(
    name: str, where: str, found: PyTree, environment: Environment
) -> None:
    declared = environment.observation
    same = getattr(found, "shape", None) == declared.shape
    if not (same and found.dtype == declared.dtype):
        said = f"as Environment.observation says, {blame.shown(declared)}"
        raise _refusal(name, f"observations {said}; {where} has {blame.shown(found)}")


def _alike(tree: PyTree, other: PyTree) -> bool:
    same = jax.tree.structure(tree) == jax.tree.structure(other)
    return same and jax.tree.map(_typed, tree) == jax.tree.map(_typed, other)


def _typed(leaf: jax.ShapeDtypeStruct) -> str:
    return blame.shown(leaf)


def _difference(state: PyTree, other: PyTree) -> str:
    """The first leaf in which two states differ, where they have the same structure."""
    if jax.tree.structure(state) != jax.tree.structure(other):
        return ""
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(other), strict=True
    )
    for (path, leaf), wanted in leaves:
        if _typed(leaf) != _typed(wanted):
            at = jax.tree_util.keystr(path) or "it"
            return f": {at} is {_typed(leaf)} after {_typed(wanted)}"
    return ""


def _refusal(name: str, expected: str) -> ConfigError:
    return ConfigError(f"{name}: expected {expected}; see {blame.PAGE}")


# --------------------------------------------------------------------------- playing


class _Now(NamedTuple):
    """Where an episode is."""

    key: jax.Array
    state: State
    obs: jax.Array


def _check_same(environment: Environment, what: str) -> None:
    """What is drawn from equal keys is equal."""
    key = prng.key(0)
    state, _ = jax.jit(environment.reset)(key)
    step = jax.jit(environment.step)
    first, second = (step(key, state, jnp.int32(0)) for _ in range(2))
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in map(_raw, pairs)):
        words = "one result of step() for one key, state and action (resamples=True)"
        raise _refusal(what, words)


def _raw(pair: tuple[PyTree, PyTree]) -> tuple[np.ndarray, np.ndarray]:
    leaf, other = (
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in pair
    )
    return np.asarray(leaf), np.asarray(other)


def _play(environment: Environment, what: str, episodes: int, max_steps: int) -> None:
    key = prng.key(1)
    key_first, key = jax.random.split(key)
    state, obs = jax.jit(environment.reset)(key_first)

    @jax.jit
    def advance(now: _Now) -> tuple[_Now, jax.Array, Step]:
        key, key_act, key_step = jax.random.split(now.key, 3)
        action = jax.random.randint(key_act, (), 0, environment.num_actions)
        state, out = environment.step(key_step, now.state, action)
        return _Now(key, state, out.obs), action, out

    now, ended, since = _Now(key, state, obs), 0, 0
    for number in range(1, max_steps + 1):
        now, action, out = advance(now)
        since += 1
        _check_step(environment, f"{what}, step {number} (action {action})", out, since)
        if out.truncated:
            since = 0
        ended += bool(out.terminated | out.truncated)
        if ended == episodes:
            return


def _check_step(environment: Environment, at: str, out: Step, since: int) -> None:
    """One step that was played; `since` counts from the last truncation."""
    if not np.isfinite(out.reward):
        raise _refusal(at, f"a finite reward, not {float(out.reward)}")
    for field in ("obs", "final_obs"):
        if not np.all(np.isfinite(getattr(out, field))):
            raise _refusal(at, f"finite numbers in Step.{field}")
    over = bool(out.terminated | out.truncated)
    if not over and not np.array_equal(out.obs, out.final_obs):
        words = "Step.final_obs equal to Step.obs where no episode ends"
        raise _refusal(at, words)
    limit = environment.time_limit
    if out.truncated and limit is None:
        words = "Environment.time_limit to be a number, as episodes are truncated"
        raise _refusal(at, words)
    if out.truncated and limit is not None and since < limit:
        words = f"no truncation before time_limit={limit} steps, not after {since}"
        raise _refusal(at, words)
