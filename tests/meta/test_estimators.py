"""Every estimator on problems whose meta-gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD
from rl_grads.meta import estimators
from rl_grads.meta.schema import ESTIMATORS, Meta
from rl_grads.meta.truth import compare
from rl_grads.training.schema import Config

RATE, INITIAL = "optimizer.learning_rate", "initial_parameters"

# The quadratic case: inner loss 0.5 sum a (theta - centre)^2, outer loss half the
# squared distance to a target; closed forms in float64.
A, CENTRE = (1.0, 0.5, 0.1), (1.0, -2.0, 0.5)
TARGET, STEP, K = (0.2, 0.1, -0.3), 0.3, 5
THETA_K = (0.8319300000000001, -1.1125893750000002, 0.07063298715000005)
D_LOSS_D_STEP = 4.005557806836148
MAML = (0.10620847509999998, -0.5380323475685547, 0.31827515711253584)
FOMAML = (0.6319300000000001, -1.2125893750000003, 0.37063298715000004)
IMAML_THETA = (0.3333333333333333, -0.4, 0.023809523809523808)
IMAML = (0.08888888888888886, -0.4, 0.3083900226757369)
PROXIMAL = 2.0


@pytest.fixture(params=["float32", "float64"])
def tolerance(request):
    with jax.enable_x64(request.param == "float64"):
        yield 1e-6 if request.param == "float32" else 1e-10


def quadratic(theta, batch, config):
    return 0.5 * jnp.sum(jnp.array(A) * jnp.square(theta - batch))


def to_target(theta, data):
    return 0.5 * jnp.sum(jnp.square(theta - data))


def sgd(config):
    return optax.sgd(config.optimizer.learning_rate)


def solve(learn, estimator, steps=K, proximal=None, rate=STEP, calls=1, **given):
    """The meta-gradient of the quadratic case, after some calls with memory."""
    descent = rg.meta.Descent(quadratic, sgd, proximal)
    config = Config(optimizer=SGD(learning_rate=rate))
    state = descent.init(jnp.zeros(3), config)
    compute = jax.jit(rg.meta.gradient(descent, to_target, learn, steps, estimator))
    further = 0 if isinstance(estimator, str) else estimator.further
    batches = jnp.tile(jnp.array(CENTRE), (steps + further, 1))
    found, memory = None, None
    for _ in range(calls):
        found = compute(
            config, state, batches, jnp.array(TARGET), memory=memory, **given
        )
        state, memory = found.state, found.memory
    return found


# ----------------------------------------------------------------------- exact values


def test_maml_is_exact(tolerance):
    found = solve((INITIAL,), "full")
    np.testing.assert_allclose(found.state.params, THETA_K, tolerance)
    np.testing.assert_allclose(found.gradient[INITIAL], MAML, tolerance)


def test_fomaml_is_exact(tolerance):
    found = solve((INITIAL,), "first_order")
    np.testing.assert_allclose(found.gradient[INITIAL], FOMAML, tolerance)


def test_imaml_is_exact(tolerance):
    found = solve((INITIAL,), "implicit", steps=60, proximal=PROXIMAL)
    np.testing.assert_allclose(found.state.params, IMAML_THETA, tolerance)
    np.testing.assert_allclose(found.gradient[INITIAL], IMAML, tolerance)


@pytest.mark.parametrize("checkpoint", [None, "step", "sqrt", 2])
def test_the_step_size_gradient_is_exact(tolerance, checkpoint):
    found = solve((RATE,), estimators.full(checkpoint))
    np.testing.assert_allclose(found.gradient[RATE], D_LOSS_D_STEP, tolerance)


def test_reptile_is_the_way_back(tolerance):
    found = solve((INITIAL,), "reptile")
    np.testing.assert_allclose(found.gradient[INITIAL], -np.array(THETA_K), tolerance)


# ------------------------------------------------------- where two estimators are equal


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.truncated(window=K),
        estimators.truncated(window=K + 3),
        estimators.forward(trace_decay=1.0),
    ],
)
def test_with_nothing_forgotten_it_is_full(double_precision, estimator):
    found = solve((RATE,), estimator)
    np.testing.assert_allclose(found.gradient[RATE], D_LOSS_D_STEP, 1e-10)
    np.testing.assert_allclose(found.state.params, THETA_K, 1e-12)
    assert found.reports.shape == (K,)


def test_with_all_forgotten_only_the_last_update_counts(double_precision):
    last = solve((RATE,), estimators.truncated(window=1)).gradient[RATE]
    traced = solve((RATE,), estimators.forward(trace_decay=0.0)).gradient[RATE]
    np.testing.assert_allclose(traced, last, 1e-12)
    # -(theta_K - target) . grad(theta_4), with theta_4 = centre + (theta_K - centre)
    # / (1 - step a).
    a, centre, end = np.array(A), np.array(CENTRE), np.array(THETA_K)
    slope = a * (end - centre) / (1 - STEP * a)
    np.testing.assert_allclose(last, -(end - np.array(TARGET)) @ slope, 1e-10)


@pytest.mark.slow
def test_a_trace_lives_on_between_calls(double_precision):
    """Twice five updates with the trace are ten; alone the last five know less."""
    ten = solve((RATE,), "full", steps=2 * K).gradient[RATE]
    traced = solve((RATE,), "forward", calls=2).gradient[RATE]
    five = solve((RATE,), "full", calls=2).gradient[RATE]
    np.testing.assert_allclose(traced, ten, 1e-10)
    assert abs(five - ten) > 0.1 * abs(ten)


def test_a_bootstrapped_target_one_outer_step_away_is_full(double_precision):
    found = solve((INITIAL,), estimators.bootstrapped(0, target_rate=0.25))
    np.testing.assert_allclose(found.gradient[INITIAL], 0.25 * np.array(MAML), 1e-10)
    expected = 0.5 * np.sum(np.square(np.array(THETA_K) - TARGET))
    np.testing.assert_allclose(found.loss, expected, 1e-10)


def test_a_bootstrapped_target_further_on(double_precision):
    """The target is one more update and one outer step away."""
    found = solve((INITIAL,), estimators.bootstrapped(1, target_rate=0.25))
    a, centre, end = np.array(A), np.array(CENTRE), np.array(THETA_K)
    later = end - STEP * a * (end - centre)
    target = later - 0.25 * (later - np.array(TARGET))
    expected = (1 - STEP * a) ** K * (end - target)
    np.testing.assert_allclose(found.gradient[INITIAL], expected, 1e-10)
    np.testing.assert_allclose(found.state.params, THETA_K, 1e-10)


def test_first_order_in_the_step_size_sums_the_gradients(double_precision):
    # theta_K = theta_0 - step * sum of gradients: the sum is -theta_K / step.
    found = solve((RATE,), "first_order").gradient[RATE]
    end = np.array(THETA_K)
    np.testing.assert_allclose(found, (end - np.array(TARGET)) @ end / STEP, 1e-10)


def test_implicit_in_a_number_of_the_inner_loss(double_precision):
    """0.5 d |theta - c|^2 + 0.5 p |theta|^2 is solved by d c / (d + p)."""

    def loss(theta, batch, config):
        return 0.5 * config.agent.discount * jnp.sum(jnp.square(theta - batch))

    descent = rg.meta.Descent(loss, sgd, proximal=PROXIMAL)
    config = Config(optimizer=SGD(learning_rate=0.3))
    config.agent.discount = 0.5
    state = descent.init(jnp.zeros(3), config)
    learn = ("agent.discount",)
    compute = rg.meta.gradient(descent, to_target, learn, 60, "implicit")
    batches = jnp.tile(jnp.array(CENTRE), (60, 1))
    found = jax.jit(compute)(config, state, batches, jnp.array(TARGET))
    centre = np.array(CENTRE)
    solution = 0.5 * centre / 2.5
    slope = (solution - np.array(TARGET)) @ (PROXIMAL * centre / 2.5**2)
    np.testing.assert_allclose(found.state.params, solution, 1e-10)
    np.testing.assert_allclose(found.gradient["agent.discount"], slope, 1e-10)


# ------------------------------------------------------------------ small inner steps


def curved(theta, batch, config):
    """A loss that is not quadratic."""
    return jnp.sum(jnp.square(jnp.tanh(batch[0] @ theta) - batch[1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "fomaml", "reptile"])
def test_the_expansion_in_the_step_size(double_precision, name):
    """Nichol et al. 2018, section 5.1, with g and H of either loss at the start:

    MAML g2 - step (H2 g1 + H1 g2), FOMAML g2 - step H2 g1, Reptile of two updates,
    divided by the step, g1 + g2 - step H2 g1.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    xs, ys = jax.random.normal(keys[0], (2, 6, 4)), jax.random.normal(keys[1], (2, 6))
    theta = 0.5 * jax.random.normal(keys[2], (4,))
    pair = [(xs[i], ys[i]) for i in range(2)]
    g1, g2 = (jax.grad(curved)(theta, batch, None) for batch in pair)
    h1, h2 = (jax.hessian(curved)(theta, batch, None) for batch in pair)
    offset = g1 + g2 if name == "reptile" else g2
    slope = -(h2 @ g1 + h1 @ g2) if name == "maml" else -h2 @ g1
    step, steps = 1e-5, 2 if name == "reptile" else 1
    estimator = {"maml": "full", "fomaml": "first_order"}.get(name, name)
    descent = rg.meta.Descent(curved, sgd)
    config = Config(optimizer=SGD(learning_rate=step))
    compute = jax.jit(
        rg.meta.gradient(
            descent,
            lambda theta, data: curved(theta, data, None),
            (INITIAL,),
            steps,
            estimator,
        )
    )
    batches = xs[:steps], ys[:steps]
    found = compute(config, descent.init(theta, config), batches, pair[1])
    gradient = found.gradient[INITIAL] / (step if name == "reptile" else 1.0)
    np.testing.assert_allclose((gradient - offset) / step, slope, rtol=0.05)


