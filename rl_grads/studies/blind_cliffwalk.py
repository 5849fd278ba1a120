"""How many updates the Blind Cliffwalk takes, by the choice of what to replay.

Schaul et al. 2016, section 3.1 and figure 1. Every way through `chain/blind_cliffwalk`
is in the memory: `2 ** (n + 1) - 2` transitions, one of them with a reward. Tabular
Q-learning replays one transition at a time until its values are right.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import prng
from rl_grads.envs.chain_answers import solve
from rl_grads.envs.chain_definitions import blind_cliffwalk
from rl_grads.replay import blocked_sums
from rl_grads.td.errors import q_learning_error
from rl_grads.typing import PyTree, State

STEP_SIZE = 0.25
TOLERANCE = 1e-3  # Mean squared error of the 2n action values at which it is learnt.
SPREAD = 0.1  # Standard deviation of the initial values.
LONGEST = 1_000_000  # Updates after which a seed gives up.


class Walk(NamedTuple):
    """The memory of all ways, and what is true.

    N transitions, n states, the actions wrong and right.

    Attributes:
        state: `[N]` state acted in.
        action: `[N]` action taken.
        after: `[n, 2]` state that an action leads to; any where the episode ends.
        reward: `[n, 2]`.
        discount_t: `[n, 2]`, zero where the episode ends.
        q: `[n, 2]` true action values.
    """

    state: jax.Array
    action: jax.Array
    after: jax.Array
    reward: jax.Array
    discount_t: jax.Array
    q: jax.Array


class Scheme(NamedTuple):
    """A way to choose what to replay, with a memory of its own.

    Attributes:
        init: `init(walk) -> state`.
        choose: `choose(state, key, walk, q) -> transition`.
        record: `record(state, transition, td_error) -> state`.
    """

    init: Callable[[Walk], Any]
    choose: Callable[[Any, jax.Array, Walk, jax.Array], jax.Array]
    record: Callable[[Any, jax.Array, jax.Array], Any]


def all_ways(num_states: int) -> Walk:
    """Every transition of the `2 ** num_states` sequences of actions.

    Example:
        >>> walk = all_ways(2)
        >>> walk.state.tolist(), walk.action.tolist()
        ([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 1])
        >>> walk.q.tolist()
        [[0.0, 0.5], [0.0, 1.0]]
    """
    chain = solve(blind_cliffwalk(num_states))
    states = np.arange(num_states)
    # State s is reached by 2 ** (n - s) sequences, half of which go on.
    times = 2 ** (num_states - 1 - states)
    after = chain.transition[:num_states].argmax(-1)
    reward = np.take_along_axis(chain.reward[:num_states], after[..., None], -1)[..., 0]
    discount_t = chain.discount * ~chain.terminal[after]
    return Walk(
        state=jnp.asarray(np.repeat(states, 2 * times)),
        action=jnp.asarray(np.concatenate([np.repeat([0, 1], t) for t in times])),
        after=jnp.asarray(after % num_states),
        reward=jnp.asarray(reward, float),
        discount_t=jnp.asarray(discount_t, float),
        q=jnp.asarray(reward + discount_t * chain.values[after], float),
    )


def td_error(
    walk: Walk, q: jax.Array, state: jax.Array | int, action: jax.Array | int
) -> jax.Array:
    """The Q-learning error of one transition under the values `q`, `[n, 2]`.

    Example:
        >>> walk = all_ways(2)
        >>> float(td_error(walk, jnp.zeros((2, 2)), 1, 1))
        1.0
    """
    reward, discount_t = walk.reward[state, action], walk.discount_t[state, action]
    q_t = q[walk.after[state, action]]
    return q_learning_error(q[state], jnp.asarray(action), reward, discount_t, q_t)


def updates_to_learn(
    num_states: int, scheme: Scheme, seeds: int, first_seed: int = 0
) -> np.ndarray:
    """Updates until the mean squared error is below `TOLERANCE`, `[seeds]`.

    Example:
        >>> updates_to_learn(4, oracle(), seeds=100)  # doctest: +SKIP
    """
    numbers = jnp.arange(first_seed, first_seed + seeds)
    learn = jax.jit(jax.vmap(lambda n: _learn(all_ways(num_states), scheme, n)))
    return np.asarray(learn(numbers))


class _Learning(NamedTuple):
    q: jax.Array
    state: Any
    updates: jax.Array


def _learn(walk: Walk, scheme: Scheme, seed: jax.Array) -> jax.Array:
    key_start, key_choose = jax.random.split(prng.key(seed))

    def step(learning: _Learning) -> _Learning:
        key = jax.random.fold_in(key_choose, learning.updates)
        chosen = scheme.choose(learning.state, key, walk, learning.q)
        state, action = walk.state[chosen], walk.action[chosen]
        error = td_error(walk, learning.q, state, action)
        q = learning.q.at[state, action].add(STEP_SIZE * error)
        recorded = scheme.record(learning.state, chosen, error)
        return _Learning(q, recorded, learning.updates + 1)

    def going(learning: _Learning) -> jax.Array:
        wrong = jnp.mean(jnp.square(learning.q - walk.q)) >= TOLERANCE
        return wrong & (learning.updates < LONGEST)

    q = SPREAD * jax.random.normal(key_start, walk.q.shape)
    start = _Learning(q, scheme.init(walk), jnp.int32(0))
    return jax.lax.while_loop(going, step, start).updates


# ---------------------------------------------------------------------------- schemes


def uniform() -> Scheme:
    """Every transition equally often."""

    def choose(state: State, key: jax.Array, walk: Walk, q: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, walk.state.shape[0])

    return Scheme(lambda walk: (), choose, lambda state, chosen, error: ())


def oracle() -> Scheme:
    """The transition after whose update the error of all values is least."""

    def choose(state: State, key: jax.Array, walk: Walk, q: jax.Array) -> jax.Array:
        errors = jax.vmap(partial(td_error, walk, q))(walk.state, walk.action)
        now = (q - walk.q)[walk.state, walk.action]
        return jnp.argmin(jnp.square(now + STEP_SIZE * errors) - jnp.square(now))

    return Scheme(lambda walk: (), choose, lambda state, chosen, error: ())


def greedy_td() -> Scheme:
    """The largest |TD error| as of the last replay; what is new comes first."""

    def init(walk: Walk) -> jax.Array:
        return jnp.full(walk.state.shape, jnp.inf)

    def record(state: jax.Array, chosen: jax.Array, error: jax.Array) -> jax.Array:
        return state.at[chosen].set(jnp.abs(error))

    return Scheme(init, lambda state, key, walk, q: jnp.argmax(state), record)


def proportional(exponent: float = 0.5, floor: float = 1e-4) -> Scheme:
    """Drawn by `(|TD error| + floor) ** exponent`, 1 for what is new."""

    def init(walk: Walk) -> blocked_sums.BlockedSums:
        return blocked_sums.build(jnp.ones(walk.state.shape))

    def choose(state: State, key: jax.Array, walk: Walk, q: jax.Array) -> jax.Array:
        return blocked_sums.draw(key, state, 1)[0]

    def record(state: State, chosen: jax.Array, error: jax.Array) -> PyTree:
        priority = (jnp.abs(error) + floor) ** exponent
        return blocked_sums.put(state, chosen[None], priority[None])

    return Scheme(init, choose, record)


SCHEMES: dict[str, Callable[[], Scheme]] = {
    "uniform": uniform,
    "proportional": proportional,
    "greedy_td": greedy_td,
    "oracle": oracle,
}
