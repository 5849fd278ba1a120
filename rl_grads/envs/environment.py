"""The one contract that every environment fulfils: a record of pure functions.

An `Environment` is ONE instance. The training loop makes many of it with
`jax.vmap`, over an axis named `INSTANCES`. Resets are automatic: `step` returns the
first observation of the next episode in `obs` and the last observation of the old one
in `final_obs`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

INSTANCES = "instances"


class Step(NamedTuple):
    """What one environment step returns.

    Attributes:
        obs: Observation to act on next; after the end of an episode the first
            observation of the next one.
        reward: Reward of this transition, a float32 scalar.
        terminated: The episode ended in a terminal state; its value is zero.
        truncated: The episode was cut off; `final_obs` still has a value.
        final_obs: Observation that this transition led to. Equal to `obs` except
            where the episode ended.
    """

    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_obs: jax.Array


class Environment(NamedTuple):
    """One environment with automatic reset.

    Attributes:
        name: Its id, such as `"gymnax/CartPole-v1"`.
        reset: `reset(key) -> (state, obs)`.
        step: `step(key, state, action) -> (state, Step)`.
        observation: Shape and dtype of one observation.
        num_actions: How many discrete actions there are (`0 .. num_actions - 1`).
        time_limit: The fewest steps between two truncations; None if episodes are
            never truncated. Replay sizes its store of final observations by it.
        behaviour: `behaviour(key, state) -> (action, rho)`, the policy that a
            prediction agent follows and its importance ratio (target over
            behaviour probability). None: uniform over the actions with `rho = 1`.
        resamples: `step` is a function of its arguments alone. False where the state
            lives on the host.
        redraws: Two calls of `behaviour` and `step` from one state are two independent
            draws from one known distribution (double sampling), as in a Markov chain.
        exact: The environment's exact answers where they are known (Markov
            chains), else None.
        evaluation: `evaluation(state)`, the environment on which a policy is
            judged: raw rewards, and observation statistics merged over the stacked
            training states `[num_envs, ...]` and frozen. None: the environment
            itself.
    """

    name: str
    reset: Callable[[jax.Array], tuple[Any, jax.Array]]
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, Step]]
    observation: jax.ShapeDtypeStruct
    num_actions: int
    time_limit: int | None = None
    behaviour: Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]] | None = None
    resamples: bool = True
    redraws: bool = False
    exact: Any = None
    evaluation: "Callable[[Any], Environment] | None" = None
