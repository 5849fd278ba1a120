"""Meta-gradients through an agent's own update, against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads import register
from rl_grads.agents.networks import mlp
from rl_grads.agents.schema import MLP, Prediction, QLearning, Target
from rl_grads.config import ConfigError, get, replace
from rl_grads.gradients import optimizers
from rl_grads.gradients.estimators import mean_gradient
from rl_grads.gradients.schema import (
    SGD,
    Adam,
    Gradient,
    GraphClip,
    PerExampleClip,
    RMSProp,
    UpdateClip,
)
from rl_grads.meta import estimators
from rl_grads.td import losses
from rl_grads.training import compilation
from rl_grads.training.schema import Config

K, B = 5, 6
NETWORK = mlp(MLP(hidden=(4,), activation="tanh"), 1)
OPTIMIZERS = {
    "sgd": SGD(learning_rate=0.2),
    "momentum": SGD(learning_rate=0.1, momentum=0.8),
    "adam": Adam(learning_rate=0.05, eps_root=1e-6),
    "rmsprop": RMSProp(learning_rate=0.05, eps=1e-4),
}
LEARN = (
    "agent.discount",
    "optimizer.learning_rate",
    "gradient.clip.max_abs",
    "initial_parameters",
)


def setting(optimizer="sgd", **agent):
    return Config(
        agent=Prediction(discount=0.9, **agent),
        optimizer=OPTIMIZERS[optimizer],
        gradient=Gradient(clip=GraphClip(max_abs=0.5)),
    )


def agent_of(grad=None, loss=losses.td):
    estimator = mean_gradient(grad) if grad else mean_gradient()
    return rg.agents.prediction(network=NETWORK, loss=loss, estimator=estimator)


def outer_loss(params, data):
    """The mean squared error of values; nothing is stopped, so differences see all."""
    values = jax.vmap(lambda s: NETWORK.apply(params, s)[0])(data.s_tm1)
    return 0.5 * jnp.mean(jnp.square(values - data.r_t))


def start(agent, config):
    return agent.init(jax.random.key(0), jnp.ones(3), config)


def weights():
    return jnp.exp(jax.random.normal(jax.random.key(9), (K, B)))


def differences(compute, config, state, args, names, h=1e-6):
    """Central differences of the outer loss, one per name."""

    def loss(config, state):
        return float(compute(config, state, *args).loss)

    found = {}
    for name in names:
        if name == "initial_parameters":
            plus, minus = (with_direction(state, s) for s in (h, -h))
            found[name] = (loss(config, plus) - loss(config, minus)) / (2 * h)
        else:
            value = get(config, name)
            plus, minus = (replace(config, {name: value + s}) for s in (h, -h))
            found[name] = (loss(plus, state) - loss(minus, state)) / (2 * h)
    return found


def directions(params):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in pairs])


def with_direction(state, step):
    moved = jax.tree.map(
        lambda p, d: p + step * d, state.params, directions(state.params)
    )
    return state._replace(params=moved)


def flat(gradient, state):
    """Numbers alone: initial parameters by the slope along one direction."""
    along = jax.tree.map(
        lambda g, d: jnp.sum(g * d),
        gradient["initial_parameters"],
        directions(state.params),
    )
    slope = sum(jax.tree.leaves(along))
    return {k: float(v) for k, v in (gradient | {"initial_parameters": slope}).items()}


# ------------------------------------------------------------------- finite differences


MODES = [pytest.param(jax.grad, marks=pytest.mark.slow, id="plain")]
MODES += [pytest.param(None, id="mixed")]


def slow_but(*fast):
    """All optimizers, most of them for the slow tests."""
    slow = {name: pytest.mark.slow for name in OPTIMIZERS if name not in fast}
    return [pytest.param(name, marks=slow.get(name, ())) for name in OPTIMIZERS]


@pytest.mark.parametrize("grad", MODES)
@pytest.mark.parametrize("optimizer", slow_but("sgd", "adam"))
def test_finite_differences(double_precision, transitions, optimizer, grad):
    """K = 5 semi-gradient updates, online bootstrap, tanh network, weights."""
    config, agent = setting(optimizer), agent_of(grad)
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16), weights()
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, LEARN, K))
    found = compute(config, state, *args)
    expected = differences(compute, config, state, args, LEARN)
    gradient = flat(found.gradient, state)
    assert int(found.diverged_at) == -1
    assert gradient.keys() == set(LEARN)
    for name in LEARN:
        assert abs(gradient[name]) > 1e-5, name
        assert gradient[name] == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("grad", [jax.grad, None])
def test_a_clip_inside_the_graph_leaves_outer_derivatives_alone(
    double_precision, transitions, grad
):
    """What comes back through the bootstrap is far larger than the threshold."""
    config, agent = setting(), agent_of(grad)
    config = replace(config, {"gradient.clip.max_abs": 1e-3})
    state = start(agent, config)
    args = transitions(1, 2, B), transitions(2, 16), weights()[:2]
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, LEARN, 2))
    found = flat(compute(config, state, *args).gradient, state)
    expected = differences(compute, config, state, args, LEARN)
    assert found == pytest.approx(expected, rel=1e-5)


UPDATE_CLIPS = {
    "global_norm": UpdateClip("global_norm", max_norm=0.05),
    "element": UpdateClip("element", max_abs=0.02),
}


@pytest.mark.parametrize(
    "clip", ["global_norm", pytest.param("element", marks=pytest.mark.slow)]
)
def test_a_clip_of_the_update(double_precision, transitions, clip):
    config = setting()
    config.gradient = Gradient(UPDATE_CLIPS[clip])
    agent, path = agent_of(), "gradient.update.max_norm"
    path = path if clip == "global_norm" else "gradient.update.max_abs"
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16)
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, (path,), K))
    found = float(compute(config, state, *args).gradient[path])
    expected = differences(compute, config, state, args, (path,))
    assert found == pytest.approx(expected[path], rel=1e-6)


@pytest.mark.parametrize(
    ("path", "value"),
    [("max_norm", 1.5), pytest.param("quantile", 0.4, marks=pytest.mark.slow)],
)
def test_a_clip_of_every_example(double_precision, transitions, path, value):
    config = setting()
    clip = PerExampleClip(**{path: value})
    config.gradient = Gradient(per_example=clip)
    config.network = MLP(hidden=(4,), activation="tanh")
    agent = register.get("agent", "prediction")(config, 1)
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16), weights()
    learn = ("agent.discount", "optimizer.learning_rate")
    learn += ("gradient.per_example.max_norm",) if path == "max_norm" else ()
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, learn, K))
    found = compute(config, state, *args).gradient
    expected = differences(compute, config, state, args, learn)
    for name in learn:
        assert abs(float(found[name])) > 1e-5, name
        assert float(found[name]) == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.slow
def test_a_step_size_for_each_layer(double_precision, transitions):
    config, agent = setting(), agent_of()
    config.optimizer = SGD(0.2, layer_factors={"Dense_0": 0.5, "Dense_1": 2.0})
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16)
    learn = ("optimizer.layer_factors",)
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, learn, K))
    found = compute(config, state, *args).gradient
    names = [f"optimizer.layer_factors.Dense_{i}" for i in range(2)]
    assert sorted(found) == names
    expected = differences(compute, config, state, args, names)
    for name in names:
        assert float(found[name]) == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.slow
def test_weights_are_differentiable(double_precision, transitions):
    config, agent = setting(), agent_of()
    config.gradient = Gradient()
    state = start(agent, config)
    compute = rg.meta.gradient(agent.update, outer_loss, ("agent.discount",), K)

    @jax.jit
    def loss(exponent):
        given = weights() ** exponent
        args = transitions(1, K, B), transitions(2, 16), given
        return compute(config, state, *args).loss

    # The gradient of what is returned: an outer user may differentiate further.
    slope = float(jax.jit(jax.grad(loss))(0.5))
    h = 1e-5
    expected = float((loss(0.5 + h) - loss(0.5 - h)) / (2 * h))
    assert slope == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_stop_inside_the_loss_gives_silently_wrong_ones(
    double_precision, transitions
):
    """The tutorial's loss makes the same update; its outer derivative is zero."""
    config = setting()
    args = transitions(1, K, B), transitions(2, 16)
    found = []
    for loss in (losses.td, losses.td_with_stop):
        agent = agent_of(loss=loss)
        compute = jax.jit(
            rg.meta.gradient(agent.update, outer_loss, ("optimizer.learning_rate",), K)
        )
        found.append(compute(config, start(agent, config), *args))
    right, wrong = (f.gradient["optimizer.learning_rate"] for f in found)
    np.testing.assert_allclose(found[0].loss, found[1].loss, rtol=1e-12)
    assert abs(right - wrong) > 1e-3 * abs(right)


