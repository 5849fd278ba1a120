"""Behaviour policies as probabilities of actions, given action values `[num_actions]`.

Each is a pure function `(q, policy) -> probabilities`, `policy` being the
`agent.behaviour_policy` section of a config at this moment of training.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rl_grads.agents.schema import BehaviourPolicy
from rl_grads.arrays import PRNGKey


def epsilon_greedy(q: Float[Array, "A"], policy: BehaviourPolicy) -> Float[Array, "A"]:
    """Greedy with probability `1 - epsilon`, else uniform; ties share equally.

    Example:
        >>> from types import SimpleNamespace
        >>> epsilon_greedy(jnp.array([1.0, 2.0]), SimpleNamespace(epsilon=0.5)).tolist()
        [0.25, 0.75]
    """
    best = (q == jnp.max(q)).astype(q.dtype)
    greedy = best / jnp.sum(best)
    return policy.epsilon / q.shape[-1] + (1 - policy.epsilon) * greedy


def softmax(q: Float[Array, "A"], policy: BehaviourPolicy) -> Float[Array, "A"]:
    """Boltzmann probabilities, `softmax(q / temperature)` (S&B 2018, section 13.1).

    Example:
        >>> from types import SimpleNamespace
        >>> softmax(jnp.zeros(4), SimpleNamespace(temperature=3.0)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    return jax.nn.softmax(q / policy.temperature)


def uniform(q: Float[Array, "A"], policy: BehaviourPolicy) -> Float[Array, "A"]:
    """Every action with the same probability.

    Example:
        >>> uniform(jnp.array([1.0, 2.0]), None).tolist()
        [0.5, 0.5]
    """
    return jnp.full_like(q, 1 / q.shape[-1])


POLICIES = {"epsilon_greedy": epsilon_greedy, "softmax": softmax, "uniform": uniform}


def probabilities(q: Float[Array, "A"], policy: BehaviourPolicy) -> Float[Array, "A"]:
    """Probabilities `[num_actions]` under the policy that `policy.name` chooses.

    Nothing is stopped: an outer derivative in epsilon or the temperature is exact.

    Example:
        >>> from rl_grads.agents.schema import BehaviourPolicy
        >>> probabilities(jnp.array([1.0, 2.0]), BehaviourPolicy("uniform")).tolist()
        [0.5, 0.5]
    """
    return POLICIES[policy.name](q, policy)


def sample(
    key: PRNGKey, q: Float[Array, "A"], policy: BehaviourPolicy
) -> Int[Array, ""]:
    """Draw one action from the policy, an int32 scalar.

    An action of probability zero is never drawn.

    Example:
        >>> from rl_grads.agents.schema import BehaviourPolicy
        >>> greedy = BehaviourPolicy(epsilon=0.0)
        >>> int(sample(jax.random.key(0), jnp.array([1.0, 3.0, 2.0]), greedy))
        1
    """
    cumulative = jnp.cumsum(probabilities(q, policy))
    point = jax.random.uniform(key, (), q.dtype) * cumulative[-1]
    index = jnp.sum(cumulative <= point, dtype=jnp.int32)
    return jnp.minimum(index, q.shape[-1] - 1)
