"""Learning one step size per weight, on the 1992 tracking task and on a noisy walk.

Least mean squares and TD(0) with one fixed step size, IDBD and TIDBD, and the general
mechanism (`rl_grads.meta`): the agent's own update, with the step size of each weight
learned by the full forward derivative. All see the same transitions.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import config as configs
from rl_grads import prng
from rl_grads.agents import networks
from rl_grads.agents.pages.prediction import prediction
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.gradients.schema import SGD
from rl_grads.meta import learned
from rl_grads.meta.estimate import Task
from rl_grads.meta.forward import forward
from rl_grads.meta.inner import Batch, Problem, problem
from rl_grads.td import tidbd
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config
from rl_grads.typing import PyTree, State

STEPS, WINDOW = 30_000, 10_000  # All steps, and the last ones, that are measured.
RELEVANT, IRRELEVANT = 5, 15
PERIOD = 20  # Examples from one change of sign to the next.
NUM_STATES, NOISE = 19, 20

_RATE = "optimizer.learning_rate"


# -------------------------------------------------------------------------- transitions


def tracking(key: jax.Array, steps: int = STEPS) -> Transition:
    """The non-stationary regression of Sutton (1992), as transitions of discount 0.

    Inputs are 20 standard normal numbers. The target, `r_t`, is the sum of the first
    five with signs; every 20 examples one of the signs, drawn anew, is reversed.

    Args:
        key: PRNG key.
        steps: Examples T.

    Returns:
        Transitions `[T, ...]`.
    """
    key_inputs, key_which = jax.random.split(key)
    inputs = jax.random.normal(key_inputs, (steps, RELEVANT + IRRELEVANT))
    flips = -(-steps // PERIOD)
    which = jax.random.randint(key_which, (flips,), 0, RELEVANT)
    signs = jnp.cumprod(1 - 2 * jax.nn.one_hot(which, RELEVANT), axis=0)
    signs = jnp.repeat(signs, PERIOD, axis=0)[:steps]
    target = jnp.sum(signs * inputs[:, :RELEVANT], -1)
    return _transitions(inputs, target, inputs, jnp.ones(steps, bool))


def noisy_walk(key: jax.Array, steps: int = STEPS) -> Transition:
    """The 19-state random walk, seen with 20 further inputs that say nothing.

    Rewards are -1 at the left end and 1 at the right one. Inputs are a one-hot state
    and standard normal numbers, new at each step; those of `s_t` are the next `s_tm1`.

    Args:
        key: PRNG key.
        steps: Steps T, over episodes that begin in the centre.

    Returns:
        Transitions `[T, ...]`.
    """
    key_walk, key_noise = jax.random.split(key)
    right = jax.random.bernoulli(key_walk, 0.5, (steps,))
    centre = NUM_STATES // 2

    def step(state: jax.Array, right: jax.Array) -> tuple[jax.Array, PyTree]:
        after = state + jnp.where(right, 1, -1)
        ended = (after < 0) | (after == NUM_STATES)
        reward = jnp.where(ended, jnp.where(right, 1.0, -1.0), 0.0)
        return jnp.where(ended, centre, after), (state, after, reward, ended)

    _, (before, after, reward, ended) = jax.lax.scan(step, jnp.int32(centre), right)
    noise = jax.random.normal(key_noise, (steps + 1, NOISE))
    one_hot = partial(jax.nn.one_hot, num_classes=NUM_STATES)
    return _transitions(
        jnp.concatenate([one_hot(before), noise[:-1]], -1),
        reward,
        jnp.concatenate([one_hot(after), noise[1:]], -1),
        ended,
    )


def _transitions(
    s_tm1: jax.Array, r_t: jax.Array, s_t: jax.Array, terminated: jax.Array
) -> Transition:
    steps = r_t.shape
    return Transition(
        s_tm1=s_tm1,
        a_tm1=jnp.zeros(steps, jnp.int32),
        r_t=r_t,
        s_t=s_t,
        terminated=terminated,
        truncated=jnp.zeros(steps, bool),
        discount_t=1.0 - terminated,
        rho=jnp.ones(steps),
    )


# ------------------------------------------------------------------------------ methods


class Setting(NamedTuple):
    """Numbers of a method.

    Attributes:
        step_size: Of all weights, to begin with.
        meta_step: theta; 0 keeps the step sizes.
        trace_decay: lambda (`tidbd` alone).
    """

    step_size: Any
    meta_step: Any = 0.0
    trace_decay: Any = 0.0


# `error(square, weights) -> scalar`: of the squared TD error of a step, and of the
# weights before its update.
Error = Callable[[jax.Array, jax.Array], jax.Array]


class Course(NamedTuple):
    """What learning leaves behind.

    Attributes:
        errors: Of each step, `[T]`.
        step_sizes: At the end, `[d]`.
    """

    errors: jax.Array
    step_sizes: jax.Array


def by_tidbd(transitions: Transition, setting: Setting, error: Error) -> Course:
    """Learn from transitions in order by TIDBD.

    Args:
        transitions: `[T, ...]`, with observations `[T, d]`.
        setting: Numbers.
        error: What is reported.
    """
    numbers = tidbd.Settings(setting.meta_step, setting.trace_decay)

    def step(carry: State, transition: Transition) -> tuple[PyTree, PyTree]:
        params, state = carry
        new = tidbd.tidbd(jnp.dot, state, params, transition, numbers)
        return (new.params, new.state), error(jnp.square(new.td_error), params)

    begin = jnp.zeros(transitions.s_tm1.shape[1:])
    carry = (begin, tidbd.start(begin, setting.step_size))
    (_, state), errors = jax.lax.scan(step, carry, transitions)
    return Course(errors, jnp.exp(state.log_step))


class _Learning(NamedTuple):
    real: learned.Learned
    state: Any
    trace: Any
    last: Transition


def by_meta_gradient(transitions: Transition, setting: Setting, error: Error) -> Course:
    """Learn by the agent's own updates, their step sizes by the forward derivative.

    After each update the outer loss is that of the next transition, its bootstrap held
    constant. It differs from TIDBD in that a step size knows what it does to *all*
    weights; where inputs are one-hot and the discount is 0 there is no difference.

    Args:
        transitions: `[T, ...]`, with observations `[T, d]`.
        setting: Numbers; there is no lambda.
        error: What is reported, `[T - 1]`: the first transition has no outer loss.
    """
    config = Config(agent=Prediction(), optimizer=SGD())
    posed, state = _agent(config, transitions.s_tm1[0])
    estimator, size = forward(), transitions.s_tm1.shape[-1]
    rates = {_RATE: (jnp.asarray(setting.step_size),) * size}
    real = learned.to_real(config, rates)

    def step(learning: _Learning, now: Transition) -> tuple[_Learning, PyTree]:
        batch = Batch(jax.tree.map(lambda x: x[None, None], learning.last))
        task = Task(learning.real, learning.state, batch, now)
        found = estimator.estimate(posed, task, learning.trace)
        real = jax.tree.map(
            lambda y, g: y - setting.meta_step * g, learning.real, found.gradient
        )
        after = _Learning(real, found.state, found.memory, now)
        return after, error(2 * found.loss, found.state.params["w"][0])

    first = jax.tree.map(lambda x: x[0], transitions)
    rest = jax.tree.map(lambda x: x[1:], transitions)
    begin = _Learning(real, state, estimator.init(real, state), first)
    end, errors = jax.lax.scan(step, begin, rest)
    rates = learned.to_domain(config, end.real)[_RATE]
    return Course(errors, jnp.stack(rates))


def _agent(config: Config, obs: jax.Array) -> tuple[Problem, PyTree]:
    """The inner loop of a linear prediction agent, and its first state."""
    agent = prediction(network=networks.linear(Linear(), 1))

    def outer_loss(state: State, now: Transition) -> jax.Array:
        bootstrap = jax.lax.stop_gradient(state.params)
        return agent.loss(state.params, bootstrap, now, config)[0]

    def configure(real: Mapping[str, PyTree]) -> PyTree:
        rates = learned.to_domain(config, real)[_RATE]
        return configs.replace(config, {_RATE: jnp.stack(rates)})

    posed = problem(agent.update, outer_loss, configure)
    return posed, agent.init(prng.key(0), obs, config)


# ----------------------------------------------------------------------------- measures


def _value_error(square: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean squared error of the 19 values, over states alike."""
    true = jnp.linspace(-0.9, 0.9, NUM_STATES)
    return jnp.mean(jnp.square(weights[:NUM_STATES] - true))


