"""A part of one's own that breaks its contract is refused at the door, by name."""

import jax
import jax.numpy as jnp
import optax
import pytest

import rl_grads as rg
from rl_grads import register
from rl_grads.agents.schema import QLearning
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step
from rl_grads.gradients.estimators import Estimator
from rl_grads.replay.schema import Replay
from rl_grads.td import Signals
from rl_grads.training.checks.door import check
from rl_grads.training.engine import Given

NONE = Given(None, None)
SMALL = {"replay.capacity": 100, "network.hidden": (4,), "evaluation.episodes": 1}


def config(**changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return rg.replace(rg.Config(), SMALL | changes)


def refused(found, *says):
    with pytest.raises(ConfigError) as caught:
        check(found, NONE)
    message = str(caught.value)
    assert "test_contracts.py:" in message, message
    assert "docs/extending.md" in message
    for words in says:
        assert words in message, message


def a_loss(body):
    return lambda network: lambda *args: body(network, *args)


LOSSES = {
    "forgot_the_action": (
        lambda net, p, b, t, c: (
            jnp.square(net.apply(p, t.s_tm1)),
            Signals(net.apply(p, t.s_tm1)),
        ),
        "expected a scalar loss of one transition, not float32[2]",
    ),
    "no_signals": (
        lambda net, p, b, t, c: jnp.square(t.r_t),
        "expected (scalar, Signals(td_error)) of one transition, not float32[]",
    ),
    "a_vector_of_errors": (
        lambda net, p, b, t, c: (t.r_t, Signals(net.apply(p, t.s_tm1))),
        "expected a scalar Signals.td_error, not float32[2]",
    ),
    "a_vector_of_extras": (
        lambda net, p, b, t, c: (t.r_t, Signals(t.r_t, {"q": net.apply(p, t.s_tm1)})),
        "expected a scalar Signals.extra['q'], not float32[2]",
    ),
    "raises": (
        lambda net, p, b, t, c: t.reward,
        "raised AttributeError: 'Transition' object has no attribute 'reward'",
    ),
    "reads_a_missing_key": (
        lambda net, p, b, t, c: c.agent.tau,
        "raised AttributeError: 'QLearning' object has no attribute 'tau'",
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(as_registered, name):
    body, says = LOSSES[name]
    register.loss(name)(a_loss(body))
    refused(config(agent__loss=name), f"agent.loss={name}", says)


def test_the_loss_of_an_agent_that_is_handed_over(as_registered):
    from rl_grads.agents import networks

    made = networks.make(config(), 2)
    body, says = LOSSES["forgot_the_action"]
    agent = rg.agents.q_learning(network=made, loss=a_loss(body))
    found = rg.replace(config(), {"training.total_steps": 3000})
    with pytest.raises(ConfigError, match="the loss of the agent") as caught:
        rg.train(agent, members=rg.population(found))
    assert says in str(caught.value)


def test_functions_with_other_arguments(as_registered):
    register.priority("mine")(lambda td_error: td_error)
    words = "expected a function of (signals, config), not of (td_error)"
    refused(config(replay=Replay(priority="mine")), "replay.priority=mine", words)
    register.network("one")(lambda config: None)
    found = rg.replace(config(), {"network": rg.config.SCHEMAS["network/one"]()})
    refused(found, "network=one", "(section, num_outputs), not of (config)")


def test_priorities(as_registered):
    register.priority("sum")(lambda signals, config: jnp.sum(signals.td_error))
    refused(
        config(replay=Replay(priority="sum")),
        "replay.priority=sum",
        "expected scores of the shape of a batch [B], not float32[]",
    )


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "expected something with init(key, obs) and apply(params, obs)"),
        ({"apply": lambda p, o: p["w"] @ o}, "expected outputs [2], not float32[3]"),
        ({"apply": lambda p, o: p["w"] @ p["w"]}, "raised TypeError: dot_general"),
    ],
)
def test_networks(as_registered, made, says):
    def init(key, obs):
        return {"w": jnp.zeros((3, obs.size))}

    record = None if made is None else type("N", (), {"init": staticmethod(init)})()
    if record is not None:
        record.apply = made["apply"]

    def network(section, num_outputs):
        return record

    register.network("mine")(network)
    found = rg.replace(config(), {"network": rg.config.SCHEMAS["network/mine"]()})
    refused(found, "network=mine", says)


