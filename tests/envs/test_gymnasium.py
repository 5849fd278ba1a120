"""Gymnasium environments inside compiled programs."""

import functools
import importlib.util
import json
import subprocess
import sys

import gymnasium as original
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import vector

from rl_grads.config import ConfigError
from rl_grads.envs import gymnasium, gymnasium_game

needs_box2d = pytest.mark.skipif(
    importlib.util.find_spec("Box2D") is None, reason="Box2D is not installed"
)
SHARDED = """
import sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from rl_grads.envs import gymnasium, gymnasium_game
environment = gymnasium.make("CartPole-v1")
def one(key):
    state, obs = environment.reset(key)
    def step(state, key):
        state, result = environment.step(key, state, jax.random.randint(key, (), 0, 2))
        return state, result.final_obs
    state, obs = jax.lax.scan(step, state, jax.random.split(key, 50))
    return state, obs.sum()
mesh = jax.make_mesh((int(sys.argv[1]),), ("m",), axis_types=(AxisType.Auto,))
spread = jax.shard_map(jax.vmap(jax.vmap(one)), mesh=mesh, in_specs=P("m"),
    out_specs=P("m"), check_vma=False)
run = jax.jit(spread)
keys = jax.random.split(jax.random.key(0), (4, 3))
for _ in range(5):
    state, total = run(keys)
handles = sorted(set(state.handle.ravel().tolist()))
print(len(handles), state.counter.ravel().tolist() == [50] * 12, total.tolist())
"""


class Odd(original.Env):
    """Counts up in a byte image; actions 5 and 6; truncates itself at 3."""

    action_space = original.spaces.Discrete(2, start=5)
    observation_space = original.spaces.Box(0, 255, (2, 2), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros((2, 2), np.uint8), {}

    def step(self, action):
        self.time += 1
        obs = np.full((2, 2), self.time, np.uint8)
        return obs, float(action), False, self.time == 3, {}


class Both(Odd):
    """Terminates in the step in which its time is up."""

    observation_space = original.spaces.Discrete(5, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return -1, {}

    def step(self, action):
        self.time += 1
        return self.time, 1.0, self.time == 2, self.time == 2, {}


SHARED = {name: np.zeros((), np.float32) for name in ("reward", "ended", "cut")}
SHARED["obs"] = np.zeros(2, np.float32)


class Reused(original.Env):
    """Counts up in arrays that all instances share; its time is up at 3.

    Every info is named like those that Gymnasium's vector environments add.
    """

    action_space = original.spaces.Discrete(2)
    observation_space = original.spaces.Box(-1, 9, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        for array in SHARED.values():
            array[...] = 0
        return SHARED["obs"], {"final_obs": SHARED["obs"]}

    def step(self, action):
        self.time += 1
        for name, value in {"obs": self.time, "reward": 10 * self.time}.items():
            SHARED[name][...] = value
        SHARED["cut"][...] = self.time == 3
        info = {"final_obs": SHARED["obs"], "_final_obs": SHARED["cut"]}
        return SHARED["obs"], SHARED["reward"], SHARED["ended"], SHARED["cut"], info


class Many(original.Env):
    """A million states, of which it counts up the last."""

    action_space = original.spaces.Discrete(2)
    observation_space = original.spaces.Discrete(1_000_000, start=-3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 999_995, {}

    def step(self, action):
        return 999_996 + int(action), 1.0, False, False, {}


OWN = {"Odd-v0": Odd, "Both-v0": Both, "Reused-v0": Reused, "Many-v0": Many}


@pytest.fixture(autouse=True)
def registered():
    for name, kind in OWN.items():
        original.register(name, lambda kind=kind, **_: kind())
    yield
    for name in OWN:
        del original.registry[name]
    gymnasium.close()


def rollout(environment, key, actions):
    """Seed, first observation and every step of one instance."""

    def one(state, action):
        return environment.step(key, state, action)

    state, obs = environment.reset(key)
    _, steps = jax.lax.scan(one, state, actions)
    return jax.random.bits(key, dtype=jnp.uint32) >> 1, obs, steps


def plain(name, encode, seed, actions):
    """The same by Gymnasium alone."""
    env = original.make(name)
    obs, _ = env.reset(seed=int(seed))
    first, steps = encode(obs), []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        final_obs = obs
        if terminated or truncated:
            obs, _ = env.reset()
        cut = truncated and not terminated
        steps.append(
            (encode(obs), np.float32(reward), terminated, cut, encode(final_obs))
        )
    return first, [np.stack(x) for x in zip(*steps, strict=True)]


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("CartPole-v1", "terminated"),
        ("MountainCar-v0", "truncated"),
        ("FrozenLake-v1", "terminated"),
        pytest.param("LunarLander-v3", "terminated", marks=needs_box2d),
    ],
)
def test_equals_gymnasium_step_by_step(name, ends):
    environment = gymnasium.make(name)
    size = environment.observation.shape[0]
    keys = jax.random.split(jax.random.key(7), (2, 3))
    actions = jax.random.randint(
        jax.random.key(8), (2, 3, 450), 0, environment.num_actions
    )
    roll = jax.vmap(jax.vmap(lambda key, act: rollout(environment, key, act)))
    seeds, obs, steps = jax.jit(roll)(keys, actions)
    assert np.all(np.sum(getattr(steps, ends), axis=-1) >= 2)

    def encode(obs):
        return np.eye(size)[obs] if np.ndim(obs) == 0 else np.asarray(obs)

    for row in np.ndindex(2, 3):
        first, expected = plain(name, encode, seeds[row], np.asarray(actions[row]))
        np.testing.assert_array_equal(obs[row], first)
        for got, want in zip(steps, expected, strict=True):
            np.testing.assert_array_equal(got[row], want)


def test_seeds_are_independent_and_reproducible():
    environment = gymnasium.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), (5, 4))
    _, obs = jax.jit(jax.vmap(jax.vmap(environment.reset)))(keys)
    assert len(np.unique(obs[..., 0])) == 20
    _, alone = environment.reset(keys[3, 2])
    np.testing.assert_array_equal(alone, obs[3, 2])