class Study(NamedTuple):
    """What is learned: `draw(key) -> transitions`, and the error that counts."""

    draw: Callable[[jax.Array], Transition]
    error: Error


TRACKING = Study(tracking, lambda square, weights: square)
WALK = Study(noisy_walk, _value_error)


class Outcome(NamedTuple):
    """Of each setting and seed.

    Attributes:
        error: Mean over the last steps, `[K, seeds]`.
        step_sizes: At the end, `[K, seeds, d]`.
    """

    error: jax.Array
    step_sizes: jax.Array


def measure(
    study: Study, method: Callable[..., Course], setting: Setting, seeds: int
) -> Outcome:
    """Run a method on transitions of several seeds, in one program.

    Args:
        study: `TRACKING` or `WALK`.
        method: `by_tidbd` or `by_meta_gradient`.
        setting: Numbers, `[K]` each.
        seeds: How many, from 0 on; equal seeds see equal transitions.

    Example:
        >>> rates = Setting(*jnp.array([[0.03, 0.04], [0.0, 0.0], [0.0, 0.0]]))
        >>> found = measure(TRACKING, by_tidbd, rates, 20)         # doctest: +SKIP
        >>> found.error.shape                                      # doctest: +SKIP
        (2, 20)
    """

    def run(setting: Setting, seed: jax.Array) -> Outcome:
        course = method(study.draw(prng.key(seed)), setting, study.error)
        return Outcome(jnp.mean(course.errors[-WINDOW:]), course.step_sizes)

    program = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))
    return program(setting, jnp.arange(seeds))
