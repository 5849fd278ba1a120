"""What is static about a Gymnasium id: actions, observations and time limit."""

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from rl_grads.config import ConfigError, nearest
from rl_grads.typing import Observation, PyTree

# States of a one-hot observation, which then takes 64 MiB.
_MOST_STATES = 2**24


class Encoding(NamedTuple):
    """How observations come into the program.

    Attributes:
        sent: Shape and dtype of what the host sends of one observation.
        read: Makes that of a batch of host observations.
        shown: What the program makes of what was sent.
    """

    sent: jax.ShapeDtypeStruct
    read: Callable[[Any], np.ndarray]
    shown: Callable[[jax.Array], jax.Array]


class Game(NamedTuple):
    """What is static about one Gymnasium id."""

    spec: Any
    num_actions: int
    first_action: int
    encoding: Encoding
    observation: jax.ShapeDtypeStruct
    time_limit: int | None


@functools.cache
def game_of(name: str) -> Game:
    """Make an environment once and read its spaces.

    Args:
        name: A registered id.

    Raises:
        ConfigError: The id is unknown or cannot serve, or a dependency is missing.

    Example:
        >>> game_of("FrozenLake-v1").observation.shape
        (16,)
    """
    env = _probe(name)
    actions, space = env.action_space, env.observation_space
    env.close()
    if not isinstance(actions, gymnasium.spaces.Discrete):
        found = "continuous" if isinstance(actions, gymnasium.spaces.Box) else actions
        raise _refusal(name, f"{found} actions; the agents here need discrete ones")
    encoding = _encoding(name, space)
    observation = jax.eval_shape(encoding.shown, encoding.sent)
    return Game(
        spec=gymnasium.spec(name),
        num_actions=int(actions.n),
        first_action=int(actions.start),
        encoding=encoding,
        observation=jax.ShapeDtypeStruct(observation.shape, observation.dtype),
        time_limit=_time_limit(gymnasium.spec(name)),
    )


def _probe(name: str) -> PyTree:
    """One instance of an id, or the reason why there is none."""
    if name not in gymnasium.registry:
        hint = nearest(
            f"gymnasium/{name}", [f"gymnasium/{n}" for n in gymnasium.registry]
        )
        raise _refusal(name, f"Gymnasium has no such id{hint}")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            # Box2D's bindings crash the interpreter where this one is an error.
            warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
            env = gymnasium.make(name)
    except (gymnasium.error.Error, ImportError) as error:
        raise _refusal(name, f"it cannot be made: {error}") from error
    if any(c.__name__ == "FunctionalJaxEnv" for c in type(env.unwrapped).__mro__):
        raise _refusal(name, "it runs JAX, which a call from JAX to the host cannot")
    return env


def _encoding(name: str, space: PyTree) -> Encoding:
    """How observations of this space come into the program."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return _one_hot(name, int(space.n), int(space.start))
    if not isinstance(space, gymnasium.spaces.Box):
        kind = type(space).__name__
        raise _refusal(name, f"{kind} observations; expected Box or Discrete")
    dtype = np.uint8 if space.dtype == np.uint8 else np.float32
    sent = jax.ShapeDtypeStruct(space.shape, dtype)
    return Encoding(sent, lambda obs: np.asarray(obs, dtype), lambda obs: obs)


def _one_hot(name: str, size: int, start: int) -> Encoding:
    """An index comes from the host; the program compares it with every state."""
    if size > _MOST_STATES:
        expected = f"expected at most {_MOST_STATES} states, as they become one-hot"
        raise _refusal(name, f"Discrete({size}) observations; {expected}")

    def read(obs: Observation) -> np.ndarray:
        index = np.asarray(obs) - start
        if np.any((index < 0) | (index >= size)):
            raise RuntimeError(
                f"gymnasium/{name}: expected observations from {start} to "
                f"{start + size - 1}, got {obs}"
            )
        return index.astype(np.int32)

    shown = functools.partial(jax.nn.one_hot, num_classes=size, dtype=jnp.float32)
    return Encoding(jax.ShapeDtypeStruct((), np.int32), read, shown)


def _time_limit(spec: PyTree) -> int | None:
    """Gymnasium's step cap; 1 where the environment itself might truncate."""
    own = str(spec.entry_point).startswith("gymnasium.envs.")
    return spec.max_episode_steps if own and not spec.additional_wrappers else 1


def _refusal(name: str, reason: str) -> ConfigError:
    return ConfigError(f"env.id='gymnasium/{name}': {reason}")
