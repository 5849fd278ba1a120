"""Environments on the host that fail, and that give what is not finite."""

import json

import gymnasium
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.envs.faults import EnvironmentFailed

SMALL = {
    "network.hidden": (4,),
    "replay.capacity": 500,
    "training.total_steps": 600,
    "training.warmup_steps": 40,
    "training.num_envs": 2,
    "training.batch_size": 4,
    "evaluation.interval": None,
    "evaluation.episodes": 1,
    "tracking.interval": 100,
    "tracking.progress": False,
    "tracking.trackio": False,
    "tracking.wandb.mode": "disabled",
}


class Small(gymnasium.Env):
    """Seven steps; the fault that a test has set happens at a step of all together."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
    at, fault, total = 10**9, "", 0

    def __init__(self, start=0.0):
        self.start, self.steps = start, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.full(2, self.start, np.float32), {}

    def step(self, action):
        Small.total, self.steps = Small.total + 1, self.steps + 1
        obs, reward = np.full(2, self.start, np.float32), 0.0
        if Small.total == Small.at:
            if Small.fault == "raises":
                raise RuntimeError("the simulator is gone")
            obs = np.zeros(3, np.float32) if Small.fault == "shape" else obs
            reward = np.nan if Small.fault == "reward" else reward
            obs = obs * np.nan if Small.fault == "observation" else obs
        return obs, reward, self.steps >= 7, False, {}


@pytest.fixture
def small():
    gymnasium.register("test/Small-v0", entry_point=Small)
    yield
    del gymnasium.registry["test/Small-v0"]
    from rl_grads.envs import gymnasium_game

    gymnasium_game.game_of.cache_clear()


def fault(kind, at):
    Small.fault, Small.at, Small.total = kind, at, 0


def trained(changes=None, **arguments):
    settings = {"env.id": "gymnasium/test/Small-v0"} | SMALL | (changes or {})
    config = rg.replace(rg.Config(), settings)
    return rg.train(members=rg.population(config), **arguments)


def test_a_run_whose_environment_raises_keeps_what_there_was(small, tmp_path):
    fault("raises", 350)
    with pytest.raises(EnvironmentFailed, match="the simulator is gone") as caught:
        trained(run_dir=tmp_path / "run")
    error = caught.value
    assert "env=gymnasium/test/Small-v0 raised RuntimeError" in str(error)
    assert isinstance(error.__cause__, RuntimeError)
    assert error.result.status == "failed"
    assert error.result.steps.tolist() == [100, 200, 300]
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["status"], summary["env_steps"]) == ("failed", 300)
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["status"] == "failed"
    assert "the simulator is gone" in run["reason"]
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [100, 200, 300]
    kept = np.load(tmp_path / "run/parameters.npz")
    fault("", 10**9)  # The same run up to there has the same parameters.
    short = trained({"training.total_steps": 300, "training.schedule_steps": 600})
    for name, value in short.params[0]["params"].items():
        for part, expected in value.items():
            found = kept[f"params/params.{name}.{part}"][0]
            np.testing.assert_array_equal(found, expected)


def test_one_that_raises_before_the_first_row_is_named_too(small):
    fault("raises", 10)
    with pytest.raises(EnvironmentFailed, match="the simulator is gone") as caught:
        trained()
    assert caught.value.result is None or len(caught.value.result.steps) == 0


def test_an_observation_of_another_shape_in_the_middle(small):
    fault("shape", 350)
    says = r"expected observations of shape \(2,\), as its observation_space says"
    with pytest.raises(EnvironmentFailed, match=says):
        trained()


@pytest.mark.parametrize("kind", ["reward", "observation"])
def test_what_is_not_finite_is_named_with_its_step(small, kind):
    fault(kind, 351)  # One step looks at it, two play; both environments together.
    result = trained()
    assert result.unusable[0] == {kind: 350}
    first, *rest = result.notes()
    assert first == f"a {kind} was not finite: seed 0 (step 350)"
    if result.status == "diverged":  # Where a batch has drawn it.
        assert rest[0].startswith("a gradient was not finite, and learning stopped")
    assert result.summary()["notes"] == result.notes()


def test_arguments_of_the_maker(small):
    fault("", 10**9)
    assert trained({"env.kwargs": {"start": 0.5}}).status == "finished"
    with pytest.raises(ConfigError, match=r"its maker takes no env.kwargs.strat"):
        trained({"env.kwargs": {"strat": 0.5}})
    with pytest.raises(ConfigError, match="expected nothing; only the makers of"):
        trained({"env.id": "gymnax/CartPole-v1", "env.kwargs": {"start": 0.5}})
    both = {"env.kwargs": {"start": 0.5}, "env.params": {"start": 0.5}}
    with pytest.raises(ConfigError, match=r"one of env.kwargs.start and env.params"):
        trained(both)


def test_arguments_name_nothing_to_import():
    named = {"env_id": "antigravity:Any-v0"}
    for name in ("GymV21Environment-v0", "GymV26Environment-v0"):
        with pytest.raises(ConfigError, match=r"what env\.kwargs name"):
            trained({"env.id": f"gymnasium/{name}", "env.kwargs": named})


def test_arguments_that_differ_are_no_population(small):
    sweep = {"env.kwargs": [{"start": 1}, {"start": True}]}
    members = rg.population(rg.replace(rg.Config(), SMALL), sweep=sweep)
    from rl_grads.training.population import split

    assert split(members) == [[0], [1]]


def test_a_number_that_an_own_environment_does_not_read(as_registered):
    import jax
    import jax.numpy as jnp

    from rl_grads.envs.environment import Environment, Step

    @rg.register.env("levers")
    def levers(section):
        obs, pay = jnp.ones(1), section.params.get("pay", 1.0)
        ended = jnp.bool_(True), jnp.bool_(False)

        def step(key, state, action):
            return state, Step(obs, pay * action.astype(jnp.float32), *ended, obs)

        shape = jax.ShapeDtypeStruct((1,), jnp.float32)
        return Environment("levers", lambda key: ((), obs), step, shape, num_actions=2)

    assert trained({"env.id": "levers", "env.params": {"pay": 2.0}}).status
    says = r"env.params.pya .*expected a parameter that env=levers reads \(pay\); did"
    with pytest.raises(ConfigError, match=says):
        trained({"env.id": "levers", "env.params": {"pya": 2.0}})
