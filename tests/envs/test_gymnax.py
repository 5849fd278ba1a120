"""Gymnax environments keep the contract."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError
from rl_grads.envs import gymnax

CONTINUOUS = (
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "PointRobot-misc",
    "Reacher-misc",
    "Swimmer-misc",
)
QUICK = ("Acrobot-v1", "Breakout-MinAtar", "FrozenLake-misc")
DISCRETE = tuple(n for n in gymnax.names() if n not in CONTINUOUS)
EVERY = [
    pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in DISCRETE
]
PROGRAM = """
import sys
import jax, jax.numpy as jnp
if "--x64" in sys.argv:
    jax.config.update("jax_enable_x64", True)
from rl_grads.envs import gymnax
@jax.jit
def roll(key):
    environment = gymnax.make(sys.argv[1], {"max_steps_in_episode": jnp.float32(50)})
    state, obs = environment.reset(key)
    def one(state, key):
        action = jax.random.randint(key, (), 0, environment.num_actions, jnp.int32)
        state, result = environment.step(key, state, action)
        return state, (result.obs, result.reward)
    return jax.lax.scan(one, state, jax.random.split(key, 30))[1]
obs, reward = roll(jax.random.key(0))
gymnax.make(sys.argv[1], {})
print(obs.dtype, reward.dtype, obs.tolist())
"""
IMPORTS = """
import sys
import jax
from rl_grads.envs import gymnax
gymnax.make("CartPole-v1", {})
heavy = [m for m in sys.modules if m.split(".")[0] in ("matplotlib", "pandas", "scipy",
    "seaborn", "six")]
