"""TD losses: literal gradients, where the stop is, and outer derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import BehaviourPolicy, Prediction, QLearning
from rl_grads.td import losses
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config

# `params` are the weights themselves: `[outputs, features]`.
LINEAR = Network(
    init=lambda key, obs: jnp.zeros((1, obs.size)),
    apply=lambda params, obs: params @ obs,
)
CONTROL = (losses.q_learning, losses.double_q_learning, losses.expected_sarsa)


def transition(
    s_tm1, r_t, s_t, discount=1.0, *, a_tm1=0, terminated=False, rho=1.0, a_t=None
) -> Transition:
    terminated = jnp.asarray(terminated)
    return Transition(
        s_tm1=jnp.asarray(s_tm1),
        a_tm1=jnp.asarray(a_tm1),
        r_t=jnp.asarray(r_t),
        s_t=jnp.asarray(s_t),
        terminated=terminated,
        truncated=jnp.asarray(False),
        discount_t=discount * (1 - terminated),
        rho=jnp.asarray(rho),
        a_t=a_t,
    )


def changed(change):
    """TD(0) under a change of where its derivative stops."""
    return lambda network: change(losses.td(network))


def gradient(make, params, bootstrap_params, one, config=None, argnums=0):
    return jax.grad(make(LINEAR), argnums, has_aux=True)(
        params, bootstrap_params, one, config
    )


# ------------------------------------------------------------------------ prediction

THETA = jnp.array([[0.1, -0.1, 0.0]])
TUTORIAL = transition([1.0, 2.0, -1.0], 1.0, [2.0, 1.0, 0.0])


@pytest.mark.parametrize("make", [losses.td, losses.td_with_stop])
def test_the_tutorial_example(make):
    # delta = 1 + (0.2 - 0.1) - (0.1 - 0.2) = 1.2, loss = 0.5 * delta**2
    loss, signals = make(LINEAR)(THETA, THETA, TUTORIAL, None)
    np.testing.assert_allclose(signals.td_error, 1.2, rtol=1e-6)
    np.testing.assert_allclose(loss, 0.72, rtol=1e-6)
    slope, _ = gradient(make, THETA, THETA, TUTORIAL)
    # The update direction is delta * s; tutorials minimise delta**2, twice ours.
    np.testing.assert_allclose(-slope, [[1.2, 2.4, -1.2]], rtol=1e-6)
    np.testing.assert_allclose(2 * slope, [[-2.4, -4.8, 2.4]], rtol=1e-6)


def test_the_tutorial_example_without_a_stop():
    slope, _ = gradient(changed(losses.full), THETA, THETA, TUTORIAL)
    # 2 * delta * (s' - s) = 2.4 * (1, -1, 1)
    np.testing.assert_allclose(2 * slope, [[2.4, -2.4, 2.4]], rtol=1e-6)


def test_the_gradient_is_minus_delta_times_the_features():
    params, bootstrap = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 0.5]])
    one = transition([0.5, 1.0], 1.0, [1.0, 2.0], 0.5)
    # delta = 1 + 0.5 * 5 - 2.5 = 1
    slope, signals = gradient(losses.td, params, bootstrap, one)
    assert float(signals.td_error) == 1.0
    assert slope.tolist() == [[-0.5, -1.0]]


def test_the_bootstrap_is_a_path_of_its_own():
    params, bootstrap = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 0.5]])
    one = transition([0.5, 1.0], 1.0, [1.0, 2.0], 0.5)
    slope, _ = gradient(losses.td, params, bootstrap, one, argnums=1)
    assert slope.tolist() == [[0.5, 1.0]]  # delta * discount * s'
    stopped, _ = gradient(losses.td_with_stop, params, bootstrap, one, argnums=1)
    assert stopped.tolist() == [[0.0, 0.0]]


def test_the_next_state_has_no_part_in_the_derivative_in_params():
    # Only s' has the second feature, so its weight must not move.
    one = transition([1.0, 0.0], 1.0, [0.0, 1.0], 0.5)
    for make in (losses.td, losses.td_with_stop):
        slope, _ = gradient(make, THETA[:, :2], THETA[:, :2], one)
        assert slope[0, 0] != 0.0
        assert slope[0, 1] == 0.0


def test_a_termination_does_not_bootstrap_and_a_truncation_does():
    params = jnp.array([[1.0, 8.0]])
    s_tm1, s_t = [1.0, 0.0], [0.0, 1.0]
    ended = transition(s_tm1, 2.0, s_t, 0.5, terminated=True)
    cut = transition(s_tm1, 2.0, s_t, 0.5)._replace(truncated=jnp.asarray(True))
    _, signals = losses.td(LINEAR)(params, params, ended, None)
    assert float(signals.td_error) == 1.0  # 2 - 1
    _, signals = losses.td(LINEAR)(params, params, cut, None)
    assert float(signals.td_error) == 5.0  # 2 + 0.5 * 8 - 1


@pytest.mark.parametrize("make", [losses.td, losses.td_with_stop])
def test_rho_weighs_the_loss_and_not_the_error(make):
    params = jnp.array([[1.0, 2.0]])
    one = transition([1.0, 0.0], 3.0, [0.0, 1.0], 0.5, rho=0.25)
    loss, signals = make(LINEAR)(params, params, one, None)
    assert float(signals.td_error) == 3.0  # 3 + 1 - 1
    assert float(loss) == 1.125  # 0.25 * 0.5 * 9
    slope, _ = gradient(make, params, params, one)
    assert slope.tolist() == [[-0.75, 0.0]]


@pytest.mark.parametrize("make", [losses.td, changed(losses.semi)])
def test_semi_is_the_loss_itself(make):
    slope, _ = gradient(make, THETA, THETA, TUTORIAL)
    np.testing.assert_allclose(2 * slope, [[-2.4, -4.8, 2.4]], rtol=1e-6)


@pytest.mark.parametrize("phi", [0.0, 0.25, 1.0])
def test_interpolate_takes_a_share_of_the_second_path(phi):
    config = Config(agent=Prediction(interpolation=phi))
    one = transition([0.5, 1.0], 1.0, [1.0, 2.0], 0.5, rho=2.0)
    params = jnp.array([[1.0, 2.0]])  # delta = 1 + 2.5 - 2.5
    made = changed(losses.interpolate)
    slope, signals = gradient(made, params, params, one, config)
    assert float(signals.td_error) == 1.0
    assert slope.tolist() == [[2 * (0.5 * phi - 0.5), 2 * (phi - 1.0)]]


def test_interpolate_lies_between_target_and_online_network():
    config = Config(agent=Prediction(interpolation=0.25))
    params, target = jnp.array([[4.0]]), jnp.array([[8.0]])
    one = transition([1.0], 0.0, [1.0], 1.0)
    _, signals = gradient(changed(losses.interpolate), params, target, one, config)
    assert float(signals.td_error) == 3.0  # 7 - 4


# Two outcomes of one state: reward, next features, ratio, probability.
OUTCOMES = [(1.0, [0.0, 1.0], 0.5, 0.75), (3.0, [1.0, 0.0], 2.5, 0.25)]


def test_residual_is_unbiased_for_the_squared_bellman_error():
    params, s_tm1 = jnp.array([[1.0, -2.0]]), [1.0, 0.5]
    draws = [(transition(s_tm1, r, s, 0.5, rho=rho), p) for r, s, rho, p in OUTCOMES]

    def half_squared(params):
        both = [
            p * one.rho * losses.td(LINEAR)(params, params, one, None)[1].td_error
            for one, p in draws
        ]
        return 0.5 * sum(both) ** 2

    total, slope = 0.0, jnp.zeros((1, 2))
    for one, p in draws:
        for other, p_other in draws:
            both = one._replace(
                r_t_alt=other.r_t,
                s_t_alt=other.s_t,
                discount_t_alt=other.discount_t,
                rho_alt=other.rho,
            )
            made = losses.residual(losses.td(LINEAR))
            (loss, signals), found = jax.value_and_grad(made, has_aux=True)(
                params, params, both, None
            )
            plain = losses.td(LINEAR)(params, params, one, None)[1]
            assert float(signals.td_error) == float(plain.td_error)
            total += p * p_other * loss
            slope += p * p_other * found
    np.testing.assert_allclose(total, half_squared(params), rtol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(half_squared)(params), rtol=1e-6)


def test_residual_wants_a_second_draw():
    with pytest.raises(ValueError, match=r"second draw, got r_t_alt=None"):
        gradient(changed(losses.residual), THETA, THETA, TUTORIAL)


def test_squared_gives_signals():
    loss, signals = losses.squared(jnp.array(3.0), TUTORIAL)
    assert float(loss) == 4.5
    assert signals == Signals(td_error=signals.td_error, extra={}, gradient_norm=None)


# --------------------------------------------------------------------------- control

W = jnp.array([[1.0, 0.0], [0.0, 2.0]])  # q(s) = (s_0, 2 s_1)
BOOTSTRAP = jnp.array([[2.0, 0.0], [0.0, 0.5]])  # q(s) = (2 s_0, s_1 / 2)
STEP = transition([1.0, 1.0], 1.0, [1.0, 1.0], 0.5, a_tm1=1)


def control(name: str = "epsilon_greedy", **numbers: float) -> Config:
    return Config(agent=QLearning(behaviour_policy=BehaviourPolicy(name, **numbers)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (losses.q_learning, 0.0),  # 1 + 0.5 * max(2, 0.5) - 2
        (losses.double_q_learning, -0.75),  # W selects 1: 1 + 0.5 * 0.5 - 2
        (losses.expected_sarsa, -0.1875),  # 1 + 0.5 * (0.75 * 2 + 0.25 * 0.5) - 2
    ],
)
def test_action_values(make, expected):
    config = control(epsilon=0.5)
    slope, signals = gradient(make, W, BOOTSTRAP, STEP, config)
    assert float(signals.td_error) == expected
    assert slope.tolist() == [[0.0, 0.0], [-expected, -expected]]


@pytest.mark.parametrize(("a_t", "expected"), [(0, 0.0), (1, -0.75)])
def test_sarsa_bootstraps_on_the_next_action(a_t, expected):
    one = STEP._replace(a_t=jnp.asarray(a_t))
    slope, signals = gradient(losses.sarsa, W, BOOTSTRAP, one)
    assert float(signals.td_error) == expected
    assert slope.tolist() == [[0.0, 0.0], [-expected, -expected]]


def test_sarsa_wants_a_next_action():
    with pytest.raises(ValueError, match="expected transitions with a_t"):
        losses.sarsa(LINEAR)(W, W, STEP, None)


def test_double_q_learning_is_q_learning_when_both_networks_agree():
    one, other = losses.q_learning(LINEAR), losses.double_q_learning(LINEAR)
    for params in (W, BOOTSTRAP):
        step = STEP._replace(r_t=jnp.array(3.0))
        first, second = (f(params, params, step, None)[0] for f in (one, other))
        assert float(first) > 0.0
        assert float(first) == float(second)


@pytest.mark.parametrize("name", ["epsilon_greedy", "softmax", "uniform"])
def test_expected_sarsa_is_the_expectation_of_sarsa(name):
    config = control(name, epsilon=0.3, temperature=0.7)
    one = transition([1.0, -1.0], 1.0, [0.5, 2.0], 0.5, a_tm1=0)
    _, expected = losses.expected_sarsa(LINEAR)(W, BOOTSTRAP, one, config)
    q_t = LINEAR.apply(BOOTSTRAP, one.s_t)
    p = losses.policies.probabilities(q_t, config.agent.behaviour_policy)
    each = [
        losses.sarsa(LINEAR)(W, BOOTSTRAP, one._replace(a_t=a), None)[1].td_error
        for a in range(2)
    ]
    mean = float(p[0] * each[0] + p[1] * each[1])
    np.testing.assert_allclose(expected.td_error, mean, rtol=1e-6)


@pytest.mark.parametrize("make", CONTROL)
def test_control_does_not_bootstrap_on_a_termination(make):
    one = transition([1.0, 1.0], 1.0, [9.0, 9.0], 0.5, a_tm1=1, terminated=True)
    _, signals = make(LINEAR)(W, BOOTSTRAP, one, control())
    assert float(signals.td_error) == -1.0  # 1 - 2


@pytest.mark.parametrize("make", CONTROL)
def test_control_weighs_with_rho(make):
    config = control(epsilon=0.5)
    plain, _ = make(LINEAR)(W, BOOTSTRAP, STEP, config)
    halved, _ = make(LINEAR)(W, BOOTSTRAP, STEP._replace(rho=jnp.array(0.5)), config)
    assert float(halved) == 0.5 * float(plain)


# ----------------------------------------------------------------- outer derivatives


class _Tanh(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(4, param_dtype=x.dtype)(x))
        return nn.Dense(self.outputs, param_dtype=x.dtype)(x)


def _outer(make, outputs: int, config=None):
    """A number that depends on five updates at a discount, bootstrapping online."""
    network = _Tanh(outputs)
    s = jax.random.normal(jax.random.key(0), (6, 3))
    start = network.init(jax.random.key(1), s[0])
    loss = make(network)

    def outer(discount, numbers=config):
        params = start
        for k in range(5):
            one = transition(s[k], 1.0, s[k + 1], discount, a_tm1=k % outputs)
            slope = jax.grad(loss, has_aux=True)(params, params, one, numbers)[0]
            params = jax.tree.map(lambda p, g: p - 0.3 * g, params, slope)
        return network.apply(params, s[0])[0]

    return outer


def _difference(fun, x: float, step: float = 1e-5) -> float:
    return float((fun(x + step) - fun(x - step)) / (2 * step))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "outputs"), [(losses.td, 1), (losses.q_learning, 2)])
def test_the_outer_derivative_is_that_of_finite_differences(make, outputs):
    with jax.enable_x64(True):
        outer = jax.jit(_outer(make, outputs))
        slope = float(jax.grad(outer)(0.9))
        assert abs(slope) > 0.01
        np.testing.assert_allclose(slope, _difference(outer, 0.9), rtol=1e-7)


@pytest.mark.slow
def test_the_stop_inside_the_loss_gives_the_same_updates():
    with jax.enable_x64(True):
        values = [_outer(m, 1)(0.9) for m in (losses.td, losses.td_with_stop)]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


def test_the_stop_inside_the_loss_hides_the_discount_from_an_outer_derivative():
    with jax.enable_x64(True):
        outer = jax.jit(_outer(losses.td_with_stop, 1))
        assert float(jax.grad(outer)(0.9)) == 0.0
        assert abs(_difference(outer, 0.9)) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epsilon_greedy", "softmax"])
def test_expected_sarsa_is_differentiable_in_its_policy(name):
    with jax.enable_x64(True):
        outer = _outer(losses.expected_sarsa, 2)

        def of_policy(x):
            return outer(0.9, control(name, epsilon=x, temperature=x))

        slope = float(jax.jit(jax.grad(of_policy))(0.4))
        assert abs(slope) > 1e-4
        difference = _difference(jax.jit(of_policy), 0.4)
        np.testing.assert_allclose(slope, difference, rtol=1e-6)
