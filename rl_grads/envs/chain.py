"""`env=chain/NAME`: Markov chains with exact answers, as environments.

`chain_definitions` says what each chain is, `chain_answers` what is true of it, and
this module samples from it. The answers travel in `Environment.exact`.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rl_grads.config import ConfigError, nearest
from rl_grads.envs.chain_answers import MarkovChain, solve
from rl_grads.envs.chain_definitions import DEFINITIONS
from rl_grads.envs.environment import Environment, Step


class ChainState(NamedTuple):
    """State of a chain environment: `index` is a row of the chain's tables."""

    index: jax.Array


def names() -> tuple[str, ...]:
    """Names of the chains, without the prefix `chain/`."""
    return tuple(DEFINITIONS)


def make(name: str) -> Environment:
    """The chain of that name as an environment.

    Built once per name and default float type (`jax_enable_x64`), which observations
    and rewards have.

    Args:
        name: One of `names()`.

    Raises:
        ConfigError: There is no such chain.

    Example:
        >>> env = make("random_walk")
        >>> env.exact.values.round(3)
        array([0.   , 0.167, 0.333, 0.5  , 0.667, 0.833, 0.   ])
    """
    if name not in DEFINITIONS:
        hint = nearest(name, DEFINITIONS)
        known = ", ".join(DEFINITIONS)
        raise ConfigError(f"env.id='chain/{name}': expected one of {known}{hint}")
    return _make(name, jnp.result_type(float))


def environment(name: str, chain: MarkovChain) -> Environment:
    """An environment that samples from a solved chain of your own.

    `step` draws the next state from `transition[s, a]`; entering a terminal state ends
    the episode and the next one begins in a state drawn from `start`. Observations are
    rows of `features`. Episodes are never truncated.

    Args:
        name: The environment's id.
        chain: What `chain_answers.solve` returned.
    """
    tables = _tables(chain)
    return Environment(
        name=name,
        reset=lambda key: _reset(tables, key),
        step=lambda key, state, action: _step(tables, key, state, action),
        observation=jax.ShapeDtypeStruct(
            chain.features.shape[1:], jnp.result_type(float)
        ),
        num_actions=chain.behaviour.shape[1],
        behaviour=lambda key, state: _behaviour(tables, key, state),
        redraws=True,
        exact=chain,
    )


@cache
def _make(name: str, dtype: DTypeLike) -> Environment:
    """One record per name and float type: equal calls share compiled programs."""
    return environment(f"chain/{name}", _solved(name))


@cache
def _solved(name: str) -> MarkovChain:
    return solve(DEFINITIONS[name]())


# --------------------------------------------------------------------------- sampling


class _Draw(NamedTuple):
    """Categorical distributions over the last axis without impossible outcomes."""

    outcome: np.ndarray  # [..., K] int32
    cumulative: np.ndarray  # [..., K], ends with 1


class _Tables(NamedTuple):
    """What sampling reads. Numpy: converted to the float type of each trace."""

    start: _Draw
    move: _Draw
    reward: np.ndarray  # [S, A, K], of the outcomes of move
    act: _Draw
    ratio: np.ndarray  # [S, A]
    terminal: np.ndarray
    features: np.ndarray


def _tables(chain: MarkovChain) -> _Tables:
    move = _draw(chain.transition)
    taken = chain.behaviour > 0
    return _Tables(
        start=_draw(chain.start),
        move=move,
        reward=np.take_along_axis(chain.reward, move.outcome, axis=-1),
        act=_draw(chain.behaviour),
        ratio=np.divide(
            chain.target, chain.behaviour, out=np.zeros(taken.shape), where=taken
        ),
        terminal=chain.terminal,
        features=chain.features,
    )


def _draw(probability: np.ndarray) -> _Draw:
    """The inverse cumulative table of `probability` over its last axis."""
    possible = probability > 0
    count = possible.sum(-1, keepdims=True)
    width = int(count.max())
    outcome = np.argsort(~possible, axis=-1, kind="stable")[..., :width]
    cumulative = np.take_along_axis(probability, outcome, axis=-1).cumsum(-1)
    # Padding repeats the 1 of the last outcome, so that no draw reaches it.
    cumulative[np.arange(width) >= count - 1] = 1.0
    return _Draw(outcome.astype(np.int32), cumulative)


def _sample(key: jax.Array, draw: _Draw, *row: jax.Array) -> jax.Array:
    """Position of a sampled outcome in the given row of the table."""
    if draw.cumulative.shape[-1] == 1:
        return jnp.zeros((), jnp.int32)
    cumulative = _floats(draw.cumulative)[row]
    uniform = jax.random.uniform(key, dtype=cumulative.dtype)
    # Measured fastest of the methods, from 2 to 1000 outcomes.
    return jnp.searchsorted(cumulative, uniform, side="right", method="compare_all")


def _floats(table: np.ndarray) -> jax.Array:
    return jnp.asarray(table, jnp.result_type(float))


def _first(tables: _Tables, key: jax.Array) -> jax.Array:
    """The first state of an episode."""
    return jnp.asarray(tables.start.outcome)[_sample(key, tables.start)]


def _reset(tables: _Tables, key: jax.Array) -> tuple[ChainState, jax.Array]:
    index = _first(tables, key)
    return ChainState(index), _floats(tables.features)[index]


def _step(
    tables: _Tables, key: jax.Array, state: ChainState, action: jax.Array
) -> tuple[ChainState, Step]:
    move_key, start_key = jax.random.split(key)
    slot = _sample(move_key, tables.move, state.index, action)
    last = jnp.asarray(tables.move.outcome)[state.index, action, slot]
    terminated = jnp.asarray(tables.terminal)[last]
    index = jnp.where(terminated, _first(tables, start_key), last)
    features = _floats(tables.features)
    return ChainState(index), Step(
        obs=features[index],
        reward=_floats(tables.reward)[state.index, action, slot],
        terminated=terminated,
        truncated=jnp.zeros_like(terminated),
        final_obs=features[last],
    )


def _behaviour(
    tables: _Tables, key: jax.Array, state: ChainState
) -> tuple[jax.Array, jax.Array]:
    slot = _sample(key, tables.act, state.index)
    action = jnp.asarray(tables.act.outcome)[state.index, slot]
    return action, _floats(tables.ratio)[state.index, action]
