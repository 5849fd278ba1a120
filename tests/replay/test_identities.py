"""What non-uniform sampling of one loss is in terms of uniform sampling of another.

In expectation over the enumerated memory: probabilities come from the memory's own
sums, gradients from a network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import config as configs
from rl_grads.agents.networks import make
from rl_grads.agents.schema import MLP
from rl_grads.gradients.clips import clipped_network
from rl_grads.gradients.schema import GraphClip
from rl_grads.replay import blocked_sums, buffer, memory
from rl_grads.replay.buffer import Experience
from rl_grads.td import losses
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config

pytestmark = pytest.mark.slow

COUNT = 500


def network():
    return make(Config(network=MLP(hidden=(16,), activation="tanh")), 1)


@pytest.fixture(scope="module")
def batch() -> Transition:
    """Transitions whose TD errors lie on both sides of one."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, COUNT, 4))
    flags = np.zeros(COUNT, bool)
    return Transition(
        s_tm1=jnp.asarray(obs[0], jnp.float32),
        a_tm1=jnp.zeros(COUNT, int),
        r_t=jnp.asarray(rng.normal(scale=2.0, size=COUNT), jnp.float32),
        s_t=jnp.asarray(obs[1], jnp.float32),
        terminated=flags,
        truncated=flags,
        discount_t=jnp.full(COUNT, 0.9),
        rho=jnp.ones(COUNT),
    )


@pytest.fixture(scope="module")
def params():
    return network().init(jax.random.key(0), jnp.ones(4))


def errors(params, batch) -> jax.Array:
    loss = losses.td(network())
    return jax.vmap(loss, (None, None, 0, None))(params, params, batch, None)[
        1
    ].td_error


def probabilities(td_errors: jax.Array, changes: dict) -> np.ndarray:
    """Of every transition in a memory that was filled and prioritised."""
    config = configs.replace(Config(), changes)
    size = buffer.sizes(COUNT, num_envs=COUNT, num_steps=1, time_limit=None)
    grid = (1, COUNT)
    new = Experience(
        s_tm1=jnp.zeros((*grid, 1)),
        a_tm1=jnp.zeros(grid, int),
        r_t=jnp.zeros(grid),
        s_t=jnp.zeros((*grid, 1)),
        terminated=jnp.zeros(grid, bool),
        truncated=jnp.zeros(grid, bool),
        rho=jnp.ones(grid),
    )
    obs = jnp.zeros((COUNT, 1))
    kept = memory.create(size, obs, jnp.float32, config)
    kept = memory.add(kept, size, jnp.int32(0), new, obs, config)
    slots = jnp.arange(COUNT)
    kept = memory.prioritise(kept, slots, Signals(td_errors), config)
    assert kept.priorities is not None
    tree = kept.priorities.tree
    return np.asarray(blocked_sums.get(tree, slots) / blocked_sums.total(tree))


def expected_gradient(loss, params, batch, weights) -> np.ndarray:
    """`sum_i weights_i * gradient_i` of the loss in all parameters."""
    one = jax.grad(lambda p, example: loss(p, params, example, None)[0])
    each = jax.jit(jax.vmap(one, (None, 0)))(params, batch)
    rows = [
        np.asarray(leaf, float).reshape(COUNT, -1) for leaf in jax.tree.leaves(each)
    ]
    return np.broadcast_to(weights, COUNT) @ np.concatenate(rows, 1)


def of_error(function):
    """A loss that is a function of the TD error of value prediction."""

    def loss(params, bootstrap_params, transition, config):
        error = losses.td(network())(params, bootstrap_params, transition, config)
        return function(error[1].td_error, transition)

    return loss


def assert_parallel(found: np.ndarray, wanted: np.ndarray) -> None:
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.4, 1.0])
def test_loss_adjusted_sampling_of_huber_is_uniform_sampling_of_pal(
    params, batch, exponent
):
    found = errors(params, batch)
    assert 0.2 < np.mean(np.abs(found) > 1) < 0.8
    drawn = probabilities(
        found, {"replay.priority": "loss_adjusted", "replay.exponent": exponent}
    )
    huber = losses.td(clipped_network(network(), GraphClip(max_abs=1.0)))
    lap = expected_gradient(huber, params, batch, drawn)
    pal = of_error(lambda e, t: losses.prioritised_approximation(e, t, exponent))
    uniform = expected_gradient(pal, params, batch, 1 / COUNT)
    constant = np.mean(np.maximum(np.abs(found) ** exponent, 1))
    assert_parallel(lap, uniform / constant)


def test_sampling_squares_by_the_error_is_uniform_sampling_of_cubes(params, batch):
    found = errors(params, batch)
    drawn = probabilities(
        found, {"replay.priority": "td_error", "replay.exponent": 1.0}
    )
    by_error = expected_gradient(losses.td(network()), params, batch, drawn)
    cube = of_error(lambda e, t: (jnp.abs(e) ** 3 / 3, Signals(e)))
    uniform = expected_gradient(cube, params, batch, 1 / COUNT)
    assert_parallel(by_error, uniform / np.mean(np.abs(found)))


def test_the_identities_can_fail(params, batch):
    found = errors(params, batch)
    drawn = probabilities(
        found, {"replay.priority": "loss_adjusted", "replay.exponent": 0.4}
    )
    squared = expected_gradient(losses.td(network()), params, batch, drawn)
    pal = of_error(lambda e, t: losses.prioritised_approximation(e, t, 0.4))
    uniform = expected_gradient(pal, params, batch, 1 / COUNT)
    with pytest.raises(AssertionError):
        assert_parallel(squared, uniform)


@pytest.mark.parametrize(
    ("error", "value", "slope"),
    [(-0.5, 0.125, -0.5), (0.0, 0.0, 0.0), (4.0, 16 / 3, 2.0), (-9.0, 18.0, -3.0)],
)
def test_pal_by_hand(batch, error, value, slope):
    one = jax.tree.map(lambda x: x[0], batch)

    def pal(e):
        return losses.prioritised_approximation(e, one, 0.5)[0]

    assert float(pal(error)) == pytest.approx(value, rel=1e-6)
    assert float(jax.grad(pal)(error)) == pytest.approx(slope, rel=1e-6)
