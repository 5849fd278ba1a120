"""What a run counts and sums is right up to its limit of 2^31 - 1 steps.

No test runs long: each plants the state of a run that has.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads import long
from rl_grads.agents.schema import Linear, Prediction
from rl_grads.envs.environment import Environment, Step
from rl_grads.envs.schema import Env
from rl_grads.long import Long
from rl_grads.training import loop
from rl_grads.training import run as host
from rl_grads.training.engine import Given, parts
from rl_grads.training.member import Episodes, Stretch

LIMIT = 2**31 - 1
REWARD = "training/return"


def prediction(changes=None):
    made = rg.Config(
        agent=Prediction(),
        network=Linear(0.5),
        env=Env("chain/random_walk"),
        replay=None,
    )
    return rg.replace(made, {"training.total_steps": LIMIT} | (changes or {}))


def begun(config, env=None):
    made = parts(Given(None, env), config)
    return made, jax.jit(functools.partial(loop.begin, made))(jax.random.key(0))


def run(made, member, time, iterations, first=False):
    """`iterations` from `time` on."""
    chunk = jax.jit(functools.partial(loop.chunk, made))
    return chunk(member, jnp.int32(time), jnp.int32(iterations), jnp.bool_(first))


@pytest.mark.parametrize("num_envs", [1, 4, 1000])
def test_the_step_of_a_divergence(num_envs):
    made, member = begun(prediction({"training.num_envs": num_envs}))
    broken = jax.tree.map(lambda x: x * jnp.nan, member.agent.params)
    member = member._replace(agent=member.agent._replace(params=broken))
    last = LIMIT // num_envs
    after, metrics = run(made, member, last - 1, 1)
    assert int(after.diverged_at) == last * num_envs
    assert bool(metrics["training/diverged"])
    # It is frozen: the guard is on.
    assert int(after.agent.updates) == 0


def lasting(length):
    """Rewards of 1; an episode is truncated after `length` steps."""

    def reset(key):
        return jnp.int32(0), jnp.ones(1)

    def step(key, state, action):
        ended, no = state + 1 == length, jnp.bool_(False)
        state = jnp.where(ended, 0, state + 1)
        return state, Step(jnp.ones(1), jnp.float32(1), no, ended, jnp.ones(1))

    shape = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment("lasting", reset, step, shape, num_actions=1, time_limit=length)


def test_the_return_of_an_episode_of_more_steps_than_float32_counts():
    made, member = begun(prediction(), lasting(4))
    episodes = Episodes(
        Long(jnp.full(1, 2.0**24), jnp.zeros(1)),
        jnp.full(1, 2**24, jnp.int32),
        jnp.int32(LIMIT - 2**26),
    )
    after, metrics = run(made, member._replace(episodes=episodes), 2**24, 4, True)
    assert float(metrics[REWARD].value) == 2**24 + 4
    assert float(metrics["training/length"].value) == 2**24 + 4
    assert int(after.episodes.finished) == LIMIT - 2**26 + 1
    assert float(after.episodes.reward.high[0]) == 0.0


def test_the_means_of_a_stretch_of_a_billion_iterations():
    made, member = begun(prediction())
    so_far = 10**9
    plain, _ = run(made, member, 0, 1000, True)
    planted = jax.tree.map(
        lambda number: Long(jnp.full_like(number.high, so_far), number.low),
        member.stretch.sums,
        is_leaf=lambda node: isinstance(node, Long),
    )
    stretch = Stretch(jnp.int32(so_far), planted)
    late, metrics = run(made, member._replace(stretch=stretch), 0, 1000)
    assert int(late.stretch.iterations) == so_far + 1000
    for name in ("loss/td_error_abs", "gradient/norm"):
        (high, low), alone = late.stretch.sums[0][name], plain.stretch.sums[0][name]
        gained = float(high) - so_far + float(low)
        np.testing.assert_allclose(gained, float(long.high(alone)), rtol=1e-4)
        np.testing.assert_allclose(metrics[name], 1.0, rtol=1e-6)


def test_a_memory_at_the_limit():
    changes = {
        "training.total_steps": LIMIT,
        "training.num_envs": 4,
        "training.num_steps": 2,
        "training.batch_size": 8,
        "training.warmup_steps": 8,
        "replay.capacity": 40,
        "network.hidden": (8,),
    }
    made, member = begun(rg.replace(rg.Config(), changes))
    last = LIMIT // 8 * 2
    warm_up = jax.jit(functools.partial(loop.warm_up, made))
    member = warm_up(member, jnp.int32(last - 2 * 10), jnp.int32(8))
    after, metrics = run(made, member, last - 4, 2)
    assert int(after.diverged_at) == -1
    assert np.isfinite(metrics["loss/td_error_abs"])
    assert made.size is not None and after.memory is not None
    ring = after.memory.ring
    # The newest observation is in the row behind the last one that was written.
    np.testing.assert_array_equal(ring.obs[last % made.size.rows], after.obs)


def test_meta_learning_goes_on_when_the_count_of_updates_starts_again():
    changes = {"meta.learn": ("optimizer.learning_rate",), "meta.steps": 1}
    made, member = begun(prediction(changes))
    member, _ = run(made, member, 0, 10)
    before = jax.tree.leaves(member.meta.real)
    agent = member.agent._replace(updates=jnp.int32(-(2**31) + 5))
    after, _ = run(made, member._replace(agent=agent), 10, 10)
    assert int(after.agent.updates) == -(2**31) + 15
    moved = jax.tree.leaves(after.meta.real)
    assert all(a != b for a, b in zip(before, moved, strict=True))


def test_the_host_goes_on_to_the_last_step(tiny):
    """Ranks, a copied target and schedules, through the rows of a whole run."""
    changes = {
        "training.total_steps": LIMIT,
        "training.warmup_steps": 1,
        "tracking.interval": LIMIT,
        "evaluation.interval": None,
        "replay.priority": "rank",
        "agent.behaviour_policy.epsilon_final": 0.0,
        "agent.target.polyak": None,
        "agent.target.period": 3,
    }
    members = rg.population(tiny(changes))
    plan = host.plan_for(Given(None, None), members)
    at = LIMIT // 2 - 30  # Iterations of two environments.
    ended = host.train_from(plan, host.Snapshot(at, host.fresh(plan), at))
    (row,) = ended.rows
    assert row.step == LIMIT - 1
    assert all(np.isfinite(value).all() for value in row.metrics.values())
    assert not row.metrics["training/diverged"][0]
    # 30 rows of two environments have been written, and the observation behind them.
    written = np.any(np.asarray(ended.snapshot.members.memory.ring.obs) != 0, axis=-1)
    assert written.sum() >= 60
