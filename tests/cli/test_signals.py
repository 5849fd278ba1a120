"""A run that a signal stops saves its state, ends in time, and goes on to its end."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_grads.tracking.lease import holder

ROOT = Path(__file__).parents[2]
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2")
# How many random moments for each signal; `make test-signals` asks for forty.
MOMENTS = int(os.environ.get("RL_GRADS_SIGNALS", "2"))
# A stretch takes seconds, and there are two: most moments are in the middle of one.
LONG = (
    "seeds=2",
    "network=mlp",
    "network.hidden=[8]",
    "training.total_steps=1_000_000",
    "training.num_envs=10",
    "training.updates_per_iteration=1",
    "training.batch_size=8",
    "training.warmup_steps=100",
    "replay=gradient_norm",
    "replay.capacity=500",
    "evaluation.episodes=20",
    "evaluation.interval=500_000",
    "evaluation.max_steps=50",
    "tracking.interval=500_000",
    "tracking.progress=false",
    "tracking.trackio=false",
    "tracking.wandb.mode=disabled",
)


# Under `nohup` children ignore SIGHUP, and so does the command, as it should.
HANG_UP_COUNTS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"


@pytest.fixture
def start(tmp_path):
    """Start `rl-grads ARGUMENT ...` in the test's folder."""
    processes = []

    def run(*arguments, before=""):
        code = (
            f"{HANG_UP_COUNTS}\n{before}\n"
            "import sys; from rl_grads.cli.main import main;"
            "sys.exit(main(sys.argv[1:]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def rows(home):
    return (home / "metrics.jsonl").read_bytes()


def again(errors, before):
    """The arguments of the resume command that was printed; those before again
    where the signal came before the command had a run in its hands."""
    found = re.findall(r"^  rl-grads (train resume=.*)$", errors, re.MULTILINE)
    return shlex.split(found[0]) if found else before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a run that nothing stops, and how long it takes."""
    home = tmp_path_factory.mktemp("whole")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rl_grads.cli.main", "train", *LONG, "run.id=x"]
    began = time.monotonic()
    subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True)
    return rows(home / "runs/x"), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("number", range(MOMENTS))
def test_it_stops_in_time_and_goes_on_to_the_same_end(
    start, whole, tmp_path, name, number
):
    expected, seconds = whole
    moment = random.Random(f"{name} {number}").uniform(0.3, seconds)
    number_of = getattr(signal, name)
    home, status, stops = tmp_path / "runs/x", 128 + number_of, 0
    ended = (0, -number_of)  # It had just ended, and Python was about to.
    arguments = ["train", *LONG, "run.id=x"]
    process = start(*arguments)
    while stops < 3:
        try:
            process.wait(moment)
            break
        except subprocess.TimeoutExpired:
            stops += 1
        asked = time.monotonic()
        process.send_signal(number_of)
        _, errors = process.communicate(timeout=30)
        took = time.monotonic() - asked
        assert process.returncode in (status, *ended), errors
        assert took < 12, f"{took} s after {name} at {moment} s"
        assert "Traceback" not in errors
        assert not home.exists() or holder(home) is None
        if process.returncode in ended or (home / "summary.json").exists():
            ended += (status,)  # It came when the last row was written.
            break
        arguments = again(errors, arguments)
        process = start(*arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode in ended, errors
    assert rows(home) == expected
    assert (home / "summary.json").exists()
    assert json.loads((home / "run.json").read_text())["status"] == "finished"


IMPORTING = """
import builtins, os, signal, time
real = builtins.__import__
def importing(name, *rest):
    if name == "jax":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # Python handles it here, and would raise here.
    try:
        return real(name, *rest)
    except BaseException as error:
        raise ImportError("an import that takes every error for its own") from error
builtins.__import__ = importing
"""


def test_one_that_comes_in_an_import_is_none_of_its_errors(start, tmp_path):
    process = start("train", *LONG, "run.id=x", before=IMPORTING)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "interrupted\n")
    assert not (tmp_path / "runs").exists()


def wait_for(path, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(start, tmp_path):
    process = start("train", *LONG, "run.id=x", "training.total_steps=2_000_000_000")
    wait_for(tmp_path / "runs/x/metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(30) in (130, 143)
    assert time.monotonic() - began < 2


@pytest.mark.slow
def test_what_ignores_hangups_goes_on_ignoring_them(start, tmp_path):
    before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = start("train", *LONG, "run.id=x", before=before)
    wait_for(tmp_path / "runs/x/metrics.jsonl", process)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_usr2_is_handed_on_when_all_is_saved(start, tmp_path):
    before = (
        "import pathlib, signal\n"
        "def requeue(*_): pathlib.Path('requeued').write_text(str(list(\n"
        "    pathlib.Path('runs/x/checkpoints').iterdir())))\n"
        "signal.signal(signal.SIGUSR2, requeue)"
    )
    process = start("train", *LONG, "run.id=x", before=before)
    wait_for(tmp_path / "runs/x/metrics.jsonl", process)
    time.sleep(3)
    process.send_signal(signal.SIGUSR2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR2, errors
    assert "PosixPath" in (tmp_path / "requeued").read_text()


@pytest.mark.slow
def test_a_signal_in_a_sweep_ends_the_sweep(start, tmp_path):
    argv = ("train", "-m", *LONG, "run.id=s", "agent.discount=.9,.95")
    process = start(*argv)
    wait_for(tmp_path / "sweeps/s/0/metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert not (tmp_path / "sweeps/s/1").exists()
    process = start(*argv, "resume=auto")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for point in ("0", "1"):
        assert (tmp_path / "sweeps/s" / point / "summary.json").exists()


HANG = """
import time
import gymnasium
class Hangs(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}
    def step(self, action):
        self.steps += 1
        if self.steps > 150:
            open("hangs", "w").close()
            time.sleep(600)
        return self.observation_space.sample(), 0.0, False, False, {}
gymnasium.register("Hangs-v0", Hangs)
"""


@pytest.mark.slow
def test_what_hangs_in_a_callback_is_ended(start, tmp_path):
    (tmp_path / "foreign_hangs.py").write_text(HANG)
    process = start(
        *("train", "--plugin", "foreign_hangs", *LONG, "run.id=x"),
        *("env=gymnasium/Hangs-v0", "training.num_envs=2"),
    )
    wait_for(tmp_path / "hangs", process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert time.monotonic() - began < 11
    assert "ended by signal 15; to go on:\n  rl-grads train resume=" in errors
