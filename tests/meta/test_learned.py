"""Names to numbers of a config, and the bijectors under which they are learned."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import (
    ConfigError,
    Interval,
    at_least,
    non_negative,
    positive,
    real,
    unit,
)
from rl_grads.meta import learned
from rl_grads.meta.bijectors import bijector, edges, interior
from rl_grads.training.schema import Config


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (real, [-3.0, 0.0, 7.0]),
        (positive, [1e-4, 1.0, 300.0]),
        (non_negative, [1e-4, 1.0, 300.0]),
        (at_least(2), [2.5, 9.0]),
        (unit, [0.01, 0.5, 0.999]),
        (Interval(-1.0, 3.0), [-0.5, 1.0, 2.5]),
        (Interval(high=1.0), [-5.0, 0.5]),
        (None, [-1.0, 2.0]),
    ],
)
def test_there_and_back(domain, values):
    both = bijector(domain)
    for value in values:
        np.testing.assert_allclose(both.to_domain(both.to_real(value)), value, 1e-5)
    for far in (-30.0, 30.0):
        low, high = edges(domain)
        assert low <= float(both.to_domain(far)) <= high


def test_worked_values():
    assert float(bijector(positive).to_real(math.e)) == pytest.approx(1.0)
    assert float(bijector(unit).to_domain(0.0)) == 0.5
    # logit(0.9) = log 9
    assert float(bijector(unit).to_real(0.9)) == pytest.approx(math.log(9), rel=1e-6)
    # Value and direction: larger on the line is larger in the domain.
    assert float(bijector(Interval(high=1.0)).to_domain(0.0)) == 0.0
    for domain in (positive, unit, real, Interval(high=1.0)):
        assert float(jax.grad(bijector(domain).to_domain)(0.3)) > 0


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (unit, 1.0, 0.999999),
        (unit, 0.0, 1e-6),
        (unit, 0.5, 0.5),
        (non_negative, 0.0, 1e-6),
        (Interval(-2.0, 2.0, True, True), 2.0, 1.999996),
    ],
)
def test_the_nearest_value_inside(domain, value, expected):
    found = interior(domain, value)
    assert found == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(bijector(domain).to_real(np.float32(found)))


def test_values_and_insertion():
    config = Config()
    names = ("agent.discount", "optimizer.learning_rate", "initial_parameters")
    values = learned.values(config, names)
    assert values == {"agent.discount": 0.99, "optimizer.learning_rate": 1e-3}
    line = learned.to_real(config, values)
    assert float(line["agent.discount"]) == pytest.approx(math.log(99), rel=1e-5)
    back = learned.to_domain(config, line | {"initial_parameters": jnp.ones(2)})
    assert float(back["optimizer.learning_rate"]) == pytest.approx(1e-3)
    assert back["initial_parameters"].tolist() == [1.0, 1.0]
    made = learned.insert(config, {"agent.discount": 0.5, "initial_parameters": 1.0})
    assert made.agent.discount == 0.5
    assert config.agent.discount == 0.99


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "agent.discount",
            1.0,
            "agent.discount=1: expected a start inside a number in [0, 1] to learn it, "
            "off its edges; the nearest is 0.999999",
        ),
        ("optimizer.learning_rate", 0.0, "the nearest is 1e-06"),
        ("optimizer.b1", 0.0, "optimizer.b1=0: expected a start inside"),
    ],
)
def test_a_closed_edge_is_refused_with_the_nearest_inside(path, value, message):
    config = Config()
    section, _, name = path.partition(".")
    setattr(getattr(config, section), name, value)
    with pytest.raises(ConfigError) as caught:
        learned.check_edges(config, [path, "initial_parameters"])
    assert message in str(caught.value)


def test_inside_is_not_refused():
    learned.check_edges(Config(), ["agent.discount", "gradient.update.max_norm"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("agent.discount", "loss"),
        ("gradient.clip.max_abs", "loss"),
        ("optimizer.learning_rate", "update"),
        ("gradient.update.max_norm", "update"),
        ("initial_parameters", "initial_parameters"),
        ("replay.exponent", "sampling"),
        ("agent.behaviour_policy.epsilon", "sampling"),
    ],
)
def test_where_a_number_acts(name, kind):
    assert learned.where_it_acts(name) == kind
