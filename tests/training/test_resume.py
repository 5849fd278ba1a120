"""A run that is cut off and continued is the run that was never cut off."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.config import ConfigError
from rl_grads.envs.environment import Environment, Step
from rl_grads.envs.wrappers import wrap
from rl_grads.replay import buffer
from rl_grads.training import loop, session
from rl_grads.training.continuing import keep_schedules
from rl_grads.training.engine import Given, parts
from rl_grads.training.restart import restart

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAVED = {"checkpoint.interval": 120}


def document(directory):
    return json.loads((directory / "summary.json").read_text())


def metrics_of(summary):
    return {name: v for name, v in summary.items() if isinstance(v, dict)}


# --------------------------------------------------------------- from the command line

ARGUMENTS = (
    "seeds=2",
    "network.hidden=[8]",
    "training.total_steps=100_000",
    "training.num_envs=10",
    "training.batch_size=8",
    "training.warmup_steps=100",
    "replay.capacity=500",
    "evaluation.episodes=2",
    "evaluation.interval=50_000",
    "evaluation.max_steps=50",
    "checkpoint.interval=20_000",
    "tracking.interval=1000",
    "tracking.progress=false",
    "tracking.trackio=false",
    "tracking.runs=none",
)


@pytest.fixture
def launch(tmp_path):
    """Start `rl-grads train ARGUMENT ...` in a folder; no process outlives the test."""
    processes = []

    def start(folder, *arguments):
        (tmp_path / folder).mkdir(exist_ok=True)
        quick = {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "rl_grads.cli.main", "train", *arguments],
            cwd=tmp_path / folder,
            env=os.environ | quick,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def test_a_killed_run_continues_to_the_same_files(launch, tmp_path):
    whole = launch("whole", *ARGUMENTS, "hydra.run.dir=run")
    finish(whole)

    killed = launch("killed", *ARGUMENTS, "hydra.run.dir=run")
    home, other = tmp_path / "killed" / "run", tmp_path / "whole" / "run"
    saved = home / "checkpoints"
    wait_for(lambda: any(p.name.isdigit() for p in saved.glob("*")), killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (home / "summary.json").exists()
    with open(home / "metrics.jsonl", "a") as file:
        file.write('{"step": 99')  # A row that was being written.
    finish(launch("killed", "resume=run"))

    lines = (home / "metrics.jsonl").read_bytes()
    assert lines == (other / "metrics.jsonl").read_bytes()
    assert len(lines.splitlines()) == 2 * 100
    found, expected = document(home), document(other)
    assert found["status"] == expected["status"] == "finished"
    assert found["env_steps"] == expected["env_steps"] == 100_000
    assert metrics_of(found) == metrics_of(expected)


# --------------------------------------------------------------------- in this process


class Cut(Exception):
    """Stands for whatever ends a process."""


def cut_off(members, directory, monkeypatch, after=150):
    """Train and stop once a row later than `after` steps is written."""
    row = session.Files.row

    def failing(files, step, metrics):
        row(files, step, metrics)
        if step > after:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(session.Files, "row", failing)
        with pytest.raises(Cut):
            rg.train(members=members, run_dir=directory)
    assert not any(directory.rglob("summary.json"))


def resumed(config, directory, seeds=range(3), source=None, **changes):
    config = rg.replace(config, {"resume": str(source or directory)} | changes)
    members = rg.population(config, seeds=seeds)
    return rg.train(members=members, run_dir=directory)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)]
)
def test_a_resumed_result_is_the_whole_result(tiny, tmp_path, monkeypatch, precision):
    config = tiny(SAVED | {"precision": precision})
    members = rg.population(config, seeds=range(3))
    whole = rg.train(members=members, run_dir=tmp_path / "whole")
    cut_off(members, tmp_path / "cut", monkeypatch)
    again = resumed(config, tmp_path / "cut")
    assert again.steps.tolist() == whole.steps.tolist() == [60, 120, 180, 240]
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values, name)
    for found, expected in zip(again.params, whole.params, strict=True):
        for leaf, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            assert leaf.dtype == precision
            np.testing.assert_array_equal(leaf, other)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.timing.steps == 3 * 120
    assert document(tmp_path / "cut")["env_steps"] == 240


@pytest.fixture
def interrupted(tiny, tmp_path, monkeypatch):
    """The config and the directory of a run that was cut off after its checkpoint."""
    config = tiny(SAVED)
    cut_off(rg.population(config, seeds=range(3)), tmp_path / "run", monkeypatch)
    return config, tmp_path / "run"


def test_what_does_not_fit_is_refused(interrupted):
    config, home = interrupted
    before = (home / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"network.hidden=\[8\]: expected \[16\], as"):
        resumed(config, home, **{"network.hidden": (8,)})
    with pytest.raises(
        ConfigError, match=r"seeds=\[1, 2, 3\]: expected \[0, 1, 2\], as"
    ):
        resumed(config, home, seeds=range(1, 4))
    with pytest.raises(ConfigError, match="elsewhere: expected the folder of a run"):
        resumed(config, home.parent / "elsewhere")
    elsewhere = home.parent / "new"
    with pytest.raises(ConfigError, match=r"has agent\.params\..*bias: floa"):
        resumed(config, elsewhere, source=home, **{"network.hidden": (8,)})
    with pytest.raises(ConfigError, match=r"has agent.target_params.*: float32\["):
        resumed(config, elsewhere, source=home, **{"agent.target.polyak": None})
    assert (home / "metrics.jsonl").read_bytes() == before
    assert not elsewhere.exists()
    (home / "metrics.jsonl").write_bytes(before[: before.index(b"\n") + 1])
    with pytest.raises(
        ConfigError, match=r"metrics.jsonl with \d+ bytes up to step 120, .* got \d+"
    ):
        resumed(config, home)


def test_where_rows_are_lost_an_older_checkpoint_is_used(
    tiny, tmp_path, monkeypatch, caplog
):
    config = tiny({"checkpoint.interval": 60, "checkpoint.keep": 3})
    members = rg.population(config, seeds=range(3))
    rg.train(members=members, run_dir=tmp_path / "whole")
    cut_off(members, tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))  # Those of step 60.
    result = resumed(config, tmp_path / "run")
    assert result.steps.tolist() == [60, 120, 180, 240]
    assert "up to step 120, as at its checkpoint" in caplog.text
    assert path.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_only_its_length_and_what_is_kept_may_change_in_its_own_folder(interrupted):
    config, home = interrupted
    with pytest.raises(ConfigError, match=r"learning_rate=0\.001: expected 0\.01"):
        resumed(config, home, **{"optimizer.learning_rate": 0.001})
    longer = {
        "training.total_steps": 300,
        "checkpoint.keep": 2,
        "tracking.interval": 30,
    }
    result = resumed(config, home, **longer)
    assert result.steps.tolist() == [60, 120, 150, 180, 210, 240, 270, 300]
    document = json.loads((home / "config.json").read_text())
    assert document["config"]["training.total_steps"] == 240
    (change,) = document["changes"]
    assert change["step"] == 120
    # Schedules keep the length that they began with.
    assert change["values"] == longer | {"training.schedule_steps": 240}
    how = json.loads((home / "run.json").read_text())
    assert [again["step"] for again in how["resumes"]] == [120]


def test_in_a_new_folder_numbers_may_change(interrupted):
    config, home = interrupted
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    changes = {"optimizer.learning_rate": 0.001, "training.total_steps": 240}
    result = resumed(config, home.parent / "new", source=home, **changes)
    assert result.steps.tolist() == [180, 240]
    assert {p: p.read_bytes() for p in home.rglob("*") if p.is_file()} == before
    how = json.loads((home.parent / "new" / "run.json").read_text())
    assert how["from"] == {"run": str(home), "step": 120}


def test_a_run_without_a_checkpoint_begins_again(tiny, tmp_path, monkeypatch, caplog):
    config = tiny({"checkpoint.seconds": None})
    members = rg.population(config, seeds=range(3))
    whole = rg.train(members=members, run_dir=tmp_path / "whole")
    cut_off(members, tmp_path / "run", monkeypatch)
    again = resumed(config, tmp_path / "run")
    assert "no checkpoint was saved, so it begins again" in caplog.text
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.status == whole.status == "finished"


def test_a_finished_run_is_not_begun_again(tiny, tmp_path):
    config = tiny()
    rg.train(members=rg.population(config, seeds=range(3)), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="has finished and kept its parameters alone"):
        resumed(config, tmp_path / "run", **{"training.total_steps": 480})
    assert (tmp_path / "run" / "parameters.npz").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_population_of_several_configs_goes_on(tiny, tmp_path, monkeypatch):
    sweep = {"optimizer.learning_rate": [0.01, 0.02], "agent.discount": [0.9, 0.95]}

    def swept(changes):
        return rg.population(tiny(SAVED | changes), seeds=range(2), sweep=sweep)

    whole = rg.train(members=swept({}), run_dir=tmp_path / "whole")
    cut_off(swept({}), tmp_path / "cut", monkeypatch)
    members = swept({"resume": str(tmp_path / "cut")})
    again = rg.train(members=members, run_dir=tmp_path / "cut")
    assert again.status == whole.status
    longer = {"resume": str(tmp_path / "cut"), "training.total_steps": 300}
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    with pytest.raises(ConfigError, match="has finished and kept its parameters alone"):
        rg.train(members=swept(longer), run_dir=tmp_path / "cut")
    (member, *_) = keep_schedules(swept(longer))
    assert member.config.training.schedule_steps == 240
    for point in map(str, range(4)):
        files = [tmp_path / name / point / "metrics.jsonl" for name in ("whole", "cut")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert len(files[0].read_bytes().splitlines()) == 2 * 4


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "summary.json"])
def test_a_folder_that_leads_elsewhere_is_refused(interrupted, name):
    config, home = interrupted
    outside = home.parent / "outside"
    outside.mkdir()
    (home / name).unlink(missing_ok=True) if name != "checkpoints" else None
    if name == "checkpoints":
        (home / name).rename(outside / name)
    (home / name).symlink_to(outside / name)
    with pytest.raises(ConfigError, match=f"run/{name}: expected no links in a run's"):
        resumed(config, home)
    assert not (outside / "metrics.jsonl").exists()


# -------------------------------------------------------------------- host environments


def test_a_gymnasium_run_goes_on_in_fresh_environments(tiny, tmp_path, monkeypatch):
    config = tiny(SAVED | {"env.id": "gymnasium/CartPole-v1"})
    members = rg.population(config, seeds=range(2))
    cut_off(members, tmp_path / "run", monkeypatch)
    logged = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()
    result = resumed(config, tmp_path / "run", seeds=range(2))
    assert result.steps.tolist() == [60, 120, 180, 240]
    kept = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()
    assert kept[:4] == logged[:4]
    assert len(kept) == 8
    episodes = result.metrics["training/episodes"]
    assert np.all(np.diff(episodes, axis=1) >= 0)
    assert np.all(np.isfinite(result.final()["evaluation/return"]))


def counting(first=0.0):
    """Observations count from the first one on; episodes have no end."""

    def reset(key):
        return jnp.float32(first), jnp.full(1, first)

    def step(key, state, action):
        obs, ended = (state + 1)[None], jnp.bool_(False)
        return obs[0], Step(obs, jnp.float32(1), ended, ended, obs)

    observation = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment("counting", reset, step, observation, 2, resamples=False)


def test_the_memory_of_a_restarted_member_does_not_bootstrap_across_the_cut(tiny):
    changes = {"replay.capacity": 40, "training.num_steps": 2}
    config = tiny(changes | {"training.warmup_steps": 4})
    made = parts(Given(None, counting()), config)
    again = parts(Given(None, counting(500.0)), config)
    assert made.size.side > 0

    @jax.jit
    def run_and_restart(key):
        old = loop.warm_up(made, loop.init(made, key), jnp.int32(0), 4)
        member = restart(made, old, loop.init(again, key), 8)
        # Two more iterations: the row after the cut is written as well.
        after = loop.warm_up(made, member, jnp.int32(8), 2)
        ring = after.memory.ring
        return member, buffer.take(ring, made.size, jnp.arange(0, 24, 2))

    member, seen = run_and_restart(jax.random.key(0))
    np.testing.assert_array_equal(member.obs, [[500.0], [500.0]])
    np.testing.assert_array_equal(member.episodes.length, [0, 0])
    before, after = list(range(8)), [500, 501, 502, 503]
    assert seen.s_tm1.ravel().tolist() == before + after
    assert seen.s_t.ravel().tolist() == [s + 1 for s in before + after]
    assert seen.truncated.tolist() == [t == 7 for t in range(12)]
    assert not np.any(seen.terminated)


def test_a_cut_needs_a_place_for_final_observations():
    size = buffer.sizes(10, 1, 1, None)
    ring = buffer.create(size, jnp.zeros((1, 2)), jnp.float32)
    with pytest.raises(ValueError, match="cut: expected a ring with a side store"):
        buffer.cut(ring, size, jnp.int32(3), jnp.zeros((1, 2)))


def test_observation_statistics_survive_a_restart(tiny):
    wrappers = {
        "env.wrappers.normalise_observation": 1e-8,
        "env.wrappers.frame_stack": 2,
        "training.warmup_steps": 10,
    }
    config = tiny(wrappers)
    first, later = (
        parts(Given(None, wrap(counting(k), config.env.wrappers)), config)
        for k in (3.0, 500.0)
    )

    @jax.jit
    def run_and_restart(key):
        old, new = loop.init(first, key), loop.init(later, key)
        return new, restart(first, old, new, 1)

    new, member = run_and_restart(jax.random.key(0))
    state, fresh = member.environment, new.environment
    np.testing.assert_array_equal(state.inner.statistics.mean.high, [[3.0], [3.0]])
    np.testing.assert_array_equal(state.inner.inner, [500.0, 500.0])
    np.testing.assert_array_equal(state.frames, fresh.frames)
    assert np.all(fresh.inner.statistics.mean.high == 500.0)