def test_nested_vmaps_make_one_call_per_step(monkeypatch):
    sizes = []
    step = gymnasium._Pool.step
    monkeypatch.setattr(
        gymnasium._Pool, "step", lambda self, a: sizes.append(len(a)) or step(self, a)
    )
    environment = gymnasium.make("CartPole-v1")
    roll = jax.vmap(jax.vmap(lambda key, act: rollout(environment, key, act)))
    roll = jax.jit(jax.vmap(roll))
    keys = jax.random.split(jax.random.key(7), (2, 3, 4))
    jax.block_until_ready(roll(keys, jnp.zeros((2, 3, 4, 10), jnp.int32)))
    assert sizes == [24] * 10


def test_bytes_first_actions_and_truncation_by_the_environment_itself():
    environment = gymnasium.make("Odd-v0")
    assert environment.observation == jax.ShapeDtypeStruct((2, 2), jnp.uint8)
    assert environment.time_limit == 1 and not environment.resamples
    actions = jnp.array([0, 1, 0, 1])
    _, obs, steps = jax.jit(lambda: rollout(environment, jax.random.key(0), actions))()
    assert obs.dtype == jnp.uint8
    assert steps.reward.tolist() == [5.0, 6.0, 5.0, 6.0]
    assert steps.truncated.tolist() == [False, False, True, False]
    assert steps.obs[:, 0, 0].tolist() == [1, 2, 0, 1]
    assert steps.final_obs[:, 1, 1].tolist() == [1, 2, 3, 1]


def test_the_same_arrays_at_every_step_are_copied():
    environment = gymnasium.make("Reused-v0")

    def roll(key):
        return rollout(environment, key, jnp.zeros(4, jnp.int32))

    _, obs, steps = jax.jit(jax.vmap(roll))(jax.random.split(jax.random.key(0), 2))
    assert obs.tolist() == [[0.0, 0.0]] * 2
    assert steps.truncated.tolist() == [[False, False, True, False]] * 2
    assert steps.reward.tolist() == [[10.0, 20.0, 30.0, 10.0]] * 2
    assert steps.obs[..., 0].tolist() == [[1.0, 2.0, 0.0, 1.0]] * 2
    assert steps.final_obs[..., 1].tolist() == [[1.0, 2.0, 3.0, 1.0]] * 2


