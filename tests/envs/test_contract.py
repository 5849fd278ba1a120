"""Whether an environment keeps its contract, found out by playing it."""

import jax
import jax.numpy as jnp
import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step

OBS = jax.ShapeDtypeStruct((1,), jnp.float32)
NO = jnp.bool_(False)


def walk(**changes):
    """Counts to five and is cut off there; `changes` are faults by name."""
    reward = changes.pop("reward", lambda n: jnp.float32(1))
    final = changes.pop("final", lambda obs, ended: obs)
    noise = changes.pop("noise", lambda: 0.0)

    def reset(key):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action):
        n = state + 1
        ended = n == 5
        shown = jnp.full(1, n, jnp.float32) + noise()
        obs = jnp.where(ended, jnp.zeros(1), shown)
        out = Step(obs, reward(n), NO, ended, final(shown, ended))
        return jnp.where(ended, 0, n), out

    made = Environment("walk", reset, step, OBS, num_actions=2, time_limit=5)
    return made._replace(**changes)


def test_a_good_one_passes():
    rg.envs.check(walk())
    rg.envs.check("gymnax/CartPole-v1", episodes=3)
    rg.envs.check("gymnasium/FrozenLake-v1", episodes=3)
    rg.envs.check("chain/random_walk", episodes=3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"time_limit": 6},
            "env=walk, step 5 .*no truncation before time_limit=6 steps, not after 5",
        ),
        ({"time_limit": None}, "step 5 .*time_limit to be a number"),
        (
            {"reward": lambda n: jnp.where(n == 3, jnp.nan, 1.0)},
            "env=walk, step 3 .*expected a finite reward, not nan",
        ),
        (
            {"final": lambda obs, ended: jnp.where(ended, obs, jnp.full(1, jnp.inf))},
            "step 1 .*expected finite numbers in Step.final_obs",
        ),
        (
            {"final": lambda obs, ended: jnp.where(ended, obs, 7.0)},
            "step 1 .*final_obs equal to Step.obs where no episode ends",
        ),
        ({"reward": lambda n: n}, r"expected Step.reward a float\[\], not int32\[\]"),
    ],
)
def test_faults_are_found(changes, says):
    with pytest.raises(ConfigError, match=says):
        rg.envs.check(walk(**changes))


def test_a_state_that_changes_its_type_is_found():
    made = walk()

    def step(key, state, action):
        after, out = made.step(key, state, action)
        return after.astype(jnp.float32), out

    with pytest.raises(ConfigError, match=r"it is float32\[\] after int32\[\]"):
        rg.envs.check(made._replace(step=step))
