"""Update directions of one transition, on numbers that can be followed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.td import directions

TD_ERROR, PREDICTED, RHO = jnp.array(3.0), jnp.array(0.5), jnp.array(2.0)


@pytest.mark.parametrize(
    ("rule", "value", "bootstrap", "curvature"),
    [
        (directions.gtd2, 1.0, 1.0, 5.5),
        (directions.tdc, 6.0, 1.0, 5.5),
        (directions.tdrc, 6.0, 1.0, None),
    ],
)
def test_what_is_pulled_back(rule, value, bootstrap, curvature):
    assert rule(TD_ERROR, PREDICTED, RHO) == (value, bootstrap, curvature)


def test_the_ratio_weighs_the_td_error_of_the_secondary_weights_and_not_all():
    # 2 * 3 - 0.5; with the ratio before the bracket it would be 5.
    assert float(directions.secondary_error(TD_ERROR, PREDICTED, RHO)) == 5.5


def test_a_perfect_prediction_makes_gtd2_tdc_and_the_full_gradient_one():
    for rule in (directions.gtd2, directions.tdc, directions.tdrc):
        pulled = rule(TD_ERROR, TD_ERROR, jnp.array(1.0))
        assert (pulled.value, pulled.bootstrap) == (3.0, 3.0)


def followed(*steps):
    """Emphases along transitions `(rho, discount_t, ended)`."""
    trace, found = jnp.array(0.0), []
    for rho, discount_t, ended in steps:
        emphasis, trace = directions.follow_on(trace, rho, discount_t, ended)
        found.append(float(emphasis))
    return found


def test_the_follow_on_trace():
    # 1, 1 + 0.5 * 2 * 1, 1 + 0.5 * 1 * 2, 1 + 0.5 * 0 * 2
    steps = [(2.0, 0.5, False), (1.0, 0.5, False), (0.0, 0.5, False), (1.0, 0.5, False)]
    assert followed(*steps) == [1.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("discount_t", [0.0, 0.5], ids=["terminated", "truncated"])
def test_the_follow_on_trace_begins_anew_with_an_episode(discount_t):
    steps = [(2.0, 0.5, False), (2.0, discount_t, True), (2.0, 0.5, False)]
    assert followed(*steps) == [1.0, 2.0, 1.0]


def test_on_policy_without_discount_the_emphasis_counts_steps():
    assert followed(*[(1.0, 1.0, False)] * 4) == [1.0, 2.0, 3.0, 4.0]


def test_directions_are_elementwise():
    batch = jnp.array([3.0, -1.0])
    pulled = directions.tdc(batch, jnp.array([0.5, 2.0]), jnp.array([2.0, 0.0]))
    np.testing.assert_array_equal(jnp.stack(pulled), [[6, 0], [1, 0], [5.5, -2]])
    follow = directions.follow_on(batch, batch, batch, jnp.array([False, True]))
    np.testing.assert_array_equal(jnp.stack(follow), [[4, 0], [36, 0]])
