"""What parts of a config need of each other, by what they declare."""

import pytest

import rl_grads as rg
from rl_grads import register
from rl_grads.agents.schema import MLP, Linear, NStepTD, QLearning, TDLambda
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.replay.schema import Replay
from rl_grads.td.losses import td
from rl_grads.training.checks.door import check
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
            "replay=buffer: expected null beside agent=td_lambda: it learns from "
            "transitions in order",
        ),
        (
            NStepTD(),
            {"replay": Replay()},
            "replay=buffer: expected null beside agent=n",
        ),
        (TDLambda(), {"gradient.clip.max_abs": 1.0}, "gradient.clip.max_abs=1.0: exp"),
        (TRUE_ONLINE, {"network": MLP()}, "network=mlp: expected linear beside agent"),
        (TRUE_ONLINE, {"optimizer": Adam()}, "optimizer=adam: expected sgd beside"),
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
            "agent.target.period=5: expected null beside agent.trace=true_online",
        ),
        (
            TRUE_ONLINE,
            {"env.id": "chain/baird"},
            "env.id=chain/baird: expected an on-policy chain beside agent.trace=true",
        ),
        (
            NStepTD(loss="sarsa"),
            {},
            "agent.loss='sarsa': expected a loss of agent=n_step_td (a state value): "
            "td",
        ),
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


# ----------------------------------------------------------- components of other people


@rg.config.config
class Hers:
    """An agent of somebody else's, with a loss of a state value."""

    loss: str = rg.config.setting("td", "the TD loss", register.Registered("loss"))
    discount: float = rg.config.number(0.9, "discount", rg.config.unit)


def test_a_wrong_loss_is_refused_for_every_agent_alike(as_registered):
    declaration = register.Declaration(outputs=register.STATE_VALUE)
    register.agent("hers", Hers)(register.declares(declaration)(lambda *_: None))
    message = (
        "agent.loss='double_q_learning': expected a loss of agent={} (a state value): "
        "td"
    )
    for agent, name in ((NStepTD, "n_step_td"), (Hers, "hers")):
        with pytest.raises(ConfigError) as error:
            check(config(agent(loss="double_q_learning")), EMPTY)
        assert str(error.value) == message.format(name)


def test_an_own_loss_that_says_nothing_fits_any_agent(as_registered):
    register.loss("own")(td)
    register.loss("silent")(lambda network: td(network))
    with pytest.raises(ConfigError, match=r"^agent.loss='own': expected a loss of"):
        check(rg.Config(agent=QLearning(loss="own")), EMPTY)
    check(rg.Config(agent=QLearning(loss="silent")), EMPTY)


def test_what_others_declare_is_checked(as_registered):
    need = register.Need("training.batch_size", 7, "it counts in sevens")
    mark = register.declares(register.Declaration((need,)))
    register.td_gradient("sevens")(mark(lambda loss: loss))
    register.trace("sevens")(mark(lambda z, gradient, decay: z))
    message = r"^training.batch_size=64: expected 7 beside {}=sevens: it counts in sev"
    with pytest.raises(ConfigError, match=message.format("agent.td_gradient")):
        check(rg.Config(agent=QLearning(td_gradient="sevens")), EMPTY)
    with pytest.raises(ConfigError, match=message.format("agent.trace")):
        check(config(TDLambda(trace="sevens")), EMPTY)
    check(config(TDLambda(trace="sevens"), {"training.batch_size": 7}), EMPTY)
    register.diagnostic("sevens")(mark(lambda view, config: 7.0))
    with pytest.raises(ConfigError, match=message.format("diagnostics.own")):
        check(rg.replace(rg.Config(), {"diagnostics.own": ("sevens",)}), EMPTY)
