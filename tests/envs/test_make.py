"""From `env.id` to an environment."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from rl_grads import register
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step
from rl_grads.envs.make import check, make, names
from rl_grads.envs.schema import Env, Wrappers


def steady(config):
    """One state; the reward is a parameter."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action):
        reward = jnp.asarray(config.params.get("reward", 1.0), jnp.float32)
        no = jnp.array(False)
        return state, Step(jnp.zeros(1), reward, no, no, jnp.zeros(1))

    spec = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment(config.id, reset, step, spec, num_actions=2)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(register._COMPONENTS["env"], "steady", steady)
    monkeypatch.setitem(register._COMPONENTS["env"], "mine/steady", steady)
    monkeypatch.setitem(register._COMPONENTS["env"], "wrong", lambda config: None)


@pytest.mark.parametrize(
    ("name", "num_actions"),
    [
        ("gymnax/CartPole-v1", 2),
        ("gymnasium/FrozenLake-v1", 4),
        ("steady", 2),
        ("mine/steady", 2),
    ],
)
def test_every_suite(name, num_actions):
    environment = make(Env(id=name))
    assert (environment.name, environment.num_actions) == (name, num_actions)


def test_every_chain():
    from rl_grads.envs import chain

    assert len(chain.names()) > 0
    for name in chain.names():
        assert make(Env(id=f"chain/{name}")).name == f"chain/{name}"


def test_parameters_and_wrappers_are_traced():
    traces = []

    @jax.jit
    def reward(params, scale):
        traces.append(1)
        wrappers = Wrappers(reward_scale=scale)
        environment = make(Env(id="steady", params=params, wrappers=wrappers))
        state, _ = environment.reset(jax.random.key(0))
        return environment.step(jax.random.key(0), state, jnp.int32(0))[1].reward

    assert reward({"reward": 3.0}, 2.0) == 6.0
    assert reward({"reward": 5.0}, 0.5) == 2.5
    assert len(traces) == 1


def test_wrappers_are_applied():
    environment = make(Env(id="gymnax/CartPole-v1", wrappers=Wrappers(frame_stack=4)))
    assert environment.observation.shape == (4, 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Env(id="gymnaxx/CartPole-v1"),
            "env.id='gymnaxx/CartPole-v1': expected gymnax/ID, gymnasium/ID, "
            "chain/NAME or a registered name; did you mean 'gymnax/CartPole-v1'?",
        ),
        (
            Env(id="CartPole-v1"),
            "env.id='CartPole-v1': expected gymnax/ID, gymnasium/ID, "
            "chain/NAME or a registered name; did you mean 'gymnax/CartPole-v1'?",
        ),
        (
            Env(id="stedy"),
            "env.id='stedy': expected gymnax/ID, gymnasium/ID, chain/NAME or a "
            "registered name; did you mean 'steady'?",
        ),
        (
            Env(id="gymnax/"),
            "env.id='gymnax/': expected gymnax/ID, gymnasium/ID, chain/NAME or a "
            "registered name",
        ),
        (
            Env(id="gymnasium/FrozenLake-v1", params={"slippery": 0.0}),
            "env.params.slippery=0.0: expected nothing; only gymnax and registered "
            "environments have parameters, not gymnasium/FrozenLake-v1",
        ),
    ],
)
def test_bad_ids(config, message):
    with pytest.raises(ConfigError) as error:
        check(config)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Env(id="gymnax/Breakout-MinAta"), "did you mean 'gymnax/Breakout-MinAtar'"),
        (Env(id="gymnasium/LunarLander-v2"), "mean 'gymnasium/LunarLander-v3'"),
        (Env(id="chain/walk"), "env.id='chain/walk': expected one of chain/"),
        (Env(params={"masspol": 1.0}), "env.params.masspol=1.0: .* mean 'masspole'"),
    ],
)
def test_the_suites_own_refusals_reach_the_door(config, message):
    with pytest.raises(ConfigError, match=message):
        check(config)
    with pytest.raises(ConfigError, match=message):
        make(config)


def test_a_registered_function_must_return_an_environment():
    check(Env(id="wrong"))
    with pytest.raises(ConfigError) as error:
        make(Env(id="wrong"))
    message = str(error.value)
    assert message.startswith("env=wrong (tests/envs/test_make.py:")
    assert "expected an rl_grads Environment, not NoneType" in message


def test_names_are_accepted():
    known = names()
    assert {"steady", "gymnax/CartPole-v1", "gymnasium/CartPole-v1"} < set(known)
    assert len(known) == len(set(known))


def test_one_suite_does_not_import_another():
    from rl_grads.envs import chain

    program = (
        "import sys; from rl_grads.envs.make import check;"
        "from rl_grads.envs.schema import Env;"
        f"check(Env(id='chain/{chain.names()[0]}'));"
        "assert not {'gymnax', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
