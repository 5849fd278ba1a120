"""The library without the command line: populations, own parts, results, files."""

import json
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.schema import MLP
from rl_grads.envs.environment import Environment, Step
from rl_grads.replay.schema import Replay
from rl_grads.td import Signals, td_error
from rl_grads.tracking.shown import shown
from rl_grads.training import compilation, run, session

pytestmark = pytest.mark.usefixtures("quick_compiler")

ENV = "gymnax/CartPole-v1"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Whatever is written by accident would be written here."""
    monkeypatch.chdir(tmp_path)


def small(changes=None):
    config = rg.Config(network=MLP(hidden=(8,)), replay=Replay(capacity=64))
    settings = {
        "training.batch_size": 4,
        "training.warmup_steps": 10,
        "evaluation.episodes": 2,
        "evaluation.interval": 40,
        "evaluation.max_steps": 50,
        "tracking.interval": 20,
        "tracking.progress": False,
        "tracking.trackio": False,
        "tracking.runs": "none",
    }
    return rg.replace(config, settings | (changes or {}))


# -------------------------------------------------------------------------- own parts


def log_cosh(network):
    """A smooth loss of the user's own, as the README has it."""

    def loss(params, bootstrap_params, transition, config):
        q_tm1 = network.apply(params, transition.s_tm1)[transition.a_tm1]
        v_t = jnp.max(network.apply(bootstrap_params, transition.s_t))
        error = td_error(q_tm1, transition.r_t, transition.discount_t, v_t)
        return jnp.logaddexp(error, -error), Signals(error, {"q": q_tm1})

    return loss