def test_clips_and_optimizers(as_registered):
    register.clip("number")(lambda config: 1.0)
    words = "expected an optax.GradientTransformation, not float"
    refused(config(gradient__update__clip="number"), "clip=number", words)

    def sums(config):
        update = lambda g, state, params=None: (jax.tree.map(jnp.sum, g), state)  # noqa: E731
        return optax.GradientTransformation(lambda params: (), update)

    register.clip("sums")(sums)
    found = config(gradient__update__clip="sums")
    refused(found, "clip=sums", "updates of the parameters' shapes")

    @register.optimizer("broken")
    def broken(section):
        return optax.sgd(section.rate)

    found = rg.replace(config(), {"optimizer": rg.config.SCHEMAS["optimizer/broken"]()})
    refused(found, "optimizer=broken", "raised AttributeError: 'broken' object")


def test_estimators(as_registered):
    def two(config):
        return Estimator(lambda params: (), lambda state, key, about: (about.params, 1))

    register.estimator("two")(two)
    words = (
        "expected update() to return (gradient, signals, state), not (dict, int32[])"
    )
    refused(config(gradient__estimator="two"), "gradient.estimator=two", words)


def test_samplers(as_registered):
    @register.sampler("floats")
    def floats(key, stored, count, config):
        return jax.random.uniform(key, (count,))

    found = config(replay__sampler="floats")
    refused(found, "expected integer slots [count], not float32[7]")


def test_td_gradients(as_registered):
    register.td_gradient("none")(lambda loss: None)
    words = "expected a function of (params, bootstrap_params, transition, config)"
    refused(config(agent__td_gradient="none"), "td_gradient=none", words)


def test_diagnostics(as_registered):
    register.diagnostic("list")(lambda view, config: view.batch.r_t)
    found = config(diagnostics__own=("list",))
    refused(found, "expected a number, or several, not float32[7]")


def test_agents(as_registered):
    @rg.config.config
    class Mine(QLearning):
        """Nothing of its own."""

    choice = {"update": lambda state, batch, weights, config: state}

    @register.agent("mine", Mine)
    def mine(config, num_actions):
        from rl_grads.agents import networks

        network = networks.make(config, num_actions)
        return rg.agents.q_learning(network=network)._replace(**choice)

    found = config(agent=Mine())
    refused(found, "agent=mine", "expected update() to return (state, Update)")
    choice = {"act": lambda state, key, obs, config: obs}
    refused(found, "expected act() to return an integer action, not float32[4]")
    choice = {"init": lambda key, obs, config: {"w": obs}}
    refused(found, "expected init() to return an AgentState, not dict")


def test_an_agent_without_a_schema(as_registered):
    @register.agent("bare")
    def bare(config, num_actions):
        raise AssertionError

    found = config(agent=rg.config.SCHEMAS["agent/bare"]())
    refused(found, "agent=bare", "a schema with `discount` beside its name")


OBS = jax.ShapeDtypeStruct((2,), jnp.float32)


def an_environment(**changes):
    def step(key, state, action):
        ends = jnp.bool_(False), jnp.bool_(False)
        return state, Step(jnp.zeros(2), jnp.float32(0), *ends, jnp.zeros(2))

    made = Environment("mine", lambda key: (0, jnp.zeros(2)), step, OBS, num_actions=2)
    return made._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reset": lambda key: jnp.zeros(2)}, "expected reset(key) -> (state, obs)"),
        ({"reset": lambda key: (0, jnp.zeros(3))}, "reset() has float32[3]"),
        ({"step": lambda k, s, a: s}, "step(key, state, action) -> (state, Step)"),
        ({"step": lambda k, s: s}, "raised TypeError"),
        ({"observation": jax.ShapeDtypeStruct((2,), jnp.uint8)}, "uint8[2]"),
    ],
)
def test_environments(as_registered, changes, says):
    def mine(section):
        return an_environment(**changes)

    register.env("mine")(mine)
    refused(config(env__id="mine"), "env=mine", says)


def test_an_environment_that_cannot_be_made(as_registered):
    @register.env("mine")
    def mine(section):
        return 1 / section.params.get("size", 0)

    refused(config(env__id="mine"), "env=mine", "raised ZeroDivisionError")
    register._COMPONENTS["env"]["mine"] = lambda section: "CartPole"
    refused(config(env__id="mine"), "expected an rl_grads Environment, not str")


def test_good_parts_pass_and_built_in_ones_are_not_looked_at(
    as_registered, monkeypatch
):
    from rl_grads.training.checks import contracts

    for kind in contracts._CHECKS:
        monkeypatch.setitem(contracts._CHECKS, kind, None)
    check(config(), NONE)


def test_every_kind_has_its_contract():
    from rl_grads.training.checks import contracts

    kinds = set(register.KINDS)
    assert set(contracts.ARGUMENTS) == kinds
    assert set(contracts._CHECKS) == set(contracts._ORDER) == kinds