# --------------------------------------------------------------------------- evolution


def test_particles_are_copied_inside_the_program_and_not_in_a_list():
    """A list of 1e8 entries took minutes before anything ran."""
    many = estimators.persistent_evolution(particles=2**31 - 1)
    shapes = jax.eval_shape(many.init, {"a": 0.5}, {"w": jnp.zeros(3)})
    assert shapes.plus["w"].shape == (2**31 - 1, 3)
    few = estimators.persistent_evolution(particles=2).init(
        {"a": 0.5}, {"w": jnp.array([1.0, 2.0]), "key": jax.random.key(3)}
    )
    assert few.minus["w"].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert few.plus["key"].shape == (2,)


@pytest.mark.slow
def test_persistent_evolution_is_unbiased_over_two_calls(double_precision):
    """The second estimate sees through both inner loops; d loss / d step of K = 2."""
    particles = estimators.persistent_evolution(particles=4000, noise=0.01)
    keys = jax.random.split(jax.random.key(0))
    descent = rg.meta.Descent(quadratic, sgd)
    config = Config(optimizer=SGD(learning_rate=STEP))
    state, memory = descent.init(jnp.zeros(3), config), None
    compute = jax.jit(rg.meta.gradient(descent, to_target, (RATE,), 1, particles))
    batches = jnp.array([CENTRE])
    found = None
    for key in keys:
        found = compute(config, state, batches, jnp.array(TARGET), None, key, memory)
        state, memory = found.state, found.memory
    assert found is not None
    expected = float(solve((RATE,), "full", steps=2).gradient[RATE])
    short = float(solve((RATE,), "full", steps=1).gradient[RATE])
    assert abs(expected - short) > 0.3 * abs(expected)
    assert float(found.gradient[RATE]) == pytest.approx(expected, rel=0.1)