class Own(nn.Module):
    """A network of the user's own."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="only")(jnp.concatenate([x, x**2]))


def levers():
    """One state, two levers; the second pays."""

    def reset(key):
        return (), jnp.ones(1)

    def step(key, state, action):
        paid = jnp.asarray(action, jnp.float32)
        ended = jnp.bool_(True), jnp.bool_(False)
        return (), Step(jnp.ones(1), paid, *ended, jnp.ones(1))

    observation = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment("levers", reset, step, observation, num_actions=2)


def test_an_own_loss_network_and_environment_need_no_registration():
    agent, env = rg.agents.q_learning(network=Own(), loss=log_cosh), levers()
    config = small({"optimizer.learning_rate": 0.05})
    result = rg.train(agent, env, rg.population(config, range(2)), total_steps=400)
    for params in result.params:
        assert params["params"]["only"]["kernel"].shape == (2, 2)
        q = Own().apply(params, jnp.ones(1))
        np.testing.assert_allclose(q, [0.0, 1.0], atol=0.05)
    assert result.final()["evaluation/return"].tolist() == [1.0, 1.0]
    assert "loss/q" in result.metrics

    before = compilation.count()
    other = rg.replace(config, {"optimizer.learning_rate": 0.0})
    still = rg.train(agent, env, rg.population(other, range(2)), total_steps=400)
    assert compilation.count() == before
    assert not np.any(still.params[0]["params"]["only"]["bias"])


# ---------------------------------------------------------------------------- results


def test_a_sweep_gives_one_result_and_writes_nothing():
    sweep = {"optimizer.learning_rate": [0.0, 1e-2]}
    members = rg.population(small(), seeds=[3], sweep=sweep)
    result = rg.train(env=ENV, members=members, total_steps=90)
    assert result.steps.tolist() == [20, 40, 60, 80, 90]
    returns = result.metrics["evaluation/return"]
    assert np.isnan(returns).tolist() == [[True, False, True, False, False]] * 2
    assert {values.shape for values in result.metrics.values()} == {(2, 5)}
    assert result.diverged_at == (-1, -1)
    rates = [m.config.optimizer.learning_rate for m in result.members]
    assert rates == [0.0, 1e-2]
    assert {m.config.training.total_steps for m in result.members} == {90}
    # A learning rate of zero leaves the parameters as they were made.
    still, moved = (params["params"]["Dense_1"]["bias"] for params in result.params)
    assert not np.any(still)
    assert np.all(moved != 0)
    assert os.listdir() == []


def test_a_result_as_a_data_frame():
    result = rg.train(env=ENV, members=rg.population(small(), [7, 9]), total_steps=90)
    frame = result.frame()
    assert len(frame) == 2 * 5
    assert frame["step"].tolist() == [20, 40, 60, 80, 90] * 2
    assert frame["member"].tolist() == [0] * 5 + [1] * 5
    assert frame["seed"].tolist() == [7] * 5 + [9] * 5
    last = frame[frame["step"] == 90].set_index("seed")["evaluation/return"]
    np.testing.assert_array_equal(last.to_numpy(), result.final()["evaluation/return"])


def test_two_structures_in_one_call_keep_the_order_of_their_members():
    sweep = {"network.hidden": [(8,), (4,)], "tracking.interval": [20, 30]}
    members = rg.population(small(), seeds=range(2), sweep=sweep)
    mixed = [members[i] for i in (4, 0, 5, 1)]
    result = rg.train(env=ENV, members=mixed, total_steps=90)
    widths = [p["params"]["Dense_0"]["bias"].shape for p in result.params]
    assert widths == [(4,), (8,), (4,), (8,)]
    assert [m.seed for m in result.members] == [0, 0, 1, 1]
    alone = rg.train(env=ENV, members=[members[0], members[1]], total_steps=90)
    for place, k in ((1, 0), (3, 1)):
        np.testing.assert_array_equal(
            result.params[place]["params"]["Dense_0"]["kernel"],
            alone.params[k]["params"]["Dense_0"]["kernel"],
        )
        for name, values in alone.metrics.items():
            np.testing.assert_array_equal(result.metrics[name][place], values[k], name)
    assert result.timing.steps == 4 * 80  # Without ten steps of warm-up each.


def test_members_that_log_at_other_steps_are_aligned():
    wide = rg.population(small(), [0, 1])
    changes = {"network.hidden": (4,), "tracking.interval": 30}
    narrow = rg.population(small(changes), [0, 1])
    result = rg.train(env=ENV, members=wide + narrow, total_steps=90)
    assert result.steps.tolist() == [20, 30, 40, 60, 80, 90]
    known = ~np.isnan(result.metrics["training/episodes"])
    assert known[::2].tolist() == [
        [True, False, True, True, True, True],
        [False, True, True, True, True, True],
    ]


# ------------------------------------------------------------------------------ files


def test_a_run_directory_gets_rows_and_a_summary(tmp_path):
    members = rg.population(small(), seeds=[3, 5])
    result = rg.train(env=ENV, members=members, total_steps=90, run_dir="here")
    written = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert written == [
        "config.json",
        "metrics.jsonl",
        "parameters.npz",
        "run.json",
        "summary.json",
    ]
    text = (tmp_path / "here" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(r["step"], r["seed"]) for r in rows[-2:]] == [(90, 3), (90, 5)]
    assert len(rows) == 10
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    final = result.final()["evaluation/return"]
    assert summary["evaluation/return"]["members"] == final.tolist()
    assert summary["evaluation/return"]["mean"]["value"] == pytest.approx(final.mean())
    assert (summary["status"], summary["env_steps"]) == ("finished", 90)
    assert summary["seeds"] == [3, 5]
    assert summary["steps_per_s"] > 0


def test_every_structure_has_a_folder_of_its_own(tmp_path):
    sweep = {"network.hidden": [(8,), (4,)]}
    members = rg.population(small(), seeds=range(2), sweep=sweep)
    rg.train(env=ENV, members=members, total_steps=90, run_dir=tmp_path / "both")
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("summary.json"))
    assert found == ["both/0/summary.json", "both/1/summary.json"]
    for k, width in enumerate((8, 4)):
        document = json.loads((tmp_path / f"both/{k}/config.json").read_text())
        assert document["config"]["network.hidden"] == [width]
        assert document["seeds"] == [0, 1]


def test_members_whose_configs_differ_are_points_and_never_averaged(tmp_path):
    sweep = {"optimizer.learning_rate": [0.0, 1e-2]}
    members = rg.population(small(), seeds=[4, 6], sweep=sweep)
    result = rg.train(env=ENV, members=members, total_steps=90, run_dir="swept")
    for k, rate in enumerate((0.0, 1e-2)):
        folder = tmp_path / "swept" / str(k)
        document = json.loads((folder / "config.json").read_text())
        assert document["config"]["optimizer.learning_rate"] == rate
        summary = json.loads((folder / "summary.json").read_text())
        own = result.final()["loss/td_error_abs"][2 * k : 2 * k + 2]
        assert summary["loss/td_error_abs"]["members"] == own.tolist()
        assert summary["seeds"] == [4, 6]
        how = json.loads((folder / "run.json").read_text())
        assert (how["population"], how["members"]) == ("..", [2 * k, 2 * k + 1])
    frame = result.frame()
    assert frame["optimizer.learning_rate"].tolist() == [0.0] * 10 + [1e-2] * 10
    alone = rg.train(env=ENV, members=members[:2], total_steps=90).frame()
    assert "optimizer.learning_rate" not in alone
    how = json.loads((tmp_path / "swept" / "run.json").read_text())
    assert how["points"] == ["0", "1"]


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    members = rg.population(small(), seeds=[1])
    rg.train(env=ENV, members=members, total_steps=90, run_dir="here")
    before = (tmp_path / "here" / "metrics.jsonl").read_bytes()
    with pytest.raises(rg.ConfigError, match="here: holds a run already; expected res"):
        rg.train(env=ENV, members=members, total_steps=90, run_dir="here")
    changes = {"run.overwrite": True, "training.num_envs": 1}
    again = rg.population(small(changes), seeds=[1])
    rg.train(env=ENV, members=again, total_steps=90, run_dir="here")
    old = tmp_path / "here.replaced-1" / "metrics.jsonl"
    assert old.read_bytes() == before
    assert not (tmp_path / "here" / "lease.json").exists()


def test_objects_that_were_handed_over_are_named(tmp_path):
    from rl_grads.envs import make

    env = make.make(rg.replace(rg.Config(), {"env.id": ENV}).env)
    members = rg.population(small(), seeds=[1])
    rg.train(env=env, members=members, total_steps=90, run_dir="here")
    how = json.loads((tmp_path / "here" / "run.json").read_text())
    assert how["objects"] == {"environment": env.name}
    assert how["status"] == "finished"
    assert how["versions"]["jax"] == jax.__version__


def test_trackers_are_told_each_members_own_numbers(monkeypatch):
    told, open_trackers = [], session.open_trackers
    monkeypatch.setattr(
        session,
        "open_trackers",
        lambda run, **k: told.append(run) or open_trackers(run, **k),
    )
    members = rg.population(
        small(), seeds=[2], sweep={"optimizer.learning_rate": [0.0, 1e-2]}
    )
    rg.train(env=ENV, members=members, total_steps=90, run_dir="here")
    assert [run.seeds for run in told] == [(2,), (2,)]
    configs = [config for run in told for config in run.configs]
    assert [c["optimizer"]["learning_rate"] for c in configs] == [0.0, 1e-2]
    assert [c["training"]["total_steps"] for c in configs] == [90, 90]


# --------------------------------------------------------------------------- precision


def replay_types(monkeypatch, config):
    """Types of the floats in replay while `rg.train` runs, and the result."""
    kept, start = [], run.start

    def remember(the):
        snapshot = start(the)
        kept.append(snapshot.members.memory.ring.floats.dtype)
        return snapshot

    monkeypatch.setattr(run, "start", remember)
    result = rg.train(env=ENV, members=rg.population(config, [0, 1]), total_steps=90)
    return kept, result


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("default", [False, True])
def test_the_config_decides_on_the_precision(monkeypatch, precision, default):
    with jax.enable_x64(default):
        kept, result = replay_types(monkeypatch, small({"precision": precision}))
    assert kept == [precision]
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {
        np.dtype(precision)
    }
    for name in ("loss/td_error_abs", "gradient/norm"):
        values = result.metrics[name]
        short = values == values.astype(np.float32)
        assert np.all(short) if precision == "float32" else not np.any(short)
    assert not jax.config.jax_enable_x64


def test_trackers_are_told_how_it_was_made_and_where_it_belongs(monkeypatch):
    told, open_trackers = [], session.open_trackers
    monkeypatch.setattr(
        session,
        "open_trackers",
        lambda run, **k: told.append(run) or open_trackers(run, **k),
    )
    rates = {"optimizer.learning_rate": [0.0, 1e-2]}
    members = rg.population(small(), seeds=[2], sweep=rates)
    rg.train(env=ENV, members=members, total_steps=90, run_dir="runs/swept")
    assert [(one.name, one.group) for one in told] == [
        ("swept/0", "swept"),
        ("swept/1", "swept"),
    ]
    assert [shown(one)[0].name for one in told] == ["lr=0 · seed 2", "lr=0.01 · seed 2"]
    assert {one.company for one in told} == {2}
    assert {one.tags for one in told} == {("agent:q_learning", f"env:{ENV}")}
    for one in told:
        assert one.provenance["versions"]["jax"] == jax.__version__
        assert "diff" not in one.provenance["source"]["rl_grads"]
