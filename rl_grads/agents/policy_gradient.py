"""Policy gradients: a Gaussian policy, and the loss that its trajectories give it.

Actions and rewards of trajectories are data. What a policy gradient needs to know of
how they were drawn are the log-probabilities that come with them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from rl_grads.td.traces import lambda_returns
from rl_grads.typing import Network, Params, PyTree

_RIDGE = 1e-5  # Of the fitted baseline, relative to the mean square of its features.


# ------------------------------------------------------------------------------- policy


class Policy(NamedTuple):
    """A policy with real-valued actions `[A]`, a record of pure functions.

    Attributes:
        init: `init(key, obs) -> params`.
        act: `act(params, obs, noise) -> action`, with standard normal `noise` `[A]`;
            zeros give the mean.
        log_prob: `log_prob(params, obs, action) -> scalar`.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    act: Callable[[Any, jax.Array, jax.Array], jax.Array]
    log_prob: Callable[[Any, jax.Array, jax.Array], jax.Array]


def gaussian(network: Network, log_std: float = 0.0) -> Policy:
    """A normal distribution around a network's output, independent in each action.

    Its parameters are `{"mean": ..., "log_std": [A]}`; the standard deviation is
    learned and the same everywhere (Duan et al. 2016, section 5).

    Args:
        network: `init(key, obs)` and `apply(params, obs) -> [A]`.
        log_std: To begin with.

    Example:
        >>> from rl_grads.agents.networks import linear
        >>> from rl_grads.agents.schema import Linear
        >>> policy = gaussian(linear(Linear(initial_weights=(1.0, 2.0)), 1))
        >>> obs = jnp.array([3.0, 4.0])
        >>> params = policy.init(jax.random.key(0), obs)
        >>> policy.act(params, obs, jnp.array([-1.0])).tolist()
        [10.0]
        >>> round(float(policy.log_prob(params, obs, jnp.array([10.0]))), 4)
        -1.4189
    """

    def init(key: jax.Array, obs: jax.Array) -> dict[str, PyTree]:
        mean = network.init(key, obs)
        size = jax.eval_shape(network.apply, mean, obs).shape
        return {"mean": mean, "log_std": jnp.full(size, log_std)}

    def act(params: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        std = jnp.exp(params["log_std"])
        return network.apply(params["mean"], obs) + std * noise

    def log_prob(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        mean, std = network.apply(params["mean"], obs), jnp.exp(params["log_std"])
        return jnp.sum(norm.logpdf(action, mean, std))

    return Policy(init, act, log_prob)


# ------------------------------------------------------------------------- trajectories


class Trajectories(NamedTuple):
    """N trajectories of one policy, of at most T steps.

    Attributes:
        s_tm1: Observations, `[N, T, ...]`.
        a_tm1: Actions, `[N, T, A]`.
        r_t: Rewards, `[N, T]`; zero after the end.
        alive: 1 for each step that was made, 0 after the end, `[N, T]`.
        log_prob: Of the actions, under the policy that took them, `[N, T]`.
    """

    s_tm1: jax.Array
    a_tm1: jax.Array
    r_t: jax.Array
    alive: jax.Array
    log_prob: jax.Array


def returns(trajectories: Trajectories) -> jax.Array:
    """Undiscounted returns, `[N]`."""
    return jnp.sum(trajectories.r_t, -1)


def rewards_to_go(trajectories: Trajectories, discount: float | jax.Array) -> jax.Array:
    """The discounted sum of rewards from each step on, `[N, T]`.

    Example:
        >>> ones = jnp.ones((1, 3))
        >>> steps = Trajectories(ones, ones, 4 * ones, ones, ones)
        >>> rewards_to_go(steps, 0.5).tolist()
        [[7.0, 6.0, 4.0]]
    """
    r_t = trajectories.r_t
    discount_t = jnp.full_like(r_t, discount)
    return jax.vmap(lambda_returns, (0, 0, 0, None))(
        r_t, discount_t, jnp.zeros_like(r_t), 1.0
    )


def linear_baseline(trajectories: Trajectories, to_go: jax.Array) -> jax.Array:
    """What to expect from each step on, fitted to the trajectories, `[N, T]`.

    Ridge regression on the observation, its squares, and powers of the time (Duan et
    al. 2016, section 5). Fitted to few trajectories it follows their chance a little,
    which biases a policy gradient; a baseline fitted to others would not.

    Args:
        trajectories: The trajectories; observations are vectors.
        to_go: What the steps led to, `[N, T]`.

    Raises:
        ValueError: Observations are no vectors.
    """
    features = _features(trajectories)
    seen = features * trajectories.alive[..., None]
    gram = jnp.einsum("ntf,ntg->fg", seen, seen)
    pull = _RIDGE * jnp.trace(gram) / gram.shape[0] * jnp.eye(gram.shape[0])
    weights = jnp.linalg.solve(gram + pull, jnp.einsum("ntf,nt->f", seen, to_go))
    return features @ weights


def _features(trajectories: Trajectories) -> jax.Array:
    """`[N, T, 2 D + 4]`."""
    obs = trajectories.s_tm1
    if obs.ndim != 3:
        raise ValueError(
            f"trajectories: expected observations [N, T, D], got the shape {obs.shape}"
        )
    time = jnp.arange(obs.shape[1]) / obs.shape[1]
    powers = jnp.stack([time**0, time, time**2, time**3], -1)
    powers = jnp.broadcast_to(powers, (*obs.shape[:2], powers.shape[-1]))
    return jnp.concatenate([obs, jnp.square(obs), powers], -1)


def advantages(
    trajectories: Trajectories,
    discount: float | jax.Array,
    baseline: Callable[[Trajectories, jax.Array], jax.Array] = linear_baseline,
) -> jax.Array:
    """How much better each step was than expected, `[N, T]`; zero after the end.

    Args:
        trajectories: The trajectories.
        discount: Of what follows a step; below 1 it trades variance for bias.
        baseline: `baseline(trajectories, to_go) -> [N, T]`. One that knows nothing of
            the step's own action leaves the expected gradient as it is.
    """
    to_go = rewards_to_go(trajectories, discount)
    return (to_go - baseline(trajectories, to_go)) * trajectories.alive


def normalised(advantages: jax.Array, alive: jax.Array) -> jax.Array:
    """Advantages of mean 0 and variance 1 over the steps that were made, `[N, T]`.

    Args:
        advantages: `[N, T]`.
        alive: As in `Trajectories`, `[N, T]`.

    Example:
        >>> normalised(jnp.array([[3.0, 1.0, 9.0]]), jnp.array([[1.0, 1.0, 0.0]]))
        Array([[ 1., -1.,  0.]], dtype=float32)
    """
    count = jnp.maximum(jnp.sum(alive), 1)
    centred = (advantages - jnp.sum(advantages * alive) / count) * alive
    variance = jnp.sum(jnp.square(centred)) / count
    return centred / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))