@pytest.mark.slow
def test_control_with_a_target_network(double_precision, transitions):
    network = mlp(MLP(hidden=(4,), activation="tanh"), 2)
    agent = rg.agents.q_learning(network=network, loss=losses.expected_sarsa)
    config = Config(
        agent=QLearning(discount=0.9, target=Target(polyak=0.3)),
        optimizer=SGD(learning_rate=0.2),
    )
    config.agent.behaviour_policy.name = "softmax"
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16)

    def loss(params, data):
        q = jax.vmap(lambda s: network.apply(params, s))(data.s_tm1)
        return jnp.mean(jnp.square(q[:, 0] - data.r_t))

    learn = ("agent.discount", "agent.target.polyak")
    compute = jax.jit(rg.meta.gradient(agent.update, loss, learn, K))
    found = compute(config, state, *args).gradient
    expected = differences(compute, config, state, args, learn)
    for name in learn:
        assert float(found[name]) == pytest.approx(expected[name], rel=1e-6), name


# ----------------------------------------------------------------- where it would break


@pytest.mark.parametrize("optimizer", slow_but("adam", "rmsprop"))
def test_finite_where_the_inner_gradient_is_zero(transitions, optimizer):
    """All rewards and values zero: no inner update moves."""
    config, agent = setting(optimizer), agent_of()
    config.gradient = Gradient(UPDATE_CLIPS["global_norm"])
    learn = ("agent.discount", "optimizer.learning_rate", "gradient.update.max_norm")
    state = start(agent, config)
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    batches = transitions(1, K, B)
    batches = batches._replace(r_t=jnp.zeros((K, B)))
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, learn, K))
    found = compute(config, state, batches, transitions(2, 16))
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found.gradient))
    assert float(found.gradient["optimizer.learning_rate"]) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["global_norm", "block_rms", "per_layer", "element", "autoclip", "agc"]
)
def test_a_clip_has_a_derivative_at_zero(name):
    """A clip does nothing there: the derivative is one."""

    def step(gradient):
        config = Config(gradient=Gradient(UpdateClip(name)), optimizer=SGD(1.0))
        made = optimizers.make(config)
        params = {"layer": {"w": gradient}}
        return made.update(params, made.init(params), params)[0]["layer"]["w"]

    np.testing.assert_array_equal(jax.jacobian(step)(jnp.zeros(2)), -jnp.eye(2))


