"""What a run measures of its gradients and of its network."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.agent import AgentState
from rl_grads.agents.schema import MLP, Linear, Prediction
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD
from rl_grads.replay.schema import Replay
from rl_grads.td.transition import Transition
from rl_grads.tracking.metrics import METRICS
from rl_grads.training import engine, run
from rl_grads.training.diagnostics import health
from rl_grads.training.diagnostics.schema import Diagnostics
from rl_grads.training.member import MemberState, Parts

pytestmark = pytest.mark.slow

ALL = {
    "diagnostics.noise_scale": True,
    "diagnostics.layer_norms": True,
    "diagnostics.nonfinite_examples": True,
    "diagnostics.interference": True,
    "diagnostics.update_ratios": True,
    "diagnostics.dormant_threshold": 0.025,
    "diagnostics.rank_threshold": 0.01,
    "diagnostics.examples": 128,
}
WALK = {
    "agent": Prediction(),
    "env.id": "chain/random_walk",
    "network": MLP(hidden=(8, 4)),
    "replay": Replay(capacity=400),
    "evaluation.interval": None,
    "tracking.progress": False,
    "tracking.interval": 100,
    "training.total_steps": 300,
    "training.warmup_steps": 200,
    "training.batch_size": 8,
    "optimizer.learning_rate": 1e-4,  # So that a gradient is left to be seen.
}


def config(**changes):
    return rg.replace(rg.Config(), WALK | changes)


# ------------------------------------------------------------------------- by hand


def transitions(s_tm1, r_t):
    """Transitions that end, so that the TD error is the reward minus the value."""
    s_tm1, r_t = jnp.array(s_tm1), jnp.array(r_t)
    ended = jnp.ones(len(r_t), bool)
    zeros = jnp.zeros(len(r_t))
    return Transition(s_tm1, zeros, r_t, s_tm1, ended, ~ended, zeros, zeros + 1)


def measured(network, params, batch, slots=None, **diagnostics):
    """`health.measure` of an agent with these parameters, on this batch."""
    value = rg.replace(config(), {"diagnostics": Diagnostics(**diagnostics)})
    agent = rg.agents.prediction(network=network)
    parts = Parts(agent, None, None, value)
    state = AgentState(params, None, None, (), jnp.int32(0), jax.random.key(0))
    member = MemberState(state, *[None] * 6)
    slots = jnp.arange(len(batch.r_t)) if slots is None else slots

    def loss(params, one):
        return agent.loss(params, params, one, value)

    view = health.View(batch, slots, loss, jax.random.key(0), state)
    found = health.measure(parts, member, jnp.int32(0), view)
    return {name.removeprefix("diagnostics/"): float(v) for name, v in found.items()}


LINEAR = nn.Dense(1, use_bias=False)
ZERO = {"params": {"kernel": jnp.zeros((2, 1))}}


def test_gradients_of_a_linear_value():
    # With weights of zero a gradient is -r * s: (-2, 0) and (-1, -1).
    batch = transitions([[1.0, 0.0], [1.0, 1.0]], [2.0, 1.0])
    asked = dict.fromkeys(ALL, True)
    asked = {name.partition(".")[2]: True for name in list(asked)[:4]}
    found = measured(LINEAR, ZERO, batch, **asked)
    expected = {
        "noise_scale": 0.5,
        "nonfinite_examples": 0.0,
        "gradient_norm/all": 2.5**0.5,
        "interference/cosine": 0.5**0.5,
        "interference/negative": 0.0,
        "interference/product": 2.0,
    }
    assert found == pytest.approx(expected, rel=1e-6)


def test_an_example_that_is_not_finite_is_counted_and_left_out():
    batch = transitions([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]], [2.0, 1.0, jnp.inf])
    found = measured(
        LINEAR,
        ZERO,
        batch,
        noise_scale=True,
        layer_norms=True,
        nonfinite_examples=True,
        interference=True,
    )
    assert found["nonfinite_examples"] == pytest.approx(1 / 3)
    assert found["noise_scale"] == pytest.approx(0.5)
    assert found["gradient_norm/all"] == pytest.approx(2.5**0.5)
    assert found["interference/product"] == pytest.approx(2.0)


def test_an_example_drawn_twice_is_no_pair():
    batch = transitions([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 1.0])
    slots = jnp.array([5, 5, 6])
    found = measured(LINEAR, ZERO, batch, slots, interference=True)
    assert found["interference/cosine"] == 0.0


def test_units_of_a_relu_layer():
    network = rg.register.get("network", "mlp")(MLP(hidden=(4,)), 1)
    params = {
        "params": {
            "Dense_0": {
                "kernel": jnp.array([[1.0, -1.0, 1.0, 0.001]]),
                "bias": jnp.zeros(4),
            },
            "Dense_1": {"kernel": jnp.ones((4, 1)), "bias": jnp.zeros(1)},
        }
    }
    batch = transitions([[1.0], [3.0]], [0.0, 0.0])
    found = measured(
        network, params, batch, dormant_threshold=0.025, rank_threshold=0.01
    )
    # Activations (1, 0, 1, .001) times the observation.
    assert found == {"dormant/torso": 0.5, "dormant/all": 0.5, "effective_rank": 1.0}
    found = measured(network, params, batch, dormant_threshold=0.001)
    assert found == {"dormant/torso": 0.25, "dormant/all": 0.25}


def test_what_is_off_is_not_in_the_program():
    batch = transitions([[1.0, 0.0]], [2.0])
    assert measured(LINEAR, ZERO, batch) == {}


# ------------------------------------------------------------------------- in a run


def pattern(name):
    """A metric's name with what depends on the network in capitals."""
    for prefix, kind in (
        ("gradient_norm", "LAYER"),
        ("update_ratio", "LAYER"),
        ("dormant", "PLACE"),
    ):
        if name.startswith(f"diagnostics/{prefix}/"):
            return f"diagnostics/{prefix}/{kind}"
    return name


