"""`rl-grads audit`: the table, the verdict, and a leak that is caught."""

import os

import pytest

from rl_grads.cli.main import COMMANDS

pytestmark = pytest.mark.slow

WEIGHTS = "network.initial_weights=[0.1,0.2,0.3,0.4,0.5]"

PLUGIN = '''
import jax.numpy as jnp
import rl_grads as rg
from rl_grads.td import Signals, td_error


@rg.register.loss("leaky")
def leaky(network):
    """Bootstraps from the parameters that learn, whatever the target network."""

    def loss(params, bootstrap_params, transition, config):
        v_tm1 = network.apply(params, transition.s_tm1)[0]
        v_t = network.apply(params, transition.s_t)[0]
        error = td_error(v_tm1, transition.r_t, transition.discount_t, v_t)
        return 0.5 * error**2, Signals(error)

    return loss
'''


@pytest.fixture
def audit(command):
    return lambda *argv: command("audit", "experiment=random_walk", WEIGHTS, *argv)


def table(out):
    """Group to cells."""
    rows = [line.split() for line in out.splitlines() if "." in line.split(" ")[0]]
    return {row[0]: row[1:] for row in rows}


def test_a_semi_gradient(audit):
    done = audit()
    assert done.status == 0
    assert done.err == ""
    rows = table(done.out)
    assert rows.keys() == {"online.w", "bootstrap.w"}
    prediction, bootstrap, loss = rows["online.w"]
    assert float(prediction) > 0 and prediction == loss and bootstrap == "-"
    assert rows["bootstrap.w"][0] == "-" and float(rows["bootstrap.w"][1]) > 0
    assert done.out.startswith(
        "L2 norms of the gradient, agent=prediction agent.loss=td env=chain/random_walk"
    )
    assert "No gradient passes through a bootstrap: a semi-gradient." in done.out
    assert os.listdir() == []


def test_a_full_gradient_and_a_target_network(audit):
    full = audit("agent.td_gradient=full")
    assert full.status == 0
    assert "as agent.td_gradient=full asks" in full.out
    assert float(table(full.out)["online.w"][1]) > 0
    assert table(full.out)["bootstrap.w"] == ["-", "-", "-"]
    target = audit("agent.target.period=10")
    assert table(target.out).keys() == {"online.w", "target.w"}
    assert "target: held fixed" in target.out


def test_a_direction_says_so(audit):
    done = audit("agent.td_gradient=tdc")
    assert done.status == 0
    assert "The update is the direction of agent.td_gradient=tdc" in done.out


def test_double_sampling(audit):
    done = audit("agent.td_gradient=residual")
    assert "second bootstrap" in done.out.splitlines()[2]
    assert len(table(done.out)["online.w"]) == 4


def test_a_target_network_that_leaks_is_caught(audit, registry, home):
    (home / "foreign_leak.py").write_text(PLUGIN, encoding="utf-8")
    own = ("--plugin", "foreign_leak", "agent.loss=leaky", "agent.target.polyak=0.1")
    done = audit(*own)
    assert done.status == 1
    assert done.err == ""
    assert (
        "LEAK: through a bootstrap, gradient reaches online parameters: w." in done.out
    )
    assert table(done.out)["target.w"] == ["-", "-", "-"]


def test_a_network_with_layers_and_a_loss_of_the_next_action(command):
    done = command(
        "audit",
        "agent=sarsa",
        "network=mlp",
        "network.hidden=[4]",
        "env=chain/random_walk",
    )
    assert done.status == 0
    groups = [f"{net}.Dense_{i}" for net in ("online", "target") for i in (0, 1)]
    assert list(table(done.out)) == groups


def test_help(command):
    done = command("audit", "--help")
    assert done.status == 0
    assert done.out.startswith("usage: rl-grads audit [KEY=VALUE ...]")
    assert "audit" in COMMANDS


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("agent.los=td",), "agent.los=td: expected a key of agent"),
        (("agent.discount=2",), "agent.discount=2.0: expected a number in [0, 1]"),
        (("experiment=random_wolk",), "did you mean 'random_walk'?"),
        (("-m", "seed=1,2"), "-m: expected an option of rl-grads audit"),
        (("seed=1,2",), "seed=1,2: expected one value"),
        (("--cfg", "job"), "--cfg: expected an option of rl-grads audit"),
        (("--nonsense",), "--nonsense: expected an option"),
        (("resume=auto",), "resume=auto: expected null"),
        (
            ("--plugin", "foreign_missing"),
            "--plugin=foreign_missing: expected a module",
        ),
    ],
)
def test_bad_input_gives_one_message(command, argv, message):
    done = command("audit", *argv)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("rl-grads audit: ") and message in done.err
    assert len(done.err.splitlines()) == 1
