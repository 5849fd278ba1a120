"""`rl-grads anatomy`: the batch of one update of a real run, taken apart again."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.cli.main import COMMANDS
from rl_grads.config import ConfigError
from rl_grads.inspection.anatomy import Which, anatomy
from rl_grads.training import engine, recorded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compiler")]

RUN = pathlib.Path("runs/one")
# Four iterations of two updates behind a warm-up of 40 steps; a row every 4 steps.
TINY = (
    "run.id=one",
    "network=mlp",
    "network.hidden=[8]",
    "training.updates_per_iteration=2",
    "training.total_steps=48",
    "tracking.interval=4",
)


def examined(which):
    """The anatomy, and the loss of one transition at the parameters of the update."""
    config = recorded.read(RUN).config
    found = anatomy(rg.population(config), RUN, which)
    agent = engine.parts(engine.Given(None, None), config).agent

    def loss(params, one):
        return agent.loss(params, found.bootstrap_params, one, config)

    return found, loss


def rows_of(found, loss):
    """Gradients of the batch, one by one as JAX gives them, `[B, parameters]`."""
    batch = jax.tree.map(jnp.asarray, found.batch)
    one = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0)))
    gradients, signals = one(found.params, batch)
    size = len(found.norms)
    rows = [np.asarray(g).reshape(size, -1) for g in jax.tree.leaves(gradients)]
    return np.concatenate(rows, 1), signals, gradients


def test_norms_shares_and_cosines_are_those_of_the_loss(train, home):
    assert train(*TINY).status == 0
    found, loss = examined(Which(step=46, member=1))
    rows, signals, gradients = rows_of(found, loss)
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(found.td_error, signals.td_error, rtol=1e-5)
    unit = rows / norms[:, None]
    np.testing.assert_allclose(found.cosines, unit @ unit.T, atol=1e-5)
    for layer, own in gradients["params"].items():
        parts = [np.square(g).reshape(4, -1).sum(1) for g in jax.tree.leaves(own)]
        np.testing.assert_allclose(
            found.shares[layer], sum(parts) / norms**2, rtol=1e-4
        )
    assert found.top(2) == np.argsort(-norms)[:2].tolist()
    assert (found.step, found.update, found.seed) == (46, 2, 1)
    assert found.rows == 2  # At 44 and 48.
    assert found.drift < 1e-6


def test_the_command_names_them(train, command, home):
    train(*TINY)
    done = command("anatomy", str(RUN), "--step", "46", "--member", "1", "--top", "3")
    assert done.status == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == ("Update 2 of 2 at step 46 of member 1 (seed 1): a batch of 4.")
    assert lines[1] == (
        "Repeated from step 40; what was recorded from there to beyond the update "
        "(2 rows) came out the same, bit for bit."
    )
    found, loss = examined(Which(step=46, member=1))
    table = [line.split() for line in lines if "#" in line]
    assert [row[0] for row in table] == [f"#{i}" for i in found.top(3)]
    rows, _, _ = rows_of(found, loss)
    for row, place in zip(table, found.top(3), strict=True):
        assert float(row[1]) == pytest.approx(np.linalg.norm(rows[place]), rel=1e-3)
        assert float(row[3]) == pytest.approx(found.td_error[place], rel=1e-3)
        assert float(row[4]) == found.batch.r_t[place]
        assert int(row[5]) == found.batch.a_tm1[place]
    written = [pathlib.Path(line) for line in lines[-3:]]
    assert [path.suffix for path in written] == [".png", ".pdf", ".json"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    document = json.loads(written[2].read_text())
    np.testing.assert_allclose(document["gradient_norms"], found.norms, rtol=1e-6)
    first = document["top"][0]
    np.testing.assert_allclose(first["s_tm1"], found.batch.s_tm1[found.top(1)[0]])
    assert set(first["shares"]) == {"Dense_0", "Dense_1"}


def test_any_update_of_an_iteration_and_any_step_in_it(train, home):
    train(*TINY)
    first, _ = examined(Which(step=45, update=1))
    last, _ = examined(Which(step=46, update=2))
    again, _ = examined(Which(step=45))
    assert (first.step, first.update, last.update) == (46, 1, 2)
    assert not np.array_equal(first.norms, last.norms)
    np.testing.assert_array_equal(last.norms, again.norms)


def test_it_begins_at_the_newest_checkpoint_before(train, home):
    train(*TINY, "checkpoint.interval=4", "checkpoint.keep=5")
    near, _ = examined(Which(step=46))
    assert (near.begun_at, near.rows) == (44, 1)
    far, _ = examined(Which(step=43))
    assert (far.begun_at, far.rows) == (40, 1)
    for path in (RUN / "checkpoints").iterdir():
        path.rename(home / path.name)
    again, _ = examined(Which(step=46))
    assert (again.begun_at, again.rows) == (40, 2)
    np.testing.assert_array_equal(near.norms, again.norms)
    np.testing.assert_array_equal(near.batch.s_tm1, again.batch.s_tm1)


@pytest.mark.slow
def test_a_weighted_batch_of_a_loss_that_draws_the_next_action(train, home):
    changes = ("replay=per", "agent.loss=sarsa", "agent.target.polyak=0.1")
    assert train(*TINY, *changes).status == 0
    found, loss = examined(Which(step=48))
    rows, _, _ = rows_of(found, loss)
    np.testing.assert_allclose(found.norms, np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert found.weights.shape == (4,)
    assert found.drift < 1e-6


@pytest.mark.slow
def test_a_large_batch_is_shown_whole(train, command, home):
    assert train(*TINY, "replay=large_batch", "replay.large_batch=3").status == 0
    done = command("anatomy", str(RUN), "--step", "48")
    assert done.status == 0
    assert "a batch of 12." in done.out
    assert "Out of these the update drew 4 by their norms." in done.out


def test_online_learning(train, command, home):
    online = ("experiment=random_walk", "training.total_episodes=null", "run.id=one")
    assert train(*online, "training.num_envs=2").status == 0
    found, loss = examined(Which(step=20))
    rows, _, _ = rows_of(found, loss)
    assert rows.shape == (2, 5)
    np.testing.assert_allclose(found.norms, np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert found.weights is None
    np.testing.assert_allclose(found.shares["all"][found.norms > 0], 1.0, rtol=1e-6)
    done = command("anatomy", str(RUN), "--step", "20", "--to", "there/it")
    assert done.status == 0
    assert (home / "there" / "it.png").is_file()


def test_a_run_that_does_not_come_out_the_same_is_refused(train, home):
    train(*TINY)
    path = RUN / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["gradient/norm"] *= 1.001
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ConfigError, match=r"at step 44 has gradient/norm=.* this time"):
        examined(Which(step=46))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((str(RUN), "--step", "40"), "step=40: expected 41 to 48, the steps in which"),
        ((str(RUN), "--step", "49"), "step=49: expected 41 to 48"),
        ((str(RUN), "--step", "46", "--member", "2"), "member=2: expected one of"),
        ((str(RUN), "--step", "46", "--update", "3"), "update=3: expected one of"),
        ((str(RUN), "--step", "46", "--top", "0"), "--top=0: expected an integer"),
        (("runs/on", "--step", "46"), "runs/on: expected the folder of a run"),
        (
            ("empty", "--step", "46"),
            "empty: expected the folder of a run, with config.json",
        ),
        (
            ("library", "--step", "46"),
            "library: expected the folder of a run, with config.json",
        ),
    ],
)
def test_bad_input_gives_one_message(train, command, home, argv, message):
    if RUN.name in argv[0]:
        train(*TINY)
    (home / "empty").mkdir()
    (home / "library").mkdir()
    (home / "library" / "metrics.jsonl").touch()
    done = command("anatomy", *argv)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("rl-grads anatomy: ") and message in done.err
    assert len(done.err.splitlines()) == 1


def test_an_agent_with_a_trace_is_refused(train, command, home):
    online = ("experiment=random_walk", "training.total_episodes=null", "run.id=one")
    assert train(*online, "agent=td_lambda").status == 0
    done = command("anatomy", str(RUN), "--step", "20")
    assert done.status == 2
    assert "agent=td_lambda: expected an agent without a trace" in done.err


@pytest.mark.slow
def test_an_environment_of_the_host_is_refused(train, command, home):
    assert train(*TINY, "env=gymnasium/CartPole-v1").status == 0
    done = command("anatomy", str(RUN), "--step", "46")
    assert done.status == 2
    assert "env=gymnasium/CartPole-v1: expected one whose states can" in done.err


@pytest.mark.slow
def test_a_run_that_learns_its_config_is_refused(train, command, home):
    changes = ("meta.learn=[agent.discount]", "meta.steps=1")
    assert train(*TINY, *changes).status == 0
    done = command("anatomy", str(RUN), "--step", "46")
    assert done.status == 2
    assert "meta.learn=[agent.discount]: expected none" in done.err


def test_help(command, capsys):
    with pytest.raises(SystemExit) as error:
        command("anatomy", "--help")
    assert error.value.code == 0
    assert "anatomy" in COMMANDS


def test_a_point_of_a_population_is_taken_apart(home):
    changes = {
        "network.hidden": (8,),
        "training.num_envs": 2,
        "training.total_steps": 48,
        "training.warmup_steps": 40,
        "training.batch_size": 4,
        "tracking.interval": 4,
        "evaluation.episodes": 1,
        "evaluation.max_steps": 20,
        "tracking.progress": False,
        "tracking.trackio": False,
        "tracking.wandb.mode": "disabled",
    }
    config = rg.replace(rg.Config(), changes)
    rates = {"optimizer.learning_rate": [0.01, 0.1]}
    members = rg.population(config, seeds=[3, 4], sweep=rates)
    mixed = [members[i] for i in (0, 2, 1, 3)]  # Points lie across one another.
    rg.train(members=mixed, run_dir="swept")
    found = recorded.read(pathlib.Path("swept/1"))
    again = recorded.population(found)
    told = [(m.seed, m.config.optimizer.learning_rate) for m in again]
    assert told == [(3, 0.01), (3, 0.1), (4, 0.01), (4, 0.1)]
    one = anatomy(again, pathlib.Path("swept/1"), Which(step=46, member=1))
    assert (one.seed, one.rows) == (4, 2)
