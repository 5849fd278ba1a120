"""Few-shot TD prediction: where to begin on a random chain, seen for three episodes.

A task is a 19-state chain with a transition bias uniform in [.3, .7] and rewards for
its two ends uniform in [-1, 1]. The learner, `rl_grads.agents.prediction`, makes five
semi-gradient TD(0) updates on all the transitions of three episodes; what counts is the
error of its values in the states of three fresh ones.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_grads import prng
from rl_grads.agents import networks
from rl_grads.agents.agent import Agent
from rl_grads.agents.pages.prediction import prediction
from rl_grads.agents.schema import MLP, Linear, Prediction
from rl_grads.gradients.schema import SGD
from rl_grads.meta import few_shot
from rl_grads.meta.estimate import Estimator
from rl_grads.meta.few_shot import Budget, FewShot
from rl_grads.meta.inner import Batch, problem
from rl_grads.meta.unrolled import full
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import Network, Params, PyTree, State

NUM_STATES = 19
BIASES, REWARDS = (0.3, 0.7), (-1.0, 1.0)
EPISODES, UPDATES = 3, 5
TEST_TASKS, CHOICE_TASKS = 200, 1000
SPREAD = 0.5  # Standard deviation of the values in a random table.


# -------------------------------------------------------------------------------- tasks


class Chain(NamedTuple):
    """A task: the probability of a step to the right, and the rewards of both ends."""

    bias: jax.Array
    left: jax.Array
    right: jax.Array


class Visits(NamedTuple):
    """How often episodes stepped left and right from each state, `[19, 2]`."""

    counts: jax.Array


class Fresh(NamedTuple):
    """What the outer loss sees: visits to each state, and true values, `[19]` each."""

    visits: jax.Array
    values: jax.Array


def draw_chain(key: jax.Array) -> Chain:
    """A chain of the distribution."""
    keys = jax.random.split(key, 3)
    intervals = (BIASES, REWARDS, REWARDS)
    drawn = [
        jax.random.uniform(k, minval=low, maxval=high)
        for k, (low, high) in zip(keys, intervals, strict=True)
    ]
    return Chain(*drawn)


def true_values(chain: Chain) -> jax.Array:
    """The value of each state `[19]`, undiscounted.

    Example:
        >>> even = Chain(jnp.array(0.5), jnp.array(-1.0), jnp.array(1.0))
        >>> [round(float(v), 3) for v in true_values(even)[:3]]
        [-0.9, -0.8, -0.7]
    """
    right = chain.bias * jnp.eye(NUM_STATES, k=1)
    left = (1 - chain.bias) * jnp.eye(NUM_STATES, k=-1)
    ends = jnp.zeros(NUM_STATES).at[0].set((1 - chain.bias) * chain.left)
    ends = ends.at[-1].set(chain.bias * chain.right)
    return jnp.linalg.solve(jnp.eye(NUM_STATES) - right - left, ends)


class _Walk(NamedTuple):
    state: jax.Array
    counts: jax.Array
    time: jax.Array


def walk(key: jax.Array, chain: Chain) -> jax.Array:
    """The steps of one episode from the centre to an end, `[19, 2]`."""

    def inside(walk: _Walk) -> jax.Array:
        return (walk.state >= 0) & (walk.state < NUM_STATES)

    def step(walk: _Walk) -> _Walk:
        now = jax.random.fold_in(key, walk.time)
        action = jax.random.bernoulli(now, chain.bias).astype(jnp.int32)
        counts = walk.counts.at[walk.state, action].add(1.0)
        return _Walk(walk.state + 2 * action - 1, counts, walk.time + 1)

    begin = _Walk(jnp.int32(NUM_STATES // 2), jnp.zeros((NUM_STATES, 2)), jnp.uint32(0))
    return jax.lax.while_loop(inside, step, begin).counts


def episodes(key: jax.Array, chain: Chain) -> jax.Array:
    """The steps of three episodes, added up, `[19, 2]`."""
    keys = jax.random.split(key, EPISODES)
    return jax.vmap(walk, (0, None))(keys, chain).sum(0)


def transitions(chain: Chain) -> Transition:
    """The 38 transitions that a chain has: left and right from each state in turn.

    States are one-hot; a weighted batch of them stands for any number of episodes.
    """
    state = np.repeat(np.arange(NUM_STATES), 2)
    action = np.tile([0, 1], NUM_STATES)
    after = state + 2 * action - 1
    ended = jnp.asarray((after < 0) | (after == NUM_STATES))
    one_hot = jnp.eye(NUM_STATES)
    return Transition(
        s_tm1=one_hot[state],
        a_tm1=jnp.asarray(action),
        r_t=jnp.where(ended, jnp.where(action == 0, chain.left, chain.right), 0.0),
        s_t=one_hot[np.clip(after, 0, NUM_STATES - 1)],
        terminated=ended,
        truncated=jnp.zeros(2 * NUM_STATES, bool),
        discount_t=1.0 - ended,
        rho=jnp.ones(2 * NUM_STATES),
    )


def sample(key: jax.Array) -> tuple[Batch, Fresh]:
    """A task: the same batch for all five updates, and fresh episodes."""
    key_chain, key_in, key_out = jax.random.split(key, 3)
    chain = draw_chain(key_chain)
    counts = episodes(key_in, chain).ravel()
    # An update takes the mean over its batch; this makes it that over all steps.
    weights = counts * counts.size / counts.sum()
    batch = Batch(transitions(chain), weights)
    visits = episodes(key_out, chain).sum(-1)
    return few_shot.repeated(batch, UPDATES), Fresh(visits, true_values(chain))


# ------------------------------------------------------------------------------ learner


class Learner(NamedTuple):
    """A way to hold values, and how fast it learns them.

    Attributes:
        network: Of one-hot states.
        step_sizes: Of the inner updates, from which each start takes its best.
        random: `random(key) -> params`, values that nothing has been learned of.
    """

    network: Any
    step_sizes: tuple[float, ...]
    random: Callable[[jax.Array], Any]


def _table() -> Learner:
    network = networks.linear(Linear(), 1)

    def random(key: jax.Array) -> PyTree:
        return {"w": SPREAD * jax.random.normal(key, (1, NUM_STATES))}

    return Learner(network, (1.0, 2.0, 4.0, 6.0), random)


def _mlp() -> Learner:
    network = networks.mlp(MLP(hidden=(32, 32), activation="tanh"), 1)

    def random(key: jax.Array) -> PyTree:
        return network.init(key, jnp.zeros(NUM_STATES))

    return Learner(network, (0.8, 1.6, 3.2, 6.4), random)


LEARNERS = {"table": _table, "MLP": _mlp}


def setting(
    learner: Learner,
    step_size: float | jax.Array,
    loss: Callable[[Network], losses.Loss] = losses.td,
) -> FewShot:
    """Chains, and an agent that learns their values.

    Args:
        learner: Holds the values.
        step_size: Of the inner updates.
        loss: The TD loss of a network.
    """
    agent: Agent = prediction(network=learner.network, loss=loss)
    config = Config(agent=Prediction(), optimizer=SGD())
    config.optimizer.learning_rate = step_size
    state = agent.init(prng.key(0), jnp.zeros(NUM_STATES), config)

    def value_error(state: State, fresh: Fresh) -> jax.Array:
        values = jax.vmap(lambda s: agent.value(state.params, s))(jnp.eye(NUM_STATES))
        square = jnp.square(values - fresh.values)
        return jnp.sum(fresh.visits * square) / jnp.sum(fresh.visits)

    posed = problem(agent.update, value_error, configure=lambda eta: config)
    return FewShot(sample, posed, state)


# -------------------------------------------------------------------------------- study


class Method(NamedTuple):
    """How a start is learned; `loss` is what the inner updates of learning descend."""

    estimator: Estimator
    loss: Callable[[Any], losses.Loss] = losses.td


METHODS = {
    "joint": Method(few_shot.joint()),
    "learned": Method(full(None)),
    "learned, stop inside": Method(full(None), losses.td_with_stop),
}


def learn(
    method: str, learner: Learner, step_size: PyTree, budget: Budget, key: jax.Array
) -> PyTree:
    """The start that a method learns from a random one.

    Args:
        method: One of `METHODS`.
        learner: Holds the values.
        step_size: Of the inner updates.
        budget: How long.
        key: PRNG key; equal ones begin at the same random start.
    """
    estimator, loss = METHODS[method]
    key_start, key_tasks = jax.random.split(key)
    begin, tasks = learner.random(key_start), setting(learner, step_size, loss)
    return few_shot.learn(tasks, estimator, begin, budget, key_tasks)[0]


class Result(NamedTuple):
    """Of one start: its step size, and errors after 0 to 5 updates `[tasks, 6]`."""

    params: Any
    step_size: float
    errors: np.ndarray


def measure(
    learner: Learner, budget: Budget, seed: int = 0, tasks: int = TEST_TASKS
) -> dict[str, Result]:
    """What each start is worth on fresh tasks, the same ones for all.

    Each is tested at the step size that is best for it after five updates, on a
    thousand other tasks. Starts are learned at the one that is best for the random one.

    Args:
        learner: Holds the values.
        budget: How long starts are learned.
        seed: Of everything.
        tasks: Fresh tasks.
    """
    key, key_choice, key_test = jax.random.split(prng.key(seed), 3)

    @functools.partial(jax.jit, static_argnums=2)
    def errors(
        params: Params, step_size: float, tasks: int, key: jax.Array
    ) -> jax.Array:
        return few_shot.evaluate(setting(learner, step_size), params, tasks, key)

    def test(params: Params) -> Result:
        ends = [
            errors(params, a, CHOICE_TASKS, key_choice)[:, -1].mean()
            for a in learner.step_sizes
        ]
        # A start from which updates diverge is not the best one.
        best = learner.step_sizes[int(np.argmin(np.nan_to_num(ends, nan=np.inf)))]
        return Result(params, best, np.asarray(errors(params, best, tasks, key_test)))

    found = {"random": test(learner.random(jax.random.split(key)[0]))}
    for name in METHODS:
        program = jax.jit(
            lambda step_size, name=name: learn(name, learner, step_size, budget, key)
        )
        found[name] = test(program(found["random"].step_size))
    return found