def test_evolution_needs_a_key():
    with pytest.raises(ValueError, match="key: expected a PRNG key"):
        solve((RATE,), "persistent_evolution")


# ------------------------------------------------------------------------ truth meter


def measure(estimator, learn=(RATE,), draws=1):
    descent = rg.meta.Descent(quadratic, sgd)
    config = Config(optimizer=SGD(learning_rate=STEP))
    compute = jax.jit(
        rg.meta.truth_meter(descent, to_target, learn, K, estimator, draws)
    )
    batches = jnp.tile(jnp.array(CENTRE), (K, 1))
    state = descent.init(jnp.zeros(3), config)
    return compute(config, state, batches, jnp.array(TARGET), key=jax.random.key(1))


def test_the_truth_about_fomaml(double_precision):
    found = measure("first_order", (INITIAL,))
    maml, fomaml = np.array(MAML), np.array(FOMAML)
    cosine = maml @ fomaml / np.linalg.norm(maml) / np.linalg.norm(fomaml)
    bias = np.linalg.norm(fomaml - maml) / np.linalg.norm(maml)
    np.testing.assert_allclose(found.cosine, cosine, 1e-9)
    np.testing.assert_allclose(found.bias, bias, 1e-9)


def test_the_truth_about_scale(double_precision):
    found = measure(estimators.bootstrapped(0, target_rate=0.25), (INITIAL,))
    np.testing.assert_allclose(found.cosine, 1.0, 1e-9)
    np.testing.assert_allclose(found.bias, 0.75, 1e-9)