assert not heavy, heavy
from gymnax.environments.bsuite import catch
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import importlib.util
assert type(plt).__name__ == "module" and plt.__file__, plt
assert importlib.util.find_spec("matplotlib.colors").origin.endswith(".py")
assert matplotlib.pyplot is plt
assert catch.plt.subplots is plt.subplots
from gymnax.environments.misc import pong
assert pong.colors.ListedColormap is matplotlib.colors.ListedColormap
"""


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rollout(environment, key, num_steps, policy=None):
    """First state and observation, last state, and every step of one instance."""

    def act(key, obs):
        if policy is not None:
            return policy(obs)
        return jax.random.randint(key, (), 0, environment.num_actions)

    def one(carry, key):
        state, obs = carry
        action_key, step_key = jax.random.split(key)
        state, result = environment.step(step_key, state, act(action_key, obs))
        return (state, result.obs), result

    reset_key, key = jax.random.split(key)
    first = environment.reset(reset_key)
    last, steps = jax.lax.scan(one, first, jax.random.split(key, num_steps))
    return first, last[0], steps


def small_mnist():
    images = np.full((3, 28, 28), 255, np.uint8)
    return (images, np.array([4, 5, 6], np.uint8)), None


@pytest.fixture
def mnist(monkeypatch):
    """Sets what loads the pictures; no environment made with it stays behind."""

    def use(load):
        module = sys.modules["gymnax.environments.bsuite.mnist"]
        monkeypatch.setattr(module, "load_mnist", SimpleNamespace(load_mnist=load))
        gymnax._game.cache_clear()

    yield use
    gymnax._game.cache_clear()


@pytest.mark.parametrize("name", EVERY)
def test_every_id_keeps_the_contract(name, mnist):
    mnist(small_mnist)
    environment = gymnax.make(name, {})
    roll = jax.jit(jax.vmap(lambda key: rollout(environment, key, 40)))
    first, last, steps = roll(jax.random.split(jax.random.key(0), 3))
    spec = environment.observation
    for obs in (steps.obs, steps.final_obs):
        assert obs.shape == (3, 40, *spec.shape) and obs.dtype == spec.dtype
    assert first[1].shape == (3, *spec.shape) and first[1].dtype == spec.dtype
    assert steps.reward.shape == (3, 40) and steps.reward.dtype == jnp.float32
    assert steps.terminated.dtype == steps.truncated.dtype == jnp.bool_
    ended = np.asarray(steps.terminated | steps.truncated)
    assert not np.any(steps.terminated & steps.truncated)
    np.testing.assert_array_equal(steps.obs[~ended], steps.final_obs[~ended])
    types = [
        jax.tree.map(lambda x: (x.dtype, x.weak_type), s) for s in (first[0], last)
    ]
    assert types[0] == types[1]
    if spec.dtype == jnp.uint8:
        assert set(np.unique(steps.obs)) == {0, 1}


def test_a_data_set_that_cannot_be_had_is_named(mnist):
    def offline():
        raise OSError("no route to the pictures")

    mnist(offline)
    with pytest.raises(ConfigError, match=r"MNISTBandit-bsuite.*no route to the pict"):
        gymnax.check("MNISTBandit-bsuite", {})


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_actions_are_refused(name):
    with pytest.raises(ConfigError) as error:
        gymnax.make(name, {})
    assert str(error.value) == (
        f"env.id='gymnax/{name}': continuous actions; the agents here need discrete "
        "ones"
    )


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError) as error:
        gymnax.check("CartPol-v1", {})
    assert str(error.value) == (
        "env.id='gymnax/CartPol-v1': gymnax has no such id; did you mean "
        "'gymnax/CartPole-v1'?"
    )
    with pytest.raises(ConfigError, match=r"gravitty=5.0.*did you mean 'gravity'\?"):
        gymnax.check("CartPole-v1", {"gravitty": 5.0})
    with pytest.raises(ConfigError, match="available_torque"):
        gymnax.check("Acrobot-v1", {"available_torque": 1.0})


@pytest.mark.parametrize(
    ("name", "limit"),
    [("CartPole-v1", 500), ("MountainCar-v0", 200), ("Acrobot-v1", 500)],
)
def test_step_caps_are_those_of_gymnasium(name, limit):
    assert gymnax.make(name, {}).time_limit == limit
    assert gymnasium.spec(name).max_episode_steps == limit


@pytest.mark.parametrize(
    ("game", "num_actions", "limit"),
    [
        ("Asterix", 5, 1000),
        ("Breakout", 3, 1000),
        ("Freeway", 3, 2500),
        ("Seaquest", 6, 1000),
        ("SpaceInvaders", 4, 1000),
    ],
)
def test_minatar_is_what_the_documentation_says(game, num_actions, limit):
    environment = gymnax.make(f"{game}-MinAtar", {})
    assert (environment.num_actions, environment.time_limit) == (num_actions, limit)


def test_a_falling_pole_terminates_and_is_not_truncated():
    environment = gymnax.make("CartPole-v1", {})
    roll = jax.jit(lambda key: rollout(environment, key, 200, lambda obs: jnp.int32(1)))
    _, _, steps = roll(jax.random.key(1))
    ends = np.flatnonzero(steps.terminated)
    assert len(ends) > 10 and not np.any(steps.truncated)
    angle, position = steps.final_obs[ends, 2], steps.final_obs[ends, 0]
    assert np.all((np.abs(angle) > 12 * np.pi / 180) | (np.abs(position) > 2.4))
    assert np.all(np.abs(steps.obs[ends]) <= 0.05)


def test_a_pole_that_cannot_fall_is_truncated_at_step_500():
    free = {"theta_threshold_radians": 1e9, "x_threshold": 1e9}
    environment = gymnax.make("CartPole-v1", free)
    _, _, steps = jax.jit(lambda key: rollout(environment, key, 1001))(
        jax.random.key(0)
    )
    assert np.flatnonzero(steps.truncated).tolist() == [499, 999]
    assert not np.any(steps.terminated)
    assert np.all(np.abs(steps.obs[499]) <= 0.05)
    assert np.any(np.abs(steps.final_obs[499]) > 0.05)
    assert environment.time_limit == 500


def test_parameters_may_be_tracers_and_are_inputs_of_one_program():
    def after_two_steps(gravity, cap):
        changes = {"gravity": gravity, "max_steps_in_episode": cap}
        environment = gymnax.make("CartPole-v1", changes)
        assert environment.time_limit == 1
        _, _, steps = rollout(environment, jax.random.key(0), 6)
        return steps.final_obs[1], steps.truncated

    gravity, cap = jnp.array([9.8, 0.0]), jnp.array([3.0, 2.0])
    obs, truncated = jax.jit(jax.vmap(after_two_steps))(gravity, cap)
    assert obs[0, 3] != obs[1, 3] and obs[0, 1] != obs[1, 1]
    assert np.flatnonzero(truncated[0]).tolist() == [2, 5]
    assert np.flatnonzero(truncated[1]).tolist() == [1, 3, 5]


def test_cartpole_moves_as_in_gymnasium():
    original: Any = gymnasium.make("CartPole-v1").unwrapped
    original.reset(seed=0)
    environment = gymnax.make("CartPole-v1", {})
    state, obs = environment.reset(jax.random.key(3))
    original.state = tuple(float(x) for x in obs)
    for action in (0, 1, 1, 0, 1, 0, 0, 1):
        state, result = environment.step(jax.random.key(0), state, jnp.int32(action))
        expected = original.step(action)
        np.testing.assert_allclose(result.final_obs, expected[0], atol=1e-5)
        assert (result.reward, result.terminated) == expected[1:3]


def test_a_discrete_observation_is_one_hot():
    environment = gymnax.make("FrozenLake-misc", {})
    _, obs = environment.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, np.eye(16, dtype=np.float32)[0])


def test_the_simple_bandit_has_nothing_to_learn():
    """As docs/environments.md says: the arms are shuffled at every reset."""
    environment = gymnax.make("SimpleBandit-bsuite", {})
    always = jax.jit(
        lambda key: rollout(environment, key, 4000, lambda obs: jnp.int32(7))
    )
    _, _, steps = always(jax.random.key(0))
    assert np.all(steps.terminated)
    # Eleven arms 0, 0.1 .. 1: mean 1/2, variance 1/10; 4 standard errors.
    assert abs(float(np.mean(steps.reward)) - 0.5) < 4 * np.sqrt(0.1 / 4000)


@pytest.mark.parametrize(
    "name", ["FourRooms-misc", pytest.param("Catch-bsuite", marks=pytest.mark.slow)]
)
def test_made_first_inside_a_trace_and_alike_in_float64(name):
    single, double = run(PROGRAM, name), run(PROGRAM, name, "--x64")
    assert single == double
    assert single.startswith("float32 float32")


def test_plotting_libraries_are_imported_on_use_only():
    run(IMPORTS)


def test_a_state_is_strongly_typed_op_by_op_too():
    environment = gymnax.make("CartPole-v1", {})
    with jax.disable_jit():
        state, _ = environment.reset(jax.random.key(0))
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(1))
    compiled = jax.jit(environment.reset)(jax.random.key(0))[0]
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == [
        leaf.dtype for leaf in jax.tree.leaves(compiled)
    ]
