"""What agents with traces refuse, each with the key, the value and what is wanted."""

import pytest

import rl_grads as rg
from rl_grads.agents.schema import MLP, Linear, NStepTD, TDLambda
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.replay.schema import Replay
from rl_grads.training.check import check
from rl_grads.training.engine import Given

EMPTY = Given(None, None)


def config(agent, changes=None):
    base = rg.Config(agent=agent, network=Linear(), optimizer=SGD(), replay=None)
    return rg.replace(base, {"env.id": "chain/random_walk"} | (changes or {}))


TRUE_ONLINE = TDLambda(trace="true_online")


@pytest.mark.parametrize(
    ("agent", "changes", "message"),
    [
        (
            TDLambda(),
            {"replay": Replay()},
            "replay=buffer: expected null where agent=td_lambda, which learns from "
            "transitions in order",
        ),
        (NStepTD(), {"replay": Replay()}, "replay=buffer: expected null where agent=n"),
        (TDLambda(), {"gradient.clip.max_abs": 1.0}, "gradient.clip.max_abs=1.0: exp"),
        (TRUE_ONLINE, {"network": MLP()}, "network=mlp: expected linear where agent"),
        (TRUE_ONLINE, {"optimizer": Adam()}, "optimizer=adam: expected sgd where"),
        (TRUE_ONLINE, {"optimizer.momentum": 0.9}, "optimizer.momentum=0.9: expected"),
        (TRUE_ONLINE, {"training.num_envs": 2}, "training.num_envs=2: expected 1"),
        (
            TRUE_ONLINE,
            {"gradient.update.clip": "element"},
            "gradient.update.clip=element: expected null",
        ),
        (
            TRUE_ONLINE,
            {"agent.target.period": 5},
            "agent.target.period=5: expected null where agent.trace=true_online",
        ),
        (
            TRUE_ONLINE,
            {"env.id": "chain/baird"},
            "env.id=chain/baird: expected an on-policy chain where agent.trace=true",
        ),
        (NStepTD(loss="sarsa"), {}, "agent.loss='sarsa': expected a loss of agent=n_"),
    ],
)
def test_what_does_not_fit_is_refused(agent, changes, message):
    with pytest.raises(ConfigError) as error:
        check(config(agent, changes), EMPTY)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("agent", "changes"),
    [
        (TDLambda(), {"optimizer": Adam(), "network": MLP(), "training.num_envs": 3}),
        (TDLambda(trace="replacing"), {"env.id": "chain/baird"}),
        (TRUE_ONLINE, {}),
        (NStepTD(), {"gradient.clip.max_abs": 1.0, "env.id": "chain/baird"}),
    ],
)
def test_what_fits_passes(agent, changes):
    check(config(agent, changes), EMPTY)
