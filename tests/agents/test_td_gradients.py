"""`agent.td_gradient`: every value by hand, its outer derivatives, its metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_grads import agents, config, register
from rl_grads.agents import networks, td_gradients
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import (
    MLP,
    Prediction,
    QLearning,
    Secondary,
    Target,
)
from rl_grads.config import ConfigError
from rl_grads.gradients.estimators import About, mean_gradient
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.td import directions, losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
THETA = (0.1, -0.1, 0.0)


def linear(*weights, outputs=1):
    """`params @ s` with the same first weights for every output."""
    start = jnp.tile(jnp.array(weights), (outputs, 1))
    return Network(lambda key, obs: start, lambda params, obs: params @ obs)


def batch(*steps, ended=None) -> Transition:
    """Transitions from `(s_tm1, r_t, s_t, discount_t, rho)`."""
    s_tm1, r_t, s_t, discount_t, rho = (jnp.array(x) for x in zip(*steps, strict=True))
    none = jnp.zeros(len(steps), bool)
    return Transition(
        s_tm1=s_tm1,
        a_tm1=jnp.zeros(len(steps), jnp.int32),
        r_t=r_t,
        s_t=s_t,
        terminated=none if ended is None else jnp.array(ended),
        truncated=none,
        discount_t=discount_t,
        rho=rho,
    )


def with_second(one: Transition, *steps) -> Transition:
    """With second draws `(r_t, s_t, discount_t, rho)`."""
    r_t, s_t, discount_t, rho = (jnp.array(x) for x in zip(*steps, strict=True))
    return one._replace(
        r_t_alt=r_t, s_t_alt=s_t, discount_t_alt=discount_t, rho_alt=rho
    )


def setting(ratio=1.0, regulariser=1.0, step_size=1.0, **agent) -> Config:
    agent |= {"secondary": Secondary(ratio, regulariser)}
    return Config(agent=Prediction(**agent), optimizer=SGD(step_size))


def trained(network, td_gradient, steps, settings, updates=1):
    """The state of a prediction agent after so many updates on the same batch."""
    agent = agents.prediction(network=network, td_gradient=td_gradient)
    state = agent.init(KEY, steps.s_tm1[0], settings)
    update = jax.jit(agent.update)
    for _ in range(updates):
        state, report = update(state, steps, None, settings)
    return state, report


# ------------------------------------------------------------------- by hand, linear

# delta = 1 + 0.1 - (-0.1) = 1.2, from s = (1, 2, -1) to s' = (2, 1, 0).
TUTORIAL = batch(([1.0, 2.0, -1.0], 1.0, [2.0, 1.0, 0.0], 1.0, 1.0))


@pytest.mark.parametrize(
    ("td_gradient", "step"),
    [
        ("semi", (1.2, 2.4, -1.2)),  # delta s
        ("full", (-1.2, 1.2, -1.2)),  # delta (s - s'), half of that of delta**2
        ("interpolate", (0.6, 2.1, -1.2)),  # delta (s - s' / 4)
    ],
)
def test_the_tutorial_example(td_gradient, step):
    settings = setting(interpolation=0.25)
    state, _ = trained(linear(*THETA), td_gradient, TUTORIAL, settings)
    np.testing.assert_allclose(state.params[0] - jnp.array(THETA), step, rtol=1e-5)


# Values 1 and 4; delta = 1 + 0.5 * 4 - 1 = 2, g = (1, 0), g' = (0, 1).
ONE = batch(([1.0, 0.0], 1.0, [0.0, 1.0], 0.5, 3.0))


@pytest.mark.parametrize(
    ("td_gradient", "first", "second"),
    [
        # h = 0, then ratio * rho * delta * g = (3, 0): <h, g> = 3.
        ("gtd2", (0.0, 0.0), (9.0, -4.5)),  # rho <h, g> (g - g' / 2)
        ("tdc", (6.0, 0.0), (-12.0, -4.5)),  # delta = -4: rho (delta g - <h, g> g' / 2)
        ("tdrc", (6.0, 0.0), (-12.0, -4.5)),
    ],
)
def test_two_updates_of_gradient_td(td_gradient, first, second):
    settings = setting(ratio=0.5)
    start = np.array([1.0, 4.0])
    state, _ = trained(linear(*start), td_gradient, ONE, settings, 1)
    np.testing.assert_array_equal(state.params[0], start + first)
    np.testing.assert_array_equal(state.estimator.weights[0], [3.0, 0.0])
    state, _ = trained(linear(*start), td_gradient, ONE, settings, 2)
    np.testing.assert_array_equal(state.params[0], start + first + np.array(second))


@pytest.mark.parametrize(
    ("td_gradient", "expected"),
    [
        ("gtd2", 4.5),  # 3 + 0.5 * (3 * 2 - 3)
        ("tdc", -4.5),  # 3 + 0.5 * (3 * -4 - 3)
        ("tdrc", -4.875),  # 3 + 0.5 * (3 * -4 - 3 - 0.25 * 3)
    ],
)
def test_secondary_weights(td_gradient, expected):
    settings = setting(ratio=0.5, regulariser=0.25)
    state, _ = trained(linear(1.0, 4.0), td_gradient, ONE, settings, 2)
    np.testing.assert_array_equal(state.estimator.weights[0], [expected, 0.0])


@pytest.mark.slow
def test_gradient_td_weighs_examples():
    two = batch(
        ([1.0, 0.0], 1.0, [0.0, 1.0], 0.5, 3.0), ([0.0, 1.0], 2.0, [0.0, 0.0], 0.0, 1.0)
    )
    agent = agents.prediction(network=linear(1.0, 4.0), td_gradient="tdc")
    settings = setting()
    state = agent.init(KEY, two.s_tm1[0], settings)
    new, report = agent.update(state, two, jnp.array([2.0, 0.5]), settings)
    # Half of 2 * 3 * 2 * (1, 0) + 0.5 * -2 * (0, 1), for h as well.
    np.testing.assert_array_equal(new.params[0], [7.0, 3.5])
    np.testing.assert_array_equal(new.estimator.weights[0], [6.0, -0.5])
    np.testing.assert_array_equal(report.signals.td_error, [2.0, -2.0])


def test_the_residual_gradient_multiplies_the_errors_of_two_draws():
    # delta = 2, of ratio 3, as before; delta' = 4 + 0 - 1 = 3 of ratio 2, terminated.
    both = with_second(ONE, (4.0, [1.0, 1.0], 0.0, 2.0))
    state, report = trained(linear(1.0, 4.0), "residual", both, setting())
    # -0.5 * 3 * 2 * (delta' (g' / 2 - g) + delta (0 - g)) = -3 * (-5, 1.5)
    np.testing.assert_array_equal(state.params[0], [1.0 + 15.0, 4.0 - 4.5])
    np.testing.assert_array_equal(report.signals.td_error, [2.0])


def test_the_residual_gradient_of_two_equal_draws_is_the_full_gradient():
    same = with_second(ONE, (1.0, [0.0, 1.0], 0.5, 1.0))._replace(rho=jnp.ones(1))
    found = [
        trained(linear(1.0, 4.0), name, same, setting())[0].params[0]
        for name in ("residual", "full")
    ]
    np.testing.assert_array_equal(*found)


def test_the_residual_gradient_wants_a_second_draw():
    with pytest.raises(ValueError, match="expected transitions with a second draw"):
        trained(linear(1.0, 4.0), "residual", ONE, setting())


@pytest.mark.parametrize(("phi", "name"), [(0.0, "semi"), (1.0, "full")])
def test_interpolation_reaches_both_ends(phi, name):
    ends = [
        trained(linear(1.0, 4.0), kind, ONE, setting(interpolation=phi), 3)[0].params
        for kind in ("interpolate", name)
    ]
    np.testing.assert_array_equal(*ends)


# -------------------------------------------------------------------------- emphatic


def test_emphatic_td_weighs_by_a_trace_of_each_environment():
    step = ([1.0, 0.0], 2.0, [0.0, 0.0], 0.5, 2.0)  # delta = 1, trace = emphasis
    other = ([0.0, 1.0], 5.0, [0.0, 0.0], 0.5, 0.5)  # delta = 1, trace = emphasis / 4
    steps = batch(step, other, step, other, ended=[False, False, False, True])
    settings = setting()
    settings.training.num_envs = 2
    state, report = trained(linear(1.0, 4.0), "emphatic", steps, settings)
    # Emphases 1, 1, then 2 and 1.25; a quarter of 2 * 3 and of 0.5 * 2.25.
    np.testing.assert_array_equal(state.params[0], [2.5, 4.28125])
    np.testing.assert_array_equal(state.trace, [2.0, 0.0])
    np.testing.assert_array_equal(report.signals.td_error, 1.0)


def test_emphatic_td_goes_on_where_the_last_batch_ended():
    # Undiscounted, on-policy: the emphasis counts steps, whatever their batch.
    steps = batch(([1.0, 0.0], 0.0, [1.0, 0.0], 1.0, 1.0))
    state, _ = trained(linear(1.0, 4.0), "emphatic", steps, setting(), 3)
    np.testing.assert_array_equal(state.trace, [3.0])


def test_emphatic_td_takes_no_weights_and_whole_steps_only():
    settings = setting()
    settings.training.num_envs = 2
    agent = agents.prediction(network=linear(1.0, 4.0), td_gradient="emphatic")
    state = agent.init(KEY, ONE.s_tm1[0], settings)
    with pytest.raises(ValueError, match="multiple of num_envs=2"):
        agent.update(state, ONE, None, settings)
    with pytest.raises(ValueError, match="weights: expected None"):
        agent.update(state, ONE, jnp.ones(1), settings)


# ---------------------------------------------------------------- networks, in general


def _curved(key, obs):
    return {"a": jnp.array(0.7), "b": jnp.array([0.4, -0.3]), "c": jnp.array(0.2)}


def _apply_curved(p, obs):
    hidden = jnp.tanh(p["b"] @ obs + p["c"])
    return jnp.stack([p["a"] * hidden, p["c"] - hidden])


# Fewer parameters than transitions, so that the products of gradients have full rank.
CURVED = Network(_curved, _apply_curved)


def random_batch(size, on_policy=True, key=KEY) -> Transition:
    keys = jax.random.split(key, 4)
    ones = jnp.ones(size)
    return Transition(
        s_tm1=jax.random.normal(keys[0], (size, 2)),
        a_tm1=jnp.arange(size) % 2,
        r_t=jax.random.normal(keys[1], (size,)),
        s_t=jax.random.normal(keys[2], (size, 2)),
        terminated=jnp.zeros(size, bool),
        truncated=jnp.zeros(size, bool),
        discount_t=0.9 * ones,
        rho=ones if on_policy else jax.random.uniform(keys[3], (size,)) + 0.5,
    )


def half_projected_error(flat, unravel, steps):
    """Half of `g^T C^-1 g`, with `g = E[rho delta grad v]`, and the best `h`."""

    def value(flat, obs):
        return CURVED.apply(unravel(flat), obs)[0]

    slopes = jax.vmap(jax.grad(value), (None, 0))(flat, steps.s_tm1)
    v_tm1, v_t = (jax.vmap(value, (None, 0))(flat, s) for s in (steps.s_tm1, steps.s_t))
    error = steps.rho * (steps.r_t + steps.discount_t * v_t - v_tm1)
    g, c = error @ slopes / len(error), slopes.T @ slopes / len(error)
    best = jnp.linalg.solve(c, g)
    return 0.5 * g @ best, best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "on_policy"),
    [(directions.gtd2, True), (directions.gtd2, False), (directions.tdc, True)],
)
def test_gradient_td_descends_the_projected_error_of_a_curved_network(rule, on_policy):
    with jax.enable_x64(True):
        steps = random_batch(7, on_policy)
        params = CURVED.init(KEY, None)
        flat, unravel = ravel_pytree(params)
        estimator = td_gradients.gradient_td(rule, setting())
        loss = losses.td(CURVED)

        @jax.jit
        def both(params):
            error = jax.grad(half_projected_error, has_aux=True)
            slope, best = error(flat, unravel, steps)
            state = estimator.init(params)._replace(weights=unravel(best))
            about = About(loss, params, params, steps, None, setting())
            direction, _, _ = estimator.update(state, KEY, about)
            return slope, ravel_pytree(direction)[0]

        slope, direction = both(params)
        np.testing.assert_allclose(direction, slope, rtol=1e-9)


def learned(agent, second):
    """A number that depends on five updates, as a function of the config."""
    steps = random_batch(6, on_policy=False)

    def outer(settings):
        discount_t = settings.agent.discount * jnp.ones(6)
        now = steps._replace(discount_t=discount_t)
        if second:
            other = random_batch(6, False, jax.random.key(1))
            now = now._replace(
                r_t_alt=other.r_t,
                s_t_alt=other.s_t,
                discount_t_alt=discount_t,
                rho_alt=other.rho,
            )
        state = agent.init(KEY, steps.s_tm1[0], settings)

        def step(state, _):
            return agent.update(state, now, None, settings)[0], None

        state, _ = jax.lax.scan(step, state, length=5)
        leaves = jax.tree.leaves(state.params)
        return sum(jnp.sum(jnp.sin(x)) for x in leaves)

    return outer


OWN = {
    "interpolate": {"agent.interpolation"},
    "gtd2": {"agent.secondary.learning_rate_ratio"},
    "tdc": {"agent.secondary.learning_rate_ratio"},
    "tdrc": {"agent.secondary.learning_rate_ratio", "agent.secondary.regulariser"},
    "qrc": {"agent.secondary.learning_rate_ratio", "agent.secondary.regulariser"},
}
SHARED = {"agent.discount", "optimizer.learning_rate"}
NUMBERS = {"agent.interpolation", *OWN["tdrc"], *SHARED}


@pytest.mark.slow
@pytest.mark.parametrize("name", register.names("td_gradient"))
def test_outer_derivatives_are_those_of_finite_differences(name):
    declared = register.get("td_gradient", name).declares
    control = declared.outputs == register.ACTION_VALUES
    schema, make = (QLearning, agents.q_learning) if control else (Prediction, None)
    make = make or agents.prediction
    with jax.enable_x64(True):
        settings = Config(agent=schema(discount=0.8), optimizer=SGD(0.2, momentum=0.5))
        settings.agent.secondary = Secondary(0.7, 0.6)
        agent = make(network=CURVED, td_gradient=name)
        outer = jax.jit(jax.value_and_grad(learned(agent, name == "residual")))
        _, slope = outer(settings)
        moved = {path for path in NUMBERS if float(config.get(slope, path)) != 0.0}
        assert moved == SHARED | OWN.get(name, set())
        for path in moved:
            at = config.get(settings, path)
            low, high = (
                outer(config.replace(settings, {path: at + e}))[0]
                for e in (-1e-5, 1e-5)
            )
            difference = (high - low) / 2e-5
            np.testing.assert_allclose(config.get(slope, path), difference, rtol=1e-6)


def test_secondary_weights_learn_by_the_optimizer_of_the_parameters():
    settings = Config(agent=Prediction(), optimizer=Adam(learning_rate=0.5))
    settings.agent.secondary.learning_rate_ratio = 0.25
    state, _ = trained(linear(1.0, 4.0), "tdc", ONE, settings)
    # A first step of Adam is the step size, here of each weight with a gradient.
    np.testing.assert_allclose(state.params[0], [1.5, 4.0], rtol=1e-5)
    np.testing.assert_allclose(state.estimator.weights[0], [0.125, 0.0], rtol=1e-5)


# --------------------------------------------------------------------------- control


@pytest.mark.slow
def test_two_updates_of_qrc():
    # Values (1, 4) of both actions in both states; 0 was taken, 1 is as good in s'.
    start = Network(
        lambda key, obs: jnp.array([[1.0, 0.0], [0.0, 4.0]]), lambda p, obs: p @ obs
    )
    settings = Config(agent=QLearning(), optimizer=SGD(1.0))
    settings.agent.secondary = Secondary(0.5, 0.25)
    agent = agents.q_learning(network=start, td_gradient="qrc")
    state = agent.init(KEY, ONE.s_tm1[0], settings)
    one = ONE._replace(rho=jnp.ones(1))
    state, report = agent.update(state, one, None, settings)
    # delta = 1 + 0.5 * max(0, 4) - 1 = 2: a step of TD, and h = 0.5 * 2 in q(s, 0).
    assert report.signals.td_error.tolist() == [2.0]
    assert state.params.tolist() == [[3.0, 0.0], [0.0, 4.0]]
    assert state.estimator.weights.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    state, report = agent.update(state, one, None, settings)
    # delta = 0: less discount <h, g> of the greatest value in s', that of action 1.
    assert report.signals.td_error.tolist() == [0.0]
    assert state.params.tolist() == [[3.0, 0.0], [0.0, 3.5]]
    # 1 + 0.5 * (0 - 1 - 0.25)
    assert state.estimator.weights.tolist() == [[0.375, 0.0], [0.0, 0.0]]


@pytest.mark.slow
def test_qrc_takes_batches_of_any_size_beside_any_width():
    settings = Config(agent=QLearning(), network=MLP((16,)), optimizer=SGD(0.1))
    agent = agents.q_learning(network=networks.make(settings, 2), td_gradient="qrc")

    @jax.jit
    def twice(steps):
        state = agent.init(KEY, steps.s_tm1[0], settings)
        state, _ = agent.update(state, steps, None, settings)
        return agent.update(state, steps, None, settings)

    steps = random_batch(7)
    whole, report = twice(steps)
    assert report.signals.td_error.shape == (7,)
    other, _ = twice(jax.tree.map(lambda x: jnp.repeat(x, 3, 0), steps))
    found = [ravel_pytree((x.params, x.estimator.weights))[0] for x in (whole, other)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_qrc_uses_a_target_network_on_the_path_of_the_bootstrap():
    settings = Config(agent=QLearning(target=Target(period=9)), optimizer=SGD(1.0))
    agent = agents.q_learning(network=linear(1.0, 4.0, outputs=2), td_gradient="qrc")
    state = agent.init(KEY, ONE.s_tm1[0], settings)
    state = state._replace(target_params=jnp.array([[0.0, 2.0], [0.0, 0.0]]))
    _, report = agent.update(state, ONE, None, settings)
    assert report.signals.td_error.tolist() == [1.0]  # 1 + 0.5 * 2 - 1


# --------------------------------------------------------------------------- metrics


@pytest.mark.parametrize("td_gradient", ["semi", "full", "tdc"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # Along s, s - s': (1, 2, -1) . (-1, 1, -1) / (sqrt 6 sqrt 3)
        (TUTORIAL, 2 / 18**0.5),
        (batch(([1.0, 0.0], 1.0, [0.0, 1.0], 0.0, 1.0)), 1.0),  # No bootstrap.
        (batch(([1.0, 0.0], 1.0, [1.0, 0.0], 1.0, 1.0)), 0.0),  # No full gradient.
        (batch(([1.0, 0.0], 1.0, [0.0, 1.0], 0.5, 0.0)), 0.0),  # Neither.
    ],
)
def test_the_cosine_between_semi_and_full_gradient(td_gradient, steps, expected):
    start = linear(*THETA[: steps.s_tm1.shape[1]])
    _, report = trained(start, td_gradient, steps, setting())
    found = float(report.metrics["gradient/semi_full_cosine"])
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_cosine_can_be_left_out():
    settings = setting()
    settings.diagnostics.semi_full_cosine = False
    _, report = trained(linear(*THETA), "semi", TUTORIAL, settings)
    assert "gradient/semi_full_cosine" not in report.metrics


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (agents.q_learning, "gtd2", "action values: semi, full, interpolate, qrc$"),
        (agents.prediction, "tdcc", "no td_gradient 'tdcc'; did you mean 'tdc'"),
        (agents.prediction, "qrc", "a state value: semi, full, residual"),
    ],
)
def test_an_unknown_td_gradient(make, name, message):
    with pytest.raises(ConfigError, match=message):
        make(network=linear(1.0), td_gradient=name)


def test_an_update_direction_is_an_estimator_itself():
    with pytest.raises(ValueError, match="estimator: expected None"):
        agents.prediction(
            network=linear(1.0), estimator=mean_gradient(), td_gradient="tdc"
        )