@pytest.mark.parametrize("kind", [vector.SyncVectorEnv, vector.AsyncVectorEnv])
def test_either_vector_environment_gets_copies(kind):
    game = gymnasium.game_of("Reused-v0")
    game = game._replace(encoding=None)  # Of functions that no process can be sent.
    one = functools.partial(gymnasium._instance, game)
    options = {"context": "spawn"} if kind is vector.AsyncVectorEnv else {}
    envs = kind([one, one], autoreset_mode=vector.AutoresetMode.SAME_STEP, **options)
    envs.reset(seed=0)
    *_, last = [envs.step(np.zeros(2, np.int64)) for _ in range(3)]
    envs.close()
    obs, reward, _, truncated, info = last
    assert (obs.tolist(), reward.tolist()) == ([[0.0, 0.0]] * 2, [30.0, 30.0])
    assert truncated.tolist() == [True, True]
    assert np.stack(info["final_obs"]).tolist() == [[3.0, 3.0]] * 2


def test_a_million_states_become_one_hot_inside_the_program():
    environment = gymnasium.make("Many-v0")
    assert environment.observation == jax.ShapeDtypeStruct((1_000_000,), jnp.float32)
    actions = jnp.array([0, 0, 1])
    roll = jax.jit(lambda key: rollout(environment, key, actions[:2]))
    _, obs, steps = roll(jax.random.key(0))
    assert (int(obs.argmax()), float(obs.sum())) == (999_998, 1.0)
    assert steps.obs.argmax(-1).tolist() == [999_999, 999_999]
    state, _ = environment.reset(jax.random.key(0))
    outside = r"expected observations from -3 to 999996, got .*999997"
    with pytest.raises(Exception, match=outside):
        jax.block_until_ready(environment.step(jax.random.key(0), state, actions[2]))


def test_too_many_states_are_refused(monkeypatch):
    monkeypatch.setattr(gymnasium_game, "_MOST_STATES", 999_999)
    gymnasium_game.game_of.cache_clear()
    message = r"Discrete\(1000000\) observations; expected at most 999999 states"
    with pytest.raises(ConfigError, match=f"^env.id='gymnasium/Many-v0': {message}"):
        gymnasium.check("Many-v0")


def test_rewards_and_ends_may_be_arrays_of_one_number(monkeypatch):
    step = Odd.step

    def arrays(self, action):
        obs, *numbers, info = step(self, action)
        return obs, *(np.array([x]) for x in numbers), info

    monkeypatch.setattr(Odd, "step", arrays)
    actions = jnp.array([0, 1, 0, 1])
    environment = gymnasium.make("Odd-v0")
    _, _, steps = jax.jit(lambda: rollout(environment, jax.random.key(0), actions))()
    assert steps.reward.tolist() == [5.0, 6.0, 5.0, 6.0]
    assert steps.truncated.tolist() == [False, False, True, False]


def test_termination_wins_over_truncation():
    environment = gymnasium.make("Both-v0")
    actions = jnp.zeros(3, jnp.int32)
    _, obs, steps = jax.jit(lambda: rollout(environment, jax.random.key(0), actions))()
    assert obs.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert steps.terminated.tolist() == [False, True, False]
    assert not np.any(steps.truncated)
    assert jnp.argmax(steps.obs, -1).tolist() == [2, 0, 2]
    assert jnp.argmax(steps.final_obs, -1).tolist() == [2, 3, 2]


def test_derivatives_of_other_things_pass_by():
    environment = gymnasium.make("CartPole-v1")

    def loss(weight, key):
        state, obs = environment.reset(key)

        def one(state, key):
            action = (weight * obs[0] > 0).astype(jnp.int32)
            state, result = environment.step(key, state, action)
            return state, weight * result.reward

        return jnp.sum(jax.lax.scan(one, state, jax.random.split(key, 4))[1])

    keys = jax.random.split(jax.random.key(0), 3)
    slope = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(1.0, keys)
    assert slope.tolist() == [4.0, 4.0, 4.0]


def test_float64_programs_see_the_same_types():
    environment = gymnasium.make("CartPole-v1")
    with jax.enable_x64(True):
        actions = jnp.zeros(5, jnp.int64)
        _, obs, steps = jax.jit(lambda key: rollout(environment, key, actions))(
            jax.random.key(0)
        )
    assert obs.dtype == steps.obs.dtype == steps.reward.dtype == jnp.float32


def test_states_of_two_resets_may_share_a_batch():
    environment = gymnasium.make("CartPole-v1")
    resets = jax.jit(jax.vmap(environment.reset))
    keys = jax.random.split(jax.random.key(0), 4)
    (one, _), (two, _), (both, _) = resets(keys[:2]), resets(keys[2:]), resets(keys)
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a, b])[::-1], one, two)
    step = jax.jit(jax.vmap(environment.step))
    actions = jnp.array([0, 1, 1, 0])
    _, got = step(keys, mixed, actions[::-1])
    _, expected = step(keys, both, actions)
    np.testing.assert_array_equal(got.obs[::-1], expected.obs)


