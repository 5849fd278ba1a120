"""More members than there is memory for are refused before they ask for it."""

import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.envs.make import make
from rl_grads.training import devices
from rl_grads.training.checks import room
from rl_grads.training.engine import Given

NONE = Given(None, None)


def config(**changes):
    return rg.replace(
        rg.Config(), {k.replace("__", "."): v for k, v in changes.items()}
    )


def refused(found, members=1):
    with pytest.raises(ConfigError) as error:
        room.check(found, NONE, make(found.env), members)
    return str(error.value)


def test_what_a_member_is_made_of():
    found = config(network__hidden=(8,), agent__target__period=None)
    sizes = room.sizes(found, NONE, make(found.env))
    weights = 4 * 8 + 8 + 8 * 2 + 2
    parameters = weights * 4 * (1 + (found.agent.target.polyak is not None))
    assert sizes["parameters"] == parameters
    assert 2 * weights * 4 <= sizes["the optimizer"] < 2 * weights * 4 + 64
    frames = 100_000 * (4 * 4 + 4 + 4 + 1)  # Observation, action, reward, an end.
    assert frames < sizes["replay memory"] < 2 * frames


def test_so_many_members_as_fit(monkeypatch):
    found = config(replay__capacity=1000, network__hidden=(8,))
    one = sum(room.sizes(found, NONE, make(found.env)).values())
    monkeypatch.setattr(devices, "memory", lambda: 100 * one)
    room.check(found, NONE, make(found.env), 90)
    says = refused(found, 200)
    assert says.startswith("seeds=200: expected at most about 100, as a member takes ")
    assert "(most of it replay memory)" in says


def test_a_network_that_is_too_large_is_named():
    says = refused(config(network__hidden=(10**9,), replay__capacity=1000))
    begin = "network.hidden=[1000000000]: expected a smaller network: "
    assert says.startswith(begin)
    assert "GiB" in says


def test_a_batch_that_is_too_large_is_named():
    says = refused(config(training__batch_size=2**31 - 1))
    assert says.startswith("training.batch_size=2147483647: expected less: an update")


def test_environments_that_are_too_many_are_named():
    found = config(training__num_envs=2**30, replay=None, network__hidden=(1,))
    says = refused(found)
    assert "GiB" in says


def test_it_stands_at_the_door():
    members = rg.population(config(replay__capacity=100_000), seeds=range(20_000))
    with pytest.raises(ConfigError, match=r"^seeds=20000: expected at most about"):
        rg.train(members=members)