@pytest.mark.slow
@pytest.mark.parametrize("grad", MODES)
def test_finite_across_a_skipped_update(double_precision, transitions, grad):
    """The derivative is that of the other updates."""
    config, agent = setting("adam"), agent_of(grad)
    config.gradient = Gradient()
    learn = ("agent.discount", "optimizer.learning_rate", "initial_parameters")
    state, batches = start(agent, config), transitions(1, K, B)
    broken = batches._replace(r_t=batches.r_t.at[2, 0].set(jnp.inf))
    without = jax.tree.map(lambda x: jnp.delete(x, 2, axis=0), batches)
    data = transitions(2, 16)
    skipping = rg.meta.gradient(agent.update, outer_loss, learn, K)
    shorter = rg.meta.gradient(agent.update, outer_loss, learn, K - 1)
    found = jax.jit(skipping)(config, state, broken, data)
    expected = jax.jit(shorter)(config, state, without, data)
    assert int(found.diverged_at) == 2
    assert int(expected.diverged_at) == -1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15),
        found.gradient,
        expected.gradient,
    )


@pytest.mark.slow
def test_a_diverging_member_says_where_and_the_others_go_on(transitions):
    config, agent = setting(), agent_of()
    config.gradient = Gradient()
    state, data = start(agent, config), transitions(2, 16)
    batches = transitions(1, K, B)
    compute = rg.meta.gradient(
        agent.update, outer_loss, ("optimizer.learning_rate",), K
    )

    def one(rate):
        changed = replace(config, {"optimizer.learning_rate": rate})
        return compute(changed, state, batches, data)

    members = jax.jit(jax.vmap(one))
    both, others = members(jnp.array([0.1, 1e30])), members(jnp.array([0.1, 0.2]))
    assert int(both.diverged_at[0]) == -1
    assert 0 <= int(both.diverged_at[1]) < K
    assert others.diverged_at.tolist() == [-1, -1]
    np.testing.assert_allclose(both.loss[0], others.loss[0], rtol=1e-6)
    name = "optimizer.learning_rate"
    gradients = both.gradient[name], others.gradient[name]
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], rtol=1e-6)


