"""Errors of values against a chain's exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import MLP, Linear, Prediction
from rl_grads.envs import chain_answers
from rl_grads.envs.chain import make as make_chain
from rl_grads.gradients.schema import SGD
from rl_grads.training import evaluation, loop
from rl_grads.training.engine import make_agent
from rl_grads.training.member import Parts


def parts_of(name, network, discount):
    config = rg.Config(agent=Prediction(discount=discount), network=network)
    environment = make_chain(name)
    return Parts(make_agent(config, environment), environment, None, config)


def measured(measure, parts, params):
    return float(jax.jit(lambda params: measure(parts, params))(params))


@pytest.mark.parametrize("name", ["random_walk_19", "baird", "boyan", "two_state"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_errors_of_linear_values_are_those_of_the_closed_forms(name, precision):
    with jax.enable_x64(precision == "float64"):
        parts = parts_of(name, Linear(), discount=0.9)
        chain = parts.environment.exact
        size = chain.features.shape[1]
        w = np.random.default_rng(0).normal(size=size).astype(precision)
        found = [
            measured(measure, parts, {"w": jnp.asarray(w)[None]})
            for measure in (evaluation.value_error, evaluation.projected_error)
        ]
    expected = [f(chain, w, 0.9) for f in (chain_answers.rmsve, chain_answers.rmspbe)]
    rtol = 1e-9 if precision == "float64" else 1e-4
    np.testing.assert_allclose(found, expected, rtol=rtol)


def test_the_projected_error_vanishes_at_the_fixed_point_of_td():
    with jax.enable_x64(True):
        parts = parts_of("thousand_state", Linear(), discount=1.0)
        w = jnp.asarray(parts.environment.exact.td_fixed_point)
        assert measured(evaluation.projected_error, parts, {"w": w[None]}) < 1e-9


def test_a_network_that_fits_every_state_projects_nothing_away():
    with jax.enable_x64(True):
        parts = parts_of("random_walk", MLP((8,), "tanh"), discount=0.9)
        chain = parts.environment.exact
        params = parts.agent.init(jax.random.key(0), jnp.ones(5), parts.config).params
        values = np.array([parts.agent.value(params, x) for x in chain.features])
        values[chain.terminal] = 0.0
        transition, reward = chain_answers.target_model(chain)
        bellman = reward + 0.9 * transition @ values - values
        expected = np.sqrt(chain.distribution @ bellman**2)
        found = measured(evaluation.projected_error, parts, params)
        assert found == pytest.approx(expected, rel=1e-9)


def test_members_solve_for_their_values_one_at_a_time():
    # A batch of them has hung on several CPU devices.
    def error(discount, w):
        parts = parts_of("random_walk_19", Linear(), discount)
        return evaluation.value_error(parts, {"w": w[None]})

    discounts, w = jnp.array([0.5, 0.9, 1.0]), jnp.linspace(0, 1, 19)
    program = jax.jit(jax.vmap(error, (0, None))).lower(discounts, w)
    found = program.compile()(discounts, w)
    chain = make_chain("random_walk_19").exact
    expected = [chain_answers.rmsve(chain, w, float(d)) for d in discounts]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    calls = [line for line in program.as_text().splitlines() if "lapack_strsm" in line]
    assert calls and not any("tensor<3x" in line for line in calls)


def metrics_of(parts):
    key = jax.random.key(0)
    member = jax.eval_shape(lambda: loop.init(parts, key))
    return set(
        jax.eval_shape(lambda m: evaluation.evaluate(parts, m, jnp.int32(0)), member)
    )


def test_what_is_measured_where(monkeypatch):
    parts = parts_of("random_walk", Linear(), discount=1.0)
    parts.config.replay = None
    assert metrics_of(parts) == {"evaluation/rmsve", "evaluation/rmspbe"}
    monkeypatch.setattr(evaluation, "_LARGEST_JACOBIAN", 34)  # 7 states, 5 weights.
    assert metrics_of(parts) == {"evaluation/rmsve"}
    unknown = parts.environment._replace(exact=None)
    assert metrics_of(parts._replace(environment=unknown)) == set()


def test_the_average_is_evaluated_and_training_does_not_know():
    base = rg.replace(
        rg.Config(
            agent=Prediction(),
            network=Linear(initial_value=0.5),
            optimizer=SGD(learning_rate=0.1),
            replay=None,
        ),
        {
            "env.id": "chain/random_walk",
            "training.total_steps": 60,
            "evaluation.interval": 20,
            "tracking.interval": 20,
        },
    )
    sweep = {"evaluation.average_window": [0.0, 0.5]}  # The last iterate; about half.
    plain = rg.train(members=rg.population(base, [0]))
    both = rg.train(members=rg.population(base, [0], sweep))
    (last,), (first, second) = plain.params, both.params
    np.testing.assert_array_equal(first["w"], last["w"])
    assert np.abs(second["w"] - last["w"]).max() > 0.01
    losses = both.metrics["loss/td_error_abs"]
    np.testing.assert_array_equal(losses[0], losses[1])
    errors = both.metrics["evaluation/rmsve"]
    np.testing.assert_allclose(errors[0], plain.metrics["evaluation/rmsve"][0])
    of_iterate = both.metrics["evaluation/rmsve_iterate"]
    np.testing.assert_allclose(of_iterate, np.stack([errors[0]] * 2))
    assert "evaluation/rmsve_iterate" not in plain.metrics
    # By hand: true values 1/6 .. 5/6, states visited as 1 : 2 : 3 : 2 : 1.
    true = np.arange(1, 6) / 6
    off = np.square(second["w"].ravel() - true)
    weights = np.array([1, 2, 3, 2, 1]) / 9
    np.testing.assert_allclose(errors[1, -1], np.sqrt(weights @ off), rtol=1e-5)
