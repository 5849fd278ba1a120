"""Receipts of clips: worked out by hand, of the update and inside the graph."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_grads import agents, register
from rl_grads.agents import networks
from rl_grads.agents.agent import clipped_loss
from rl_grads.agents.schema import MLP, Prediction, QLearning
from rl_grads.gradients import optimizers, receipts
from rl_grads.gradients.estimators import About
from rl_grads.gradients.schema import SGD, Gradient, GraphClip, UpdateClip
from rl_grads.td import losses
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

KEY = jax.random.key(0)
KINDS = ("fraction", "norm_before", "norm_after", "angle")
LINEAR = networks.NetworkRecord(lambda key, obs: None, lambda params, obs: params @ obs)


def numbers(found, kind):
    """The four metrics of one kind, in order."""
    return [float(found[f"clip/{kind}/{name}"]) for name in KINDS]


# ------------------------------------------------------------------------- comparisons


@pytest.mark.slow
def test_by_hand():
    before = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros(3)}
    after = {"a": jnp.array([3.0, 3.0]), "b": jnp.zeros(3)}
    found = receipts.compare(before, after)
    # One of two elements; cos = (9 + 12) / (5 * sqrt(18)) = 0.98995.
    np.testing.assert_allclose(found, [0.5, 5.0, 18**0.5, 8.1301], rtol=1e-5)


@pytest.mark.parametrize(
    ("after", "angle"),
    [([2.0, 0.0], 0.0), ([0.0, 1.0], 90.0), ([-1.0, 0.0], 180.0), ([1.0, 1.0], 45.0)],
)
def test_angles(after, angle):
    found = receipts.compare(jnp.array([2.0, 0.0]), jnp.array(after))
    np.testing.assert_allclose(found.angle, angle, rtol=1e-6)


def test_an_angle_of_zero_has_no_rounding():
    gradient = jax.random.normal(KEY, (1000,))
    assert float(receipts.compare(gradient, gradient / 3.0).angle) < 1e-4


def test_zeros_are_no_division():
    zero, one = jnp.zeros(2), jnp.ones(2)
    assert [float(x) for x in receipts.compare(zero, zero)] == [0.0, 0.0, 0.0, 0.0]
    assert float(receipts.compare(one, zero).angle) == 0.0
    assert float(receipts.compare(one, zero).fraction) == 1.0


@pytest.mark.slow
def test_several_receipts_are_averaged():
    before = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    after = jnp.array([[0.6, 0.8], [0.0, 1.0]])
    found = receipts.metrics("per_example", jax.vmap(receipts.compare)(before, after))
    np.testing.assert_allclose(
        numbers(found, "per_example"), [0.5, 3.0, 1.0, 0.0], atol=1e-5
    )


def test_nothing_is_differentiated_through_a_receipt():
    def norms(x):
        return sum(receipts.compare(x, jnp.minimum(x, 1.0)))

    assert jax.grad(norms)(jnp.zeros(2)).tolist() == [0.0, 0.0]


# ---------------------------------------------------------------- clips of the update

GRADIENT = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([-4.0])}


def of_update(clip, gradient=GRADIENT):
    config = Config(optimizer=SGD(), gradient=Gradient(update=clip))

    @jax.jit
    def step(config):
        made = optimizers.make(config)
        _, state = made.update(gradient, made.init(gradient), gradient)
        return receipts.of_update(state)

    return step(config)


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (UpdateClip("global_norm", max_norm=1.0), [1.0, 5.0, 1.0, 0.0]),
        (UpdateClip("global_norm", max_norm=6.0), [0.0, 5.0, 5.0, 0.0]),
        # (3, -4) to (2, -2): cos = 14 / (5 * sqrt(8)).
        (UpdateClip("element", max_abs=2.0), [1.0, 5.0, 8**0.5, 8.1301]),
        (UpdateClip("element", max_abs=3.5), [0.5, 5.0, 21.25**0.5, 3.7314]),
        (UpdateClip("per_layer", max_norm=2.5), [1.0, 5.0, 2.5, 0.0]),
        # Root mean squares 3 / sqrt(2) and 4: (3, -2), cos = 17 / (5 * sqrt(13)).
        (UpdateClip("block_rms", max_rms=2.0), None),
        # The parameters are the gradient itself.
        (UpdateClip("agc", max_ratio=0.5), [1.0, 5.0, 2.5, 0.0]),
        (UpdateClip("autoclip", percentile=100.0), [0.0, 5.0, 5.0, 0.0]),
    ],
)
def test_every_clip_of_the_update(clip, expected):
    if expected is None:
        after = np.array([2 * 2**0.5, -2.0])
        cosine = (3 * after[0] + 8) / (5 * np.linalg.norm(after))
        expected = [1.0, 5.0, np.linalg.norm(after), np.degrees(np.arccos(cosine))]
    np.testing.assert_allclose(
        numbers(of_update(clip), "update"), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ["global_norm", "autoclip"])
def test_the_free_receipt_of_a_clip_by_norm_is_that_of_the_comparison(name):
    settings = UpdateClip(name, max_norm=4.0, percentile=50.0)
    clip = register.get("clip", name)(Config(gradient=Gradient(settings)))

    @jax.jit
    def step(state, scale):
        gradient = optax.tree.scale(scale, GRADIENT)
        clipped, state = clip.update(gradient, state)
        return state, receipts.compare(gradient, clipped)

    state = clip.init(GRADIENT)
    for scale in (1.0, 0.1, 3.0):
        state, expected = step(state, scale)
        np.testing.assert_allclose(state.receipt, expected, rtol=1e-4, atol=1e-2)
    assert float(expected.norm_after) < 0.9 * float(expected.norm_before)


def test_a_users_clip_is_compared():
    ones = optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params=None: (
            jax.tree.map(jnp.ones_like, updates),
            state,
        ),
    )
    clip = receipts.reported(ones)
    assert receipts.reported(clip) is clip
    _, state = clip.update(GRADIENT, clip.init(GRADIENT))
    # (3, 0, -4) to (1, 1, 1): cos = -1 / (5 sqrt(3)).
    np.testing.assert_allclose(state.receipt, [1.0, 5.0, 3**0.5, 96.63075], rtol=1e-5)


def test_without_a_clip_the_state_has_no_trace_of_it():
    config = Config(optimizer=SGD())
    state = optimizers.make(config).init(GRADIENT)
    assert receipts.of_update(state) == {}
    plain = optax.sgd(0.1).init(GRADIENT)
    assert jax.tree.structure(state) == jax.tree.structure(plain)


# --------------------------------------------------------------- clips inside the graph


def batch(rewards, size=1):
    """One-step episodes from one state: the TD error of a zero network is r."""
    count = len(rewards)
    ones, flags = jnp.ones((count, size)), jnp.ones(count, bool)
    zeros = jnp.zeros(count)
    actions = jnp.zeros(count, int)
    r_t = jnp.asarray(rewards)
    return Transition(ones, actions, r_t, ones, flags, ~flags, zeros, zeros + 1)


def of_graph(clip, rewards, make=losses.q_learning, weights=None):
    config = Config(agent=QLearning(), gradient=Gradient(clip=clip))
    loss, params = clipped_loss(make, LINEAR), jnp.zeros((2, 1))

    @jax.jit
    def found(config):
        about = About(loss, params, params, batch(rewards), weights, config)
        return receipts.of_graph(about)

    return found(config)


REWARDS = [0.5, 4.0, -8.0]


@pytest.mark.parametrize("clip", [GraphClip(max_abs=1.0), GraphClip(max_norm=1.0)])
@pytest.mark.parametrize("make", [losses.q_learning, losses.double_q_learning])
def test_of_each_examples_derivative_at_the_output(clip, make):
    # Slopes -0.5, -4 and 8 in one output. The bootstrap, and the network that selects
    # the next action, pass no derivative: they do not count.
    found = of_graph(clip, REWARDS, make)
    np.testing.assert_allclose(
        numbers(found, "graph"), [2 / 3, 12.5 / 3, 2.5 / 3, 0.0], rtol=1e-6, atol=1e-5
    )


def test_weights_scale_what_is_clipped_and_the_threshold():
    found = of_graph(
        GraphClip(max_abs=1.0), REWARDS, weights=jnp.array([4.0, 0.1, 0.0])
    )
    # Slopes -2, -0.4 and 0, at most 4, 0.1 and 0.
    np.testing.assert_allclose(
        numbers(found, "graph"), [1 / 3, 0.8, 0.7, 0.0], rtol=1e-6, atol=1e-5
    )


@pytest.mark.slow
def test_where_both_paths_are_differentiated_both_are_clipped():
    clip = GraphClip(max_abs=1.0)
    ends = jnp.zeros(2, bool)
    going_on = batch([3.0, 0.5])._replace(terminated=ends, discount_t=jnp.full(2, 0.5))
    config = Config(agent=Prediction(), gradient=Gradient(clip=clip))
    params = jnp.zeros((1, 1))
    semi = clipped_loss(losses.td, LINEAR)
    found = [
        receipts.of_graph(About(loss, params, params, going_on, None, config))
        for loss in (semi, losses.full(semi))
    ]
    # Slopes -3 and -0.5 in v(s_tm1); 1.5 and 0.25 in v(s_t).
    expected = [[0.5, 1.75, 0.75, 0.0], [0.5, 1.3125, 0.6875, 0.0]]
    for metrics, by_hand in zip(found, expected, strict=True):
        np.testing.assert_allclose(numbers(metrics, "graph"), by_hand, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["torso", "every_layer"])
def test_inside_the_network(site):
    config = Config(
        agent=Prediction(),
        network=MLP(hidden=(3, 2), activation="tanh"),
        gradient=Gradient(clip=GraphClip(max_abs=0.1, site=site)),
    )
    network = networks.make(config, 1)
    params = network.init(KEY, jnp.ones(4))
    loss = clipped_loss(losses.td, network)
    found = receipts.of_graph(
        About(loss, params, params, batch([2.0, 0.01], 4), None, config)
    )
    before, after = cotangents(network, params, batch([2.0, 0.01], 4), site)
    each = [receipts.compare(*pair) for pair in zip(before, after, strict=True)]
    expected = np.mean(np.array(each), axis=0)
    np.testing.assert_allclose(numbers(found, "graph"), expected, rtol=1e-5)


def cotangents(network, params, transitions, site):
    """Cotangents before and after each clip of 0.1, layer by layer."""
    layers = params["params"]
    before, after = [], []
    for i in range(2):
        x, kept = transitions.s_tm1[i], []
        for name in ("Dense_0", "Dense_1"):
            x = jnp.tanh(x @ layers[name]["kernel"] + layers[name]["bias"])
            kept.append(x)
        last = layers["Dense_2"]
        value = (x @ last["kernel"] + last["bias"])[0]
        cotangent = -(transitions.r_t[i] - value)[None]
        for weights, x in zip(
            (last["kernel"], layers["Dense_1"]["kernel"]), reversed(kept), strict=True
        ):
            if site == "every_layer" and weights is last["kernel"]:
                before.append(cotangent)
                cotangent = jnp.clip(cotangent, -0.1, 0.1)
                after.append(cotangent)
            cotangent = weights @ cotangent
            if site == "every_layer" or weights is last["kernel"]:
                before.append(cotangent)
                cotangent = jnp.clip(cotangent, -0.1, 0.1)
                after.append(cotangent)
            cotangent = cotangent * (1 - x**2)
    return before, after


def test_without_a_clip_there_are_no_metrics():
    assert of_graph(GraphClip(), REWARDS) == {}


@pytest.mark.slow
def test_the_receipts_cost_no_matrix_product():
    config = Config(
        agent=QLearning(),
        network=MLP(hidden=(8, 8)),
        gradient=Gradient(clip=GraphClip(max_abs=1.0, site="every_layer")),
    )
    agent = agents.q_learning(
        network=networks.make(config, 2), loss=losses.double_q_learning
    )
    state = agent.init(KEY, jnp.ones(4), config)

    def products(update):
        text = jax.jit(update).lower(state, batch([1.0] * 16, 4), config).compile()
        return text.as_text().count(" dot(")

    def params_alone(state, batch, config):
        return agent.update(state, batch, None, config)[0]

    def with_metrics(state, batch, config):
        return agent.update(state, batch, None, config)

    assert products(with_metrics) == products(params_alone) > 5


# ------------------------------------------------------------------------- by an agent


@pytest.mark.slow
def test_an_update_reports_both():
    config = Config(
        agent=Prediction(),
        optimizer=SGD(learning_rate=1.0),
        gradient=Gradient(
            update=UpdateClip("global_norm", max_norm=0.5), clip=GraphClip(max_abs=2.0)
        ),
    )
    agent = agents.prediction(
        network=LINEAR._replace(init=lambda key, obs: jnp.zeros((1, 1)))
    )
    state = agent.init(KEY, jnp.ones(1), config)
    new, report = jax.jit(agent.update)(state, batch([1.0, 8.0]), None, config)
    # Slopes -1 and -8 become -1 and -2; their mean, -1.5, becomes -0.5.
    assert float(new.params[0, 0]) == 0.5
    np.testing.assert_allclose(
        numbers(report.metrics, "graph"), [0.5, 4.5, 1.5, 0.0], atol=1e-5
    )
    np.testing.assert_allclose(
        numbers(report.metrics, "update"), [1.0, 1.5, 0.5, 0.0], atol=1e-5
    )
    plain = Config(agent=Prediction(), optimizer=SGD())
    _, report = agent.update(
        agent.init(KEY, jnp.ones(1), plain), batch([1.0]), None, plain
    )
    assert not [name for name in report.metrics if name.startswith("clip/")]
