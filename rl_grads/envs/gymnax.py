"""Gymnax environments under one contract: `gymnax/CartPole-v1` and its like.

Gymnax 1.0 resets by itself and reports the last observation of an episode, so its
step maps one to one on ours. Everything runs in JAX, inside the compiled program.
"""

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import prng
from rl_grads.config import ConfigError, nearest
from rl_grads.envs.environment import Environment, Step
from rl_grads.typing import PyTree, State

# Plotting libraries and the download of MNIST, which gymnax imports at its top.
_POSTPONED = ("gymnax.utils.load_mnist", "matplotlib", "seaborn")
# Frames of zeros and ones that gymnax returns as float32.
_BINARY_FRAMES = ("-MinAtar", "Pong-misc")


class _Game(NamedTuple):
    """What is static about one gymnax id."""

    env: Any
    params: Any
    num_actions: int
    observation: jax.ShapeDtypeStruct
    encode: Callable[[jax.Array], jax.Array]
    time_limit: int


def names() -> tuple[str, ...]:
    """Every id that gymnax knows, `"CartPole-v1"` first."""
    return tuple(_gymnax().registered_envs)


def make(name: str, params: Mapping[str, PyTree]) -> Environment:
    """The gymnax environment of that id.

    Args:
        name: An id such as `"CartPole-v1"`.
        params: Numbers for fields of the environment's `EnvParams`, by name; they
            may be tracers. Integer and boolean fields are cast.

    Returns:
        The environment. Observations are float32, one-hot float32 where the space is
        discrete, and uint8 for the binary frames of MinAtar and Pong.

    Raises:
        ConfigError: The id is unknown or cannot serve, or a name in `params` is
            unknown.

    Example:
        >>> environment = make("CartPole-v1", {"gravity": 5.0})
        >>> environment.num_actions, environment.observation.shape
        (2, (4,))
    """
    check(name, params)
    game = _game(name)
    physics = _overridden(game.params, params)

    def reset(key: jax.Array) -> tuple[PyTree, jax.Array]:
        with jax.enable_x64(False):
            obs, state = game.env.reset(key, physics)
            return _strongly_typed(state), game.encode(obs)

    def step(key: jax.Array, state: State, action: jax.Array) -> tuple[PyTree, Step]:
        with jax.enable_x64(False):
            return _step(key, state, action.astype(jnp.int32))

    def _step(key: jax.Array, state: State, action: jax.Array) -> tuple[PyTree, Step]:
        obs, state, reward, terminated, truncated, info = game.env.step(
            key, state, action, physics
        )
        return _strongly_typed(state), Step(
            obs=game.encode(obs),
            reward=reward.astype(jnp.float32),
            terminated=terminated,
            truncated=truncated & ~terminated,
            final_obs=game.encode(info["final_observation"]),
        )

    limited = "max_steps_in_episode" in params
    return Environment(
        name=f"gymnax/{name}",
        reset=reset,
        step=step,
        observation=game.observation,
        num_actions=game.num_actions,
        time_limit=1 if limited else game.time_limit,
    )


def check(name: str, params: Mapping[str, PyTree]) -> None:
    """Refuse an id or a parameter that `make` cannot serve.

    Raises:
        ConfigError: As `make`.
    """
    if name not in names():
        known = [f"gymnax/{n}" for n in names()]
        hint = nearest(f"gymnax/{name}", known)
        raise ConfigError(f"env.id='gymnax/{name}': gymnax has no such id{hint}")
    defaults = _game(name).params
    known = [k for k, v in vars(defaults).items() if jnp.ndim(v) == 0]
    for key in params:
        if key not in known:
            raise ConfigError(
                f"env.params.{key}={params[key]!r}: gymnax/{name} has "
                f"{', '.join(known)}{nearest(key, known)}"
            )


# ------------------------------------------------------------------ one environment