@functools.cache
def everything():
    """A run with all of it on; no fixture, so that it compiles as the tests do."""
    return rg.train(members=rg.population(config(**ALL), seeds=range(2)))


def test_a_run_logs_all_of_it():
    on = everything()
    found = {pattern(name) for name in on.metrics}
    declared = {m.name for m in METRICS}
    wanted = {name for name in declared if name.startswith("diagnostics/")}
    assert wanted <= found <= declared
    for name, values in on.metrics.items():
        if name.startswith("diagnostics/"):
            assert values.shape == (2, 1)
            assert np.isfinite(values).all(), name
    assert {n for n in on.metrics if n.startswith("diagnostics/gradient_norm")} == {
        f"diagnostics/gradient_norm/Dense_{i}" for i in range(3)
    }
    rank = on.metrics["diagnostics/effective_rank"]
    assert ((rank >= 1) & (rank <= 4)).all()
    assert set(on.summary()) >= {"diagnostics/noise_scale"}


def test_it_does_not_change_the_run():
    on = everything()
    off = rg.train(members=rg.population(config(), seeds=range(2)))
    jax.tree.map(np.testing.assert_array_equal, on.params, off.params)
    assert not any(name.startswith("diagnostics/") for name in off.metrics)
    for name, values in off.metrics.items():
        np.testing.assert_array_equal(values, on.metrics[name])


def test_the_ratio_is_that_of_an_update():
    value = config(
        **{
            "diagnostics.update_ratios": True,
            "optimizer": SGD(learning_rate=0.1),
            "network": Linear(initial_value=0.5),
            "training.batch_size": 64,
        }
    )
    sweep = {"optimizer.learning_rate": [0.1, 0.2]}
    members = rg.population(value, seeds=range(1), sweep=sweep)
    the = run.plan_for(engine.Given(None, None), members)
    found = the.engine.diagnose(the.configs, run.start(the).members, 200)
    one, two = found["diagnostics/update_ratio/all"].value
    np.testing.assert_allclose(two, 2 * one, rtol=1e-5)
    # Features are one-hot and TD errors at most .5: so is the gradient, and |w| is
    # 0.5 * sqrt(5).
    assert 0 < one <= 0.1 * 0.5 / (0.5 * 5**0.5)


@pytest.mark.parametrize("loss", ["double_q_learning", "sarsa"])
def test_control_agents(loss):
    changes = ALL | {
        "agent": rg.Config().agent,
        "agent.loss": loss,
        "agent.target.polyak": 0.01,
        "env.id": "gymnax/CartPole-v1",
    }
    result = rg.train(members=rg.population(config(**changes)))
    assert np.isfinite(result.metrics["diagnostics/interference/cosine"]).all()


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", [name for name in ALL if "examples" not in name[-9:]])
def test_without_a_memory_it_is_refused(name):
    value = config(**{name: ALL[name], "replay": None})
    with pytest.raises(ConfigError, match=rf"{name}=.*: expected .* replay is null"):
        rg.train(members=rg.population(value))


@pytest.mark.parametrize("name", ["dormant_threshold", "rank_threshold"])
def test_a_network_without_places_is_refused(name):
    value = config(**{f"diagnostics.{name}": 0.01, "network": Linear()})
    message = rf"diagnostics.{name}=0.01: expected null: the network announces no place"
    with pytest.raises(ConfigError, match=message):
        rg.train(members=rg.population(value))


def test_a_network_without_a_torso_has_no_rank():
    class Odd(nn.Module):
        sites = ("middle",)

        @nn.compact
        def __call__(self, x, at_site=lambda name, x: x):
            return nn.Dense(1)(at_site("middle", nn.Dense(2)(x)))

    params = Odd().init(jax.random.key(0), jnp.ones(2))
    batch = transitions([[1.0, 0.0]], [2.0])
    find = functools.partial(measured, Odd(), params, batch)
    assert set(find(dormant_threshold=0.025)) == {"dormant/middle", "dormant/all"}
    with pytest.raises(ConfigError, match=r"a place 'torso'.* announces middle"):
        find(rank_threshold=0.01)


@pytest.mark.parametrize(
    ("key", "value"), [("dormant_threshold", -1.0), ("rank_threshold", 1.5)]
)
def test_thresholds_have_a_domain(key, value):
    with pytest.raises(ConfigError, match=f"diagnostics.{key}={value}: expected"):
        rg.population(config(**{f"diagnostics.{key}": value}))
