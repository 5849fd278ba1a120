"""Sinusoid regression (Finn et al. 2017, section 5.1): the standard few-shot task.

A task is `amplitude * sin(x - phase)` with an amplitude in [.1, 5] and a phase in
[0, pi]; the learner, a network 1-40-40-1, sees ten points with x in [-5, 5].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_grads import prng
from rl_grads.agents import networks
from rl_grads.agents.schema import MLP
from rl_grads.meta import few_shot
from rl_grads.meta.few_shot import Budget, FewShot, Sample, joint
from rl_grads.meta.inner import Batch, Descent, problem
from rl_grads.meta.unrolled import first_order, full, reptile
from rl_grads.typing import Params, PyTree, Section

AMPLITUDES, PHASES, INPUTS = (0.1, 5.0), (0.0, np.pi), (-5.0, 5.0)
SHOTS, QUERIES = 10, 100
STEP_SIZE = 0.01
NETWORK = networks.mlp(MLP(hidden=(40, 40), activation="relu"), 1)
REPTILE_UPDATES = 10  # One alone would be joint training.
TEST_TASKS, TEST_UPDATES = 600, 5


class Sinusoid(NamedTuple):
    """A task: amplitude and phase."""

    amplitude: jax.Array
    phase: jax.Array


class Points(NamedTuple):
    """Inputs and targets, `[N]` each."""

    x: jax.Array
    y: jax.Array


def draw_task(key: jax.Array) -> Sinusoid:
    """An amplitude and a phase, uniform in their intervals."""
    keys = jax.random.split(key)
    low, high = np.array([AMPLITUDES, PHASES]).T
    return Sinusoid(
        *(
            jax.random.uniform(k, minval=a, maxval=b)
            for k, a, b in zip(keys, low, high, strict=True)
        )
    )


def draw_points(key: jax.Array, task: Sinusoid, count: int) -> Points:
    """Points of a sinusoid at uniform inputs.

    Example:
        >>> points = draw_points(jax.random.key(0), Sinusoid(2.0, 0.5), 3)
        >>> bool(jnp.allclose(points.y, 2 * jnp.sin(points.x - 0.5)))
        True
    """
    x = jax.random.uniform(key, (count,), minval=INPUTS[0], maxval=INPUTS[1])
    return Points(x, task.amplitude * jnp.sin(x - task.phase))


def sample(updates: int, fresh: bool) -> Sample:
    """A sampler of tasks.

    Args:
        updates: Inner updates K.
        fresh: Each update has ten points of its own; else all see the same ten.
    """

    def draw(key: jax.Array) -> tuple[Batch, Points]:
        key_task, key_in, key_out = jax.random.split(key, 3)
        task = draw_task(key_task)
        if fresh:
            keys = jax.random.split(key_in, updates)
            seen = jax.vmap(lambda k: draw_points(k, task, SHOTS))(keys)
        else:
            seen = few_shot.repeated(draw_points(key_in, task, SHOTS), updates)
        return Batch(seen), draw_points(key_out, task, QUERIES)

    return draw


def mean_square(params: Params, points: Points, config: Section = None) -> jax.Array:
    """Mean squared error of the network."""
    found = jax.vmap(lambda x: NETWORK.apply(params, x[None])[0])(points.x)
    return jnp.mean(jnp.square(found - points.y))


def setting(sampler: Sample) -> FewShot:
    """The learner of the paper: gradient descent on the mean squared error."""
    descent = Descent(mean_square, optax.sgd)
    posed = problem(
        descent,
        lambda state, points: mean_square(state.params, points),
        configure=lambda eta: STEP_SIZE,
    )
    return FewShot(sampler, posed, descent.init(random_params(0), STEP_SIZE))


def random_params(seed: int | jax.Array) -> PyTree:
    """Parameters of a network that has learned nothing."""
    return NETWORK.init(prng.key(seed), jnp.zeros(1))


METHODS = {
    "MAML": (full(None), sample(1, fresh=False)),
    "FOMAML": (first_order(), sample(1, fresh=False)),
    "Reptile": (reptile(), sample(REPTILE_UPDATES, fresh=True)),
    "joint": (joint(), sample(1, fresh=False)),
}


def learn(method: str, budget: Budget, seed: int | jax.Array) -> PyTree:
    """The initial parameters that a method learns from those of `random_params`.

    Args:
        method: One of `METHODS`.
        budget: How long.
        seed: Of parameters and tasks.
    """
    estimator, sampler = METHODS[method]
    begin, key = random_params(seed), jax.random.fold_in(prng.key(seed), 1)
    return few_shot.learn(setting(sampler), estimator, begin, budget, key)[0]


def adapted_errors(params: Params, tasks: int = TEST_TASKS, seed: int = 0) -> jax.Array:
    """Mean squared errors after 0 .. 5 updates on ten points, `[tasks, 6]`.

    Args:
        params: Initial parameters.
        tasks: Fresh tasks; the same for equal seeds.
        seed: Not one of the training's.
    """
    key = jax.random.fold_in(prng.key(seed), 2)
    test = setting(sample(TEST_UPDATES, fresh=False))
    return few_shot.evaluate(test, params, tasks, key)