@pytest.mark.parametrize(
    ("estimate", "exact", "expected"),
    [
        ([3.0, 0.0], [3.0, 4.0], (0.6, 0.8)),
        ([0.0, 0.0], [0.0, 0.0], (1.0, 0.0)),
        ([0.0, 0.0], [3.0, 4.0], (0.0, 1.0)),
        ([1.0, 0.0], [0.0, 0.0], (0.0, np.inf)),
        ([-6.0, -8.0], [3.0, 4.0], (-1.0, 3.0)),
    ],
)
def test_comparing(estimate, exact, expected):
    found = compare(jnp.array(estimate), jnp.array(exact))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_random_estimator_is_averaged(double_precision):
    estimator = estimators.persistent_evolution(particles=100, noise=0.01)
    one, many = measure(estimator, draws=1), measure(estimator, draws=400)
    assert float(many.bias) < min(0.05, float(one.bias))
    assert float(many.cosine) == pytest.approx(1.0)


def test_draws_are_counted():
    with pytest.raises(ValueError, match="draws=0: expected an integer of at least 1"):
        measure("full", draws=0)


# ------------------------------------------------------------------------------- table

VALID = {
    "full": "initial_parameters loss update sampling",
    "first_order": "initial_parameters loss update sampling",
    "reptile": "initial_parameters",
    "implicit": "initial_parameters loss",
    "truncated": "loss update sampling",
    "forward": "loss update sampling",
    "bootstrapped": "initial_parameters loss update sampling",
    "persistent_evolution": "loss update",
}
NAMES = {
    INITIAL: INITIAL,
    "loss": "agent.discount",
    "update": RATE,
    "sampling": "replay.exponent",
}


@pytest.mark.parametrize("estimator", VALID)
@pytest.mark.parametrize("kind", NAMES)
def test_which_estimator_knows_what(estimator, kind):
    if kind in VALID[estimator].split():
        estimators.check_valid(estimator, [NAMES[kind]])
        return
    with pytest.raises(ConfigError, match=f"{estimator}: expected one that can learn"):
        estimators.check_valid(estimator, [NAMES[kind]])


def test_a_refusal_says_why_and_what_else():
    with pytest.raises(ConfigError) as caught:
        rg.meta.gradient(None, to_target, (INITIAL,), 1, "truncated")
    assert str(caught.value) == (
        "meta.estimator=truncated: expected one that can learn initial_parameters "
        "(full, first_order, reptile, implicit, bootstrapped); its derivative does not "
        "reach back to the start"
    )


def test_every_name_of_the_config_is_an_estimator():
    assert set(VALID) == set(ESTIMATORS) == set(estimators.REFUSED)
    for name in ESTIMATORS:
        assert estimators.from_settings(Meta(estimator=name)).name == name
        assert estimators.by_name(name).name == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: estimators.truncated(0),
            "window=0: expected an integer of at least 1",
        ),
        (
            lambda: estimators.bootstrapped(-1),
            "target_steps=-1: expected an integer of",
        ),
        (lambda: estimators.persistent_evolution(0), "particles=0: expected an"),
        (lambda: estimators.implicit(0), "solver_steps=0: expected an integer"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


def test_a_descent_without_a_pull_has_no_implicit_derivative():
    with pytest.raises(ValueError, match="expected a Descent with proximal"):
        solve((INITIAL,), "implicit")


def test_weights_of_a_descent_are_refused():
    with pytest.raises(ValueError, match="weights: expected None"):
        solve((RATE,), "full", weights=jnp.ones((K, 3)))
