"""A replay memory that no machine has is refused before it is asked for."""

import jax
import jax.numpy as jnp
import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment
from rl_grads.training import devices
from rl_grads.training.checks import replay_size


def seeing(shape, dtype, time_limit=None):
    """An environment that only has observations."""
    frame = jax.ShapeDtypeStruct(shape, dtype)
    return Environment("large", None, None, frame, 2, time_limit)


def config(**replay):
    return rg.replace(rg.Config(), {f"replay.{k}": v for k, v in replay.items()})


def test_a_million_states_do_not_fit_a_hundred_thousand_times():
    with pytest.raises(ConfigError) as refused:
        replay_size.check(config(), seeing((1_000_000,), jnp.float32))
    told = str(refused.value)
    # 4 MB each, and a block of new ones; what else is stored is small.
    assert told.startswith("replay.capacity=100000: expected at most about ")
    assert (
        "env.id=large (shape (1000000,)) would take 372.5 GiB for one member, of "
        in told
    )


def test_the_limit_is_what_the_memory_takes(monkeypatch):
    value = config(capacity=990, priority="td_error")
    value = rg.replace(value, {"training.num_envs": 10})
    # 1000 frames of 6 bytes with 8 bytes of floats and 16 of integers each; three rows
    # of 10 final observations, and 10 counts of truncations.
    large = seeing((2, 3), jnp.uint8, time_limit=50)
    ring = 1000 * (6 + 8 + 16) + 3 * 10 * 6 + 10 * 4
    taken = replay_size._bytes(value, large)
    tree = 4 * (1000 + 1000 // 8)  # Priorities and their sums, at least.
    assert ring + tree < taken < ring + 2 * tree
    monkeypatch.setattr(devices, "memory", lambda: taken)
    replay_size.check(value, large)
    monkeypatch.setattr(devices, "memory", lambda: taken - 1)
    with pytest.raises(ConfigError, match=r"^replay.capacity=990: expected at most"):
        replay_size.check(value, large)
    replay_size.check(rg.replace(value, {"replay": None}), large)


def test_what_the_machine_has(tmp_path):
    assert 2**28 < devices.memory() < 2**50
    (tmp_path / "memory.max").write_text("1048576\n")
    assert devices._memory_limit(tmp_path / "memory.max") == 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert devices._memory_limit(tmp_path / "memory.max") == float("inf")
    assert devices._memory_limit(tmp_path / "none") == float("inf")


def test_it_is_refused_at_the_door(tiny):
    members = rg.population(tiny({"replay.capacity": 2_000_000_000}), seeds=range(2))
    with pytest.raises(ConfigError, match=r"^replay.capacity=2000000000: .* GiB that"):
        rg.train(members=members)


def test_observations_of_which_not_one_fits_are_refused_by_what_makes_them():
    large = rg.replace(config(), {"env.wrappers.frame_stack": 2**31 - 1})
    with pytest.raises(ConfigError) as refused:
        replay_size.check(large, seeing((10**6, 2**31 - 1), jnp.float32))
    assert str(refused.value) == (
        "env.wrappers.frame_stack=2147483647, env.id=large "
        "(shape (1000000, 2147483647)): expected observations that fit into memory"
    )


def test_what_makes_observations_large_is_named_beside_the_capacity():
    stacked = rg.replace(config(), {"env.wrappers.frame_stack": 2**20})
    with pytest.raises(ConfigError) as refused:
        replay_size.check(stacked, seeing((4, 2**20), jnp.float32))
    told = str(refused.value)
    assert told.startswith("replay.capacity=100000: expected at most about ")
    assert "of env.wrappers.frame_stack=1048576, env.id=large (shape (4, 10" in told
