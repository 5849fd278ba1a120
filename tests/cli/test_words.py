"""What one types out of habit: numbers, dashes, deletions, functions, tab."""

import os
import subprocess
import sys

import pytest

import rl_grads as rg
from rl_grads.cli import completion, compose, door, whole_numbers
from rl_grads.cli.main import COMMANDS


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("training.total_steps=1e5", "training.total_steps=100000"),
        ("training.total_steps=2.5e3", "training.total_steps=2500"),
        ("seeds=1e1,2e1", "seeds=10,20"),
        ("+training.num_envs=choice(1e1,2e1)", "+training.num_envs=choice(10,20)"),
        ("network.hidden=[1e2,64]", "network.hidden=[100,64]"),
        ("training.total_steps=1.5e0", "training.total_steps=1.5e0"),
        ("training.total_steps=1e-3", "training.total_steps=1e-3"),
        ("optimizer.learning_rate=1e-3", "optimizer.learning_rate=1e-3"),
        ("run.id=1e3", "run.id=1e3"),
        ("training.total_steps=${seeds}", "training.total_steps=${seeds}"),
    ],
)
def test_whole_numbers(typed, meant):
    assert whole_numbers.as_typed(typed) == meant


def test_whole_numbers_in_a_run(train, home):
    status, _, err = train("training.total_steps=4.8e1", "run.id=one")
    assert status == 0, err


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("~gradient.update.clip", "expected gradient.update.clip=null"),
        ("~agent.discount", "expected agent.discount=VALUE"),
        ("--optimizer.learning_rate=0.02", "expected optimizer.learning_rate=0.02;"),
        ("--no.such=1", "--no.such=1: expected an option that --help lists"),
        ("hydra/launcher=joblib", "pip install hydra-joblib-launcher"),
        ("hydra/launcher=jobib", "did you mean 'joblib'?"),
        ("meta.learn=[agent.trace_decay]", "meta.learn="),
        ("--table=wide", "--table=wide: expected short or full"),
    ],
)
def test_words_for_what_is_meant(train, home, argument, says):
    status, _, err = train(argument)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


def test_an_interval_is_for_a_search(train, home):
    status, _, err = train("-m", "agent.discount=interval(0.9,0.99)")
    assert status == 2
    assert "expected values to train with, such as .1,.2 or range(1,5)" in err


def test_glob_is_the_choices_of_a_group():
    compose.store_schemas()
    request = compose.read(["-m", "replay=glob(*ank)"])
    with compose.composer(request):
        assert door.points(request.flags.overrides) == [["replay=rank"]]


@pytest.mark.slow
def test_glob_sweeps_over_the_choices_of_a_group(train, home):
    status, _, err = train("-m", "replay=glob(*ank)", "run.id=all")
    assert status == 0, err
    assert (home / "sweeps/all/0/summary.json").exists()


def test_without_replay_one_update_uses_what_is_new():
    updates = "training.updates_per_iteration"
    assert rg.compose("train").training.updates_per_iteration == 10
    online = rg.compose("train", "agent=sarsa", "replay=null")
    assert online.training.updates_per_iteration == 1
    asked = rg.compose("train", "agent=sarsa", "replay=null", f"{updates}=3")
    with pytest.raises(rg.ConfigError, match=f"{updates}=3: expected 1 where replay"):
        rg.train(members=rg.population(asked))


def test_a_backend_that_is_not_here(tmp_path):
    command = [sys.executable, "-m", "rl_grads.cli.main", "train"]
    environment = os.environ | {"JAX_PLATFORMS": "cuda"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert done.returncode == 2
    assert "JAX_PLATFORMS=cuda: expected a kind of device that is here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_version(command):
    assert command("--version").out.startswith("rl-grads 0.")


def test_keys_with_a_word(command):
    out = command("keys", "polyak").out
    assert out.startswith("agent.target.polyak")
    assert out.count("\n") == 1
    assert "no key or metric has the word 'xyzzy'" in command("keys", "xyzzy").out


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_each_shell_has_its_script(command, shell):
    status, out, _ = command("--completion", shell)
    assert status == 0
    assert "rl-grads --completion words" in out


def test_bash_completes_for_real(tmp_path):
    script = f"""
rl-grads() {{ {sys.executable} -m rl_grads.cli.main "$@"; }}
eval "$(rl-grads --completion bash)"
COMP_LINE="rl-grads train replay=ra"; COMP_POINT=${{#COMP_LINE}}
_rl_grads
echo "${{COMPREPLY[@]}}"
COMP_LINE="rl-grads an"; COMP_POINT=${{#COMP_LINE}}
_rl_grads
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "anatomy", done.stderr


def test_words_of_a_plugin_and_of_commands():
    assert completion.words("rl-grads ", tuple(COMMANDS)) == list(COMMANDS)
    assert completion.words("rl-grads train replay=p") == ["replay=per"]
    assert completion.words("rl-grads plot cu") == []
    assert "training.total_steps=" in completion.words("rl-grads train training.t")
