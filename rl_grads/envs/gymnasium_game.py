"""What is static about a Gymnasium id: actions, observations and time limit."""

import functools
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import blame
from rl_grads.config import ConfigError, nearest
from rl_grads.config.classes import Fixed
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

    name: str
    spec: Any
    kwargs: Fixed
    num_actions: int
    first_action: int
    encoding: Encoding
    observation: jax.ShapeDtypeStruct
    time_limit: int | None


@functools.cache
def game_of(name: str, kwargs: Fixed = Fixed()) -> Game:  # noqa: B008 (has a hash)
    """Make an environment, reset and step it once, and read its spaces.

    Args:
        name: A registered id.
        kwargs: Arguments of its maker.

    Raises:
        ConfigError: The id is unknown or cannot serve, or a dependency is missing.

    Example:
        >>> game_of("FrozenLake-v1").observation.shape
        (16,)
    """
    env = _probe(name, kwargs)
    actions, space = env.action_space, env.observation_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
        found = "continuous" if isinstance(actions, gymnasium.spaces.Box) else actions
        raise _refusal(name, f"{found} actions; the agents here need discrete ones")
    encoding = _encoding(name, space)
    _try(name, env, encoding)
    env.close()
    observation = jax.eval_shape(encoding.shown, encoding.sent)
    return Game(
        name=f"gymnasium/{name}",
        spec=gymnasium.spec(name),
        kwargs=kwargs,
        num_actions=int(actions.n),
        first_action=int(actions.start),
        encoding=encoding,
        observation=jax.ShapeDtypeStruct(observation.shape, observation.dtype),
        time_limit=_time_limit(gymnasium.spec(name)),
    )


def _probe(name: str, kwargs: Fixed) -> gymnasium.Env:
    """One instance of an id, or the reason why there is none."""
    if ":" in name:
        module, _, inner = name.partition(":")
        words = f"import {module} first (--plugin {module}), and ask for {inner}"
        raise _refusal(name, words)
    if name in _OTHER_MAKERS and kwargs:
        words = "it would make, and import, what env.kwargs name"
        raise _refusal(name, words)
    if name not in gymnasium.registry:
        raise _refusal(name, f"Gymnasium has no such id{_hint(name)}")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            # Box2D's bindings crash the interpreter where this one is an error.
            warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
            env = gymnasium.make(name, **kwargs)
    except TypeError as error:
        raise _refusal(name, f"it cannot be made: {_arguments(error)}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise _refusal(name, f"it cannot be made: {error}") from error
    except Exception as error:
        raise _refusal(name, f"it cannot be made: {blame.words(error)}") from error
    if any(c.__name__ == "FunctionalJaxEnv" for c in type(env.unwrapped).__mro__):
        raise _refusal(name, "it runs JAX, which a call from JAX to the host cannot")
    return env


# Ids that make an environment of another package by its name, whatever that imports.
_OTHER_MAKERS = ("GymV21Environment-v0", "GymV26Environment-v0")
# Packages that bring ids of their own, by what these begin with.
_PACKAGES = {"ALE/": ("ale-py", "ale_py")}


def _hint(name: str) -> str:
    """The package that has such ids, or the nearest id."""
    for begin, (package, module) in _PACKAGES.items():
        if name.startswith(begin):
            return f"; {begin}... needs: pip install {package}, and --plugin {module}"
    return nearest(f"gymnasium/{name}", [f"gymnasium/{n}" for n in gymnasium.registry])


def _arguments(error: TypeError) -> str:
    """An argument that a maker wants or does not know, with the key that sets it."""
    said = blame.words(error).partition(" was raised from the environment creator")[0]
    missing = re.search(r"missing \d+ required \S+ arguments?: '(\w+)'", said)
    unknown = re.search(r"unexpected keyword argument '(\w+)'", said)
    if missing:
        return f"its maker wants env.kwargs.{missing[1]} ({said})"
    if unknown:
        return f"its maker takes no env.kwargs.{unknown[1]} ({said})"
    return said


def _try(name: str, env: gymnasium.Env, encoding: Encoding) -> None:
    """Reset and step it once, and look at what it gives."""
    whose = type(env.unwrapped)
    what = f"env.id='gymnasium/{name}'"
    with blame.calling(what, whose), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's own, of other conventions.
        obs, _ = env.reset(seed=0)
        _check_shape(what, whose, "reset()", obs, encoding)
        obs, reward, *ends, _ = env.step(env.action_space.sample())
        _check_shape(what, whose, "step()", obs, encoding)
        values = (float(np.asarray(x).item()) for x in (reward, *ends))
        if len([*values]) != 3:
            raise ValueError(
                "step() did not give (obs, reward, terminated, truncated, info)"
            )


def _check_shape(
    what: str, whose: type, where: str, obs: Observation, encoding: Encoding
) -> None:
    found, wanted = np.shape(obs), encoding.sent.shape
    if found != wanted:
        raise ConfigError(
            f"{blame.named(what, whose)}: expected observations of shape {wanted}, as "
            f"its observation_space says; {where} gave {found}"
        )


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