# --------------------------------------------------------------------------------- loss


def loss(
    policy: Policy, params: Params, trajectories: Trajectories, weights: jax.Array
) -> jax.Array:
    """A loss whose gradient is a policy gradient, and so is the gradient of that.

    Minus the mean over steps of `ratio * weight`, with the ratio of an action's
    probability now to what it was when it was taken. At the policy that took them all
    ratios are 1, and the gradient is the score-function gradient of REINFORCE (Williams
    1992) or, with baseline, of Sutton et al. (2000). The second derivative, which a
    meta-gradient through an update contains, then has both terms of the policy's own
    Hessian, `grad^2 log p + grad log p grad log p^T`. With `log p` for the ratio, as in
    the original MAML (Finn et al. 2017), the second is missing: the gradient is the
    same, its derivative is not that of an expectation. How the distribution of *states*
    depends on earlier actions stays out, which has low variance and a small bias (LVC,
    Rothfuss et al. 2019; DiCE, Foerster et al. 2018, has no bias and more variance).

    Args:
        policy: The policy.
        params: Its parameters; those that are differentiated.
        trajectories: Data.
        weights: Advantages, `[N, T]`; data as well.

    Raises:
        ValueError: Weights of another shape.

    Example:
        >>> slope = jax.grad(loss, 1)                              # doctest: +SKIP
        >>> slope(policy, params, trajectories, weights)           # doctest: +SKIP
    """
    if jnp.shape(weights) != trajectories.alive.shape:
        raise ValueError(
            f"weights: expected the shape {trajectories.alive.shape} of the steps, got "
            f"{jnp.shape(weights)}"
        )
    each = jax.vmap(jax.vmap(policy.log_prob, (None, 0, 0)), (None, 0, 0))
    now = each(params, trajectories.s_tm1, trajectories.a_tm1)
    # What comes after the end has no ratio, and an infinite one times 0 would be nan.
    alive = trajectories.alive > 0
    change = jnp.where(alive, now - trajectories.log_prob, 0.0)
    total = jnp.sum(jnp.exp(change) * weights * trajectories.alive)
    return -total / jnp.maximum(jnp.sum(trajectories.alive), 1)
