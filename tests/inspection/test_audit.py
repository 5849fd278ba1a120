"""The audit shows where a gradient flows, and catches a target that leaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, Prediction, QLearning
from rl_grads.inspection.audit import Flow, assert_no_gradient, audit, groups
from rl_grads.td import losses, td_error
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.schema import Config

KEYS = jax.random.split(jax.random.key(0), 3)
NONE = Flow(0.0, path=False)


class Linear:
    """`params["w"] @ s`."""

    @staticmethod
    def apply(params, obs):
        return params["w"] @ obs


def one(s_tm1, r_t, s_t, discount_t=1.0, **rest):
    """A batch of one transition."""
    return Transition(
        s_tm1=jnp.array([s_tm1]),
        a_tm1=jnp.zeros(1, jnp.int32),
        r_t=jnp.array([r_t]),
        s_t=jnp.array([s_t]),
        terminated=jnp.zeros(1, bool),
        truncated=jnp.zeros(1, bool),
        discount_t=jnp.full(1, discount_t),
        rho=jnp.ones(1),
        **rest,
    )


TUTORIAL = one([1.0, 2.0, -1.0], 1.0, [2.0, 1.0, 0.0])
PARAMS = {"w": jnp.array([[0.1, -0.1, 0.0]])}


def leaking(network):
    """A loss that takes its target from the parameters that learn, unstopped."""

    def loss(params, bootstrap_params, transition, config):
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(params, transition.s_t)[0]
        error = td_error(v_tm1, transition.r_t, transition.discount_t, v_t)
        return 0.5 * error**2, Signals(error)

    return loss


def norms(table):
    return {
        term: {g: flow.norm for g, flow in row.items()} for term, row in table.items()
    }


def test_by_hand():
    # The error is 1.2: -1.2 (1, 2, -1) through v(s_tm1), 1.2 (2, 1, 0) through v(s_t).
    found = audit(losses.td(Linear), PARAMS, PARAMS, TUTORIAL, None)
    prediction, bootstrap = 1.2 * 6**0.5, 1.2 * 5**0.5
    assert found.update["bootstrap"]["w"] == found.held["prediction"]["w"] == NONE
    assert found.update.keys() == {"prediction", "bootstrap", "loss"}
    for flow, norm in (
        (found.update["prediction"]["w"], prediction),
        (found.update["loss"]["w"], prediction),
        (found.held["bootstrap"]["w"], bootstrap),
        (found.held["loss"]["w"], bootstrap),
    ):
        np.testing.assert_allclose(flow.norm, norm, rtol=1e-6)
        assert flow.path
    assert found.leaks == {}
    assert str(NONE) == "-"
    assert str(found.update["loss"]["w"]) == "2.94"


def test_a_stop_in_the_loss_gives_the_same_update():
    plain = audit(losses.td(Linear), PARAMS, PARAMS, TUTORIAL, None)
    stopped = audit(losses.td_with_stop(Linear), PARAMS, PARAMS, TUTORIAL, None)
    assert stopped.update == plain.update
    assert {flow for row in stopped.held.values() for flow in row.values()} == {NONE}


@pytest.mark.parametrize("make", [leaking, lambda net: losses.full(losses.td(net))])
def test_a_target_network_that_leaks_is_caught(make):
    target = {"w": jnp.array([[5.0, 5.0, 5.0]])}
    found = audit(make(Linear), PARAMS, target, TUTORIAL, None)
    assert found.leaks.keys() == {"w"}
    np.testing.assert_allclose(found.leaks["w"].norm, 1.2 * 5**0.5, rtol=1e-6)
    assert {flow for row in found.held.values() for flow in row.values()} == {NONE}
    # (1.2 (2, 1, 0) - 1.2 (1, 2, -1)) has the norm 1.2 sqrt(3).
    np.testing.assert_allclose(found.update["loss"]["w"].norm, 1.2 * 3**0.5, rtol=1e-6)


def test_interpolation_has_its_share_of_the_second_path():
    config = Config(agent=Prediction(td_gradient="interpolate", interpolation=0.25))
    loss = losses.interpolate(losses.td(Linear))
    found = audit(loss, PARAMS, PARAMS, TUTORIAL, config)
    shares = (found.update["bootstrap"]["w"].norm, found.held["bootstrap"]["w"].norm)
    np.testing.assert_allclose(
        shares, [0.25 * 1.2 * 5**0.5, 0.75 * 1.2 * 5**0.5], rtol=1e-6
    )


def test_double_sampling_has_a_second_bootstrap():
    batch = one(
        [1.0, 2.0, -1.0],
        1.0,
        [2.0, 1.0, 0.0],
        r_t_alt=jnp.array([0.0]),
        s_t_alt=jnp.array([[0.0, 1.0, 0.0]]),
        discount_t_alt=jnp.ones(1),
        rho_alt=jnp.ones(1),
    )
    found = audit(losses.residual(losses.td(Linear)), PARAMS, PARAMS, batch, None)
    # Errors 1.2 and 0.0 + -0.1 + 0.1 = 0: half of 1.2 along s_t_alt, nothing along s_t.
    np.testing.assert_allclose(
        found.update["second bootstrap"]["w"].norm, 0.6, rtol=1e-5
    )
    assert found.update["bootstrap"]["w"].path
    np.testing.assert_allclose(found.update["bootstrap"]["w"].norm, 0.0, atol=1e-6)


def test_a_penalty_is_a_term_of_its_own():
    def penalised(params, bootstrap_params, transition, config):
        loss, signals = losses.td(Linear)(params, bootstrap_params, transition, config)
        return loss + jnp.sum(params["w"] ** 2), signals

    found = audit(penalised, PARAMS, PARAMS, TUTORIAL, None)
    np.testing.assert_allclose(
        found.update["no state"]["w"].norm, 2 * 0.02**0.5, rtol=1e-5
    )
    assert found.held["no state"]["w"] == NONE


def test_a_zero_by_chance_is_no_missing_path():
    still = one([1.0, 2.0, -1.0], -0.2, [2.0, 1.0, 0.0])  # The error is -0.2 + 0.2.
    found = audit(losses.td(Linear), {"w": jnp.zeros((1, 3))}, PARAMS, still, None)
    assert found.update["prediction"]["w"].path
    terminal = one([1.0, 2.0, -1.0], 1.0, [2.0, 1.0, 0.0], discount_t=0.0)
    found = audit(losses.td(Linear), PARAMS, PARAMS, terminal, None)
    assert found.held["bootstrap"]["w"] == Flow(0.0, path=True)


def test_groups_of_a_network_and_a_selection_without_gradient():
    config = Config(agent=QLearning(), network=MLP(hidden=(4,), activation="tanh"))
    network = networks.make(config, 2)
    params, target = (network.init(key, jnp.ones(3)) for key in KEYS[:2])
    rows = jax.random.normal(KEYS[2], (2, 5, 3))
    batch = Transition(
        s_tm1=rows[0],
        a_tm1=jnp.array([0, 1, 0, 1, 0]),
        r_t=jnp.ones(5),
        s_t=rows[1],
        terminated=jnp.zeros(5, bool),
        truncated=jnp.zeros(5, bool),
        discount_t=jnp.full(5, 0.9),
        rho=jnp.ones(5),
    )
    loss = losses.double_q_learning(network)
    found = audit(loss, params, target, batch, config)
    assert list(found.update["loss"]) == ["Dense_0", "Dense_1"]
    # The online network selects the action in s_t: that is no path.
    assert set(found.update["bootstrap"].values()) == {NONE}
    assert all(flow.norm > 0 for flow in found.held["bootstrap"].values())
    whole = jax.grad(
        lambda p: jax.vmap(lambda t: loss(p, target, t, config)[0])(batch).mean()
    )(params)
    for name, part in groups(whole).items():
        square = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(part))
        np.testing.assert_allclose(
            found.update["loss"][name].norm ** 2, square, rtol=1e-4
        )
    assert norms(found.update)["loss"] == norms(found.update)["prediction"]


def test_groups():
    assert groups({"params": {"a": 1.0}, "batch_stats": 2.0}) == {
        "params": {"a": 1.0},
        "batch_stats": 2.0,
    }
    assert groups((1.0, 2.0)) == {"all": (1.0, 2.0)}


# ------------------------------------------------------------------ assert_no_gradient

BOTH = {"online": PARAMS, "target": {"w": jnp.array([[1.0, 0.0, 0.0]])}}


def two_networks(stop):
    """The TD loss of a dict of two networks, as one writes it by hand."""

    def loss(params, transition):
        v_t = Linear.apply(params["target"], transition.s_t)[0]
        v_tm1 = Linear.apply(params["online"], transition.s_tm1)[0]
        error = td_error(v_tm1, transition.r_t, transition.discount_t, stop(v_t))
        return 0.5 * error**2, error

    return loss


FIRST = jax.tree.map(lambda x: x[0], TUTORIAL)


def test_a_target_that_is_stopped_passes():
    loss = two_networks(jax.lax.stop_gradient)
    assert assert_no_gradient(loss, "target", BOTH, FIRST) is None
    assert_no_gradient(loss, "target.w", BOTH, FIRST)
    with pytest.raises(AssertionError, match=r"online: expected no gradient"):
        assert_no_gradient(loss, "online", BOTH, FIRST)


def test_a_target_that_leaks_fails_with_its_norm():
    loss = two_networks(lambda v: v)
    with pytest.raises(AssertionError) as caught:
        assert_no_gradient(loss, "target", BOTH, FIRST)
    # The error is 1 + 2 + 0.1; times (2, 1, 0).
    assert str(caught.value) == (
        "target: expected no gradient, got one of norm 6.93 (target['w']: 6.93)"
    )


def test_a_zero_by_chance_does_not_hide_a_leak():
    ended = FIRST._replace(discount_t=jnp.array(0.0))
    message = r"target: expected no gradient, .* at random parameters and inputs"
    with pytest.raises(AssertionError, match=message):
        assert_no_gradient(two_networks(lambda v: v), "target", BOTH, ended)


def test_nan_is_a_gradient():
    def loss(params):
        return jnp.sqrt(params["a"] - params["a"]) + params["b"]

    with pytest.raises(AssertionError, match="got one of norm nan"):
        assert_no_gradient(loss, "a", {"a": 1.0, "b": 2.0})


def test_a_stop_inside_a_loop_counts():
    def loss(params, steps):
        def step(total, x):
            target = jax.lax.stop_gradient(params["target"] * x)
            return total + (target - params["online"]) ** 2, None

        return jax.lax.scan(step, 0.0, steps)[0]

    params = {"online": 1.0, "target": 2.0}
    assert_no_gradient(loss, "target", params, jnp.arange(3.0))
    with pytest.raises(AssertionError):
        assert_no_gradient(loss, "online", params, jnp.arange(3.0))


def test_paths_through_named_tuples_and_sequences():
    params = {"online": (Signals(jnp.ones(2)), 3.0)}

    def loss(params):
        return jnp.sum(params["online"][0].td_error)

    assert_no_gradient(loss, "online.1", params)
    with pytest.raises(AssertionError, match=r"online.0.td_error: expected"):
        assert_no_gradient(loss, "online.0.td_error", params)


def test_an_unknown_group_is_refused():
    with pytest.raises(
        ValueError, match=r"group='targt': no 'targt'; did you mean 'ta"
    ):
        assert_no_gradient(two_networks(lambda v: v), "targt", BOTH, FIRST)
    with pytest.raises(ValueError, match=r"group='target.b': no 'b'"):
        assert_no_gradient(two_networks(lambda v: v), "target.b", BOTH, FIRST)