def test_a_state_cannot_be_stepped_twice():
    environment = gymnasium.make("CartPole-v1")
    state, _ = environment.reset(jax.random.key(0))
    environment.step(jax.random.key(0), state, jnp.int32(0))
    with pytest.raises(Exception, match=r"stepped once: expected the state after 1 "):
        jax.block_until_ready(environment.step(jax.random.key(0), state, jnp.int32(0)))


def test_a_part_of_a_reset_cannot_be_stepped():
    environment = gymnasium.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), 3)
    state, _ = jax.vmap(environment.reset)(keys)
    part = jax.tree.map(lambda x: x[:2], state)
    with pytest.raises(Exception, match=r"the 3 host environments .* step together"):
        jax.block_until_ready(
            jax.vmap(environment.step)(keys[:2], part, jnp.zeros(2, jnp.int32))
        )


def test_instances_are_reused_when_the_budget_is_used_up(monkeypatch):
    monkeypatch.setattr(gymnasium, "_BUDGET", 6)
    made = []
    build = gymnasium.SyncVectorEnv
    monkeypatch.setattr(
        gymnasium, "SyncVectorEnv", lambda *a, **k: made.append(1) or build(*a, **k)
    )
    environment = gymnasium.make("CartPole-v1")
    reset, step = jax.vmap(environment.reset), jax.vmap(environment.step)
    keys, actions = jax.random.split(jax.random.key(0), 3), jnp.zeros(3, jnp.int32)
    least = 2 * jax.local_device_count()
    oldest, first = reset(keys)
    kept, _ = reset(keys)
    for _ in range(least - 1):
        _, again = reset(keys)
    assert len(made) == least
    np.testing.assert_array_equal(again, first)
    jax.block_until_ready(step(keys, kept, actions))
    with pytest.raises(Exception, match="of this state are gone"):
        jax.block_until_ready(step(keys, oldest, actions))


def test_closing_frees_everything():
    environment = gymnasium.make("CartPole-v1")
    state, _ = environment.reset(jax.random.key(0))
    gymnasium.close()
    with pytest.raises(Exception, match="of this state are gone"):
        jax.block_until_ready(environment.step(jax.random.key(0), state, jnp.int32(0)))
    environment.reset(jax.random.key(0))


def test_time_limits():
    assert gymnasium.make("CartPole-v1").time_limit == 500
    assert gymnasium.make("FrozenLake-v1").time_limit == 100
    assert gymnasium.make("CliffWalking-v1").time_limit is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "CartPol-v1",
            "Gymnasium has no such id; did you mean 'gymnasium/CartPole-v1'",
        ),
        ("os:CartPole-v1", r"import os first \(--plugin os\), and ask for CartPole-v1"),
        ("Pendulum-v1", "continuous actions; the agents here need discrete ones"),
        ("Blackjack-v1", "Tuple observations; expected Box or Discrete"),
        ("phys2d/CartPole-v1", "it runs JAX"),
        ("GymV21Environment-v0", r"it cannot be made: .*pip install .*shimmy"),
    ],
)
def test_what_cannot_serve_is_refused(name, message):
    with pytest.raises(ConfigError, match=f"^env.id='gymnasium/{name}': {message}"):
        gymnasium.check(name)


def test_a_missing_dependency_is_named_in_its_own_words(monkeypatch):
    def missing(name):
        raise original.error.DependencyNotInstalled('run `pip install "x[box2d]"`')

    monkeypatch.setattr(original, "make", missing)
    gymnasium_game.game_of.cache_clear()
    with pytest.raises(ConfigError, match=r"cannot be made: run `pip install \"x\[box"):
        gymnasium.check("LunarLander-v3")


def test_two_devices_do_not_hang_and_agree_with_one():
    def printed(devices):
        done = subprocess.run(
            [sys.executable, "-c", SHARDED, str(devices)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split(" ", 2)

    one, two = printed(1), printed(2)
    assert (one[0], two[0]) == ("1", "2")
    assert one[1] == two[1] == "True"
    np.testing.assert_array_equal(json.loads(one[2]), json.loads(two[2]))
