"""Behaviour policies as probabilities of actions, given action values `[num_actions]`.

Each is a pure function `(q, policy) -> probabilities`, `policy` being the
`agent.behaviour_policy` section of a config at this moment of training.
"""

from typing import Any

import jax
import jax.numpy as jnp


def epsilon_greedy(q: jax.Array, policy: Any) -> jax.Array:
    """Greedy with probability `1 - epsilon`, else uniform; ties share equally.

    Example:
        >>> from types import SimpleNamespace
        >>> epsilon_greedy(jnp.array([1.0, 2.0]), SimpleNamespace(epsilon=0.2)).tolist()
        [0.10000000149011612, 0.9000000357627869]
    """
    best = (q == jnp.max(q)).astype(q.dtype)
    greedy = best / jnp.sum(best)
    return policy.epsilon / q.shape[-1] + (1 - policy.epsilon) * greedy


def softmax(q: jax.Array, policy: Any) -> jax.Array:
    """Boltzmann probabilities, `softmax(q / temperature)` (S&B 2018, section 13.1)."""
    return jax.nn.softmax(q / policy.temperature)


def uniform(q: jax.Array, policy: Any) -> jax.Array:
    """Every action with the same probability."""
    return jnp.full_like(q, 1 / q.shape[-1])


POLICIES = {"epsilon_greedy": epsilon_greedy, "softmax": softmax, "uniform": uniform}


def probabilities(q: jax.Array, policy: Any) -> jax.Array:
    """Probabilities under the policy that `policy.name` chooses, constants in q.

    A behaviour policy is where data comes from, not a path for gradients.
    """
    return jax.lax.stop_gradient(POLICIES[policy.name](q, policy))


def sample(key: jax.Array, q: jax.Array, policy: Any) -> jax.Array:
    """Draw one action from the policy, an int32 scalar."""
    cumulative = jnp.cumsum(probabilities(q, policy))
    point = jax.random.uniform(key, (), q.dtype) * cumulative[-1]
    index = jnp.searchsorted(cumulative, point, side="right")
    return jnp.minimum(index, q.shape[-1] - 1).astype(jnp.int32)