@pytest.mark.slow
def test_it_compiles_once_for_all_numbers(transitions):
    config, agent = setting(), agent_of()
    config.gradient = Gradient()
    state = start(agent, config)
    args = transitions(1, K, B), transitions(2, 16)
    compute = jax.jit(rg.meta.gradient(agent.update, outer_loss, LEARN[:2], K))
    jax.block_until_ready(compute(config, state, *args))
    other = replace(config, {"agent.discount": 0.5, "optimizer.learning_rate": 0.01})
    before = compilation.count()
    jax.block_until_ready(compute(other, state, *args))
    assert compilation.count() == before


# ----------------------------------------------------------------------------- refusals


def pose(transitions, learn, config=None, steps=K, given=K, **options):
    config = config or setting()
    agent = agent_of()
    compute = rg.meta.gradient(agent.update, outer_loss, learn, steps, **options)
    args = transitions(1, given, B), transitions(2, 16)
    return jax.eval_shape(compute, config, start(agent, config), *args)


@pytest.mark.parametrize(
    ("learn", "message"),
    [
        (
            "training.batch_size",
            "meta.learn=training.batch_size: expected a number; it",
        ),
        ("agent.discont", "did you mean 'agent.discount'?"),
        ("agent", "meta.learn=agent: expected a number; it is a section"),
        ("agent.target.polyak", "expected a number to start from; it is null"),
        ("optimizer.layer_factors", "expected a number to start from; it is empty"),
        ("replay.exponent", "it chooses what is replayed, and what is drawn has no"),
        ("meta.noise", "expected a number outside meta"),
        ("agent.interpolation", "its meta-gradient is exactly zero"),
        ("replay.importance.exponent", "its meta-gradient is exactly zero"),
        ("gradient.update.max_norm", "its meta-gradient is exactly zero"),
    ],
)
def test_what_cannot_be_learned_is_refused(transitions, learn, message):
    with pytest.raises(ConfigError) as caught:
        pose(transitions, (learn,))
    assert message in str(caught.value)


def test_exploration_is_refused(transitions):
    with pytest.raises(ConfigError, match="it chooses actions, and what is drawn has"):
        pose(transitions, ("agent.behaviour_policy.epsilon",), Config())


def test_no_names_and_names_twice_are_refused(transitions):
    with pytest.raises(ConfigError, match="at least one name"):
        pose(transitions, ())
    with pytest.raises(ConfigError, match=r"agent\.discount: expected a name once"):
        pose(transitions, ("agent.discount", "agent.discount"))


@pytest.mark.parametrize("steps", [-1, 0, 2.0, True])
def test_a_bad_number_of_steps_is_refused(transitions, steps):
    with pytest.raises(ValueError, match=f"steps={steps!r}: expected an integer of"):
        pose(transitions, ("agent.discount",), steps=steps)


def test_another_number_of_batches_is_refused(transitions):
    with pytest.raises(ValueError, match=r"leading axis of steps=5, got \[3\]"):
        pose(transitions, ("agent.discount",), given=3)
    target = estimators.bootstrapped(target_steps=2)
    with pytest.raises(ValueError, match=r"steps=5 \+ 2 for the target, got \[5\]"):
        pose(transitions, ("agent.discount",), estimator=target)


def test_an_unknown_estimator_is_refused(transitions):
    with pytest.raises(ConfigError, match=r"did you mean 'first_order'\?"):
        pose(transitions, ("agent.discount",), estimator="first_oder")


def test_a_semi_gradient_has_no_implicit_derivative(transitions):
    with pytest.raises(ValueError, match="a TD update follows a semi-gradient"):
        pose(transitions, ("agent.discount",), estimator="implicit")


@pytest.mark.slow
def test_one_step_does_not_show_what_acts_on_the_next(transitions):
    """The target moves after the first update; only the second one reads it."""
    config = setting(target=Target(polyak=0.3))
    pose(transitions, ("agent.target.polyak",), config, steps=2, given=2)
    with pytest.raises(ConfigError, match="its meta-gradient is exactly zero"):
        pose(transitions, ("agent.target.polyak",), config, steps=1, given=1)