@functools.cache
def _game(name: str) -> _Game:
    """Build an environment once, outside of any trace, and read its spaces."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(False):
        env, params = _constructed(name)
        action_space = env.action_space(params)
        observation_space = env.observation_space(params)
    _check_actions(name, action_space)
    encode = _encoding(name, observation_space)
    with jax.enable_x64(False):
        observation = jax.eval_shape(
            lambda key: encode(env.reset(key, params)[0]), prng.key(0)
        )
    return _Game(
        env=env,
        params=params,
        num_actions=int(action_space.n),
        observation=jax.ShapeDtypeStruct(observation.shape, observation.dtype),
        encode=encode,
        time_limit=_time_limit(env, params),
    )


def _constructed(name: str) -> tuple[PyTree, PyTree]:
    """Gymnax's environment and its default parameters."""
    try:
        return _gymnax().make(name)
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"env.id='gymnax/{name}': it cannot be built: {error}"
        ) from error


def _check_actions(name: str, space: PyTree) -> None:
    """Refuse all but discrete actions."""
    kind = type(space).__name__
    if kind != "Discrete":
        found = "continuous" if kind == "Box" else kind
        raise ConfigError(
            f"env.id='gymnax/{name}': {found} actions; the agents here need discrete "
            "ones"
        )


def _encoding(name: str, space: PyTree) -> Callable[[jax.Array], jax.Array]:
    """How an observation of this space becomes one array."""
    kind = type(space).__name__
    if kind == "Discrete":
        return functools.partial(
            jax.nn.one_hot, num_classes=int(space.n), dtype=jnp.float32
        )
    if kind != "Box":
        raise ConfigError(
            f"env.id='gymnax/{name}': {kind} observations; expected Box or Discrete"
        )
    binary = name.endswith(_BINARY_FRAMES) or space.dtype in (jnp.bool_, jnp.uint8)
    return lambda obs: obs.astype(jnp.uint8 if binary else jnp.float32)


def _time_limit(env: PyTree, params: PyTree) -> int:
    """The step cap where gymnax's own rule truncates; 1, always safe, elsewhere."""
    base = importlib.import_module("gymnax.environments.environment").Environment
    ours = type(env).__module__.startswith("gymnax.environments.")
    if ours and type(env).is_truncated is base.is_truncated:
        return int(params.max_steps_in_episode)
    return 1


def _overridden(params: PyTree, changes: Mapping[str, PyTree]) -> PyTree:
    """Gymnax's parameters with some exchanged, each in its field's own type."""
    if not changes:
        return params
    return params.replace(
        **{
            name: jnp.asarray(value, _dtype(getattr(params, name)))
            for name, value in changes.items()
        }
    )


def _dtype(default: PyTree) -> PyTree:
    """The 32-bit type of a parameter's default."""
    with jax.enable_x64(False):
        return jnp.result_type(default)


def _strongly_typed(state: State) -> PyTree:
    """The state without weak types: a second call must find the first one's types."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)


# ------------------------------------------------------------------------- import


@functools.cache
def _gymnax() -> types.ModuleType:
    """Gymnax, imported without the libraries that only its pictures need."""
    with (
        _postponed_imports(),
        jax.ensure_compile_time_eval(),
        jax.enable_x64(False),
    ):
        return importlib.import_module("gymnax")


class _OnDemand(types.ModuleType):
    """Stands for a module that is imported when one of its attributes is used."""

    def __getattr__(self, attribute: str) -> Any:
        module = None
        if not attribute.startswith("__"):
            module = importlib.import_module(self.__name__)
        if module is None or module is self:
            raise AttributeError(attribute)
        return getattr(module, attribute)


class _Postpone(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for a few modules and everything below them."""

    def __init__(self, roots: tuple[str, ...]):
        self.roots = roots

    def covers(self, name: str) -> bool:
        return any(name == r or name.startswith(f"{r}.") for r in self.roots)

    def find_spec(
        self, fullname: str, path: PyTree = None, target: PyTree = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.covers(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _OnDemand(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing runs until an attribute is used."""


@contextlib.contextmanager
def _postponed_imports() -> Iterator[None]:
    """Import stand-ins here; afterwards every import is the real one again."""
    finder = _Postpone(tuple(n for n in _POSTPONED if n not in sys.modules))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if finder.covers(n)]:
            del sys.modules[name]
