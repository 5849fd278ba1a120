"""`resume=`: what a folder says is data, and a run goes on as what it was."""

import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAVED = ("checkpoint.interval=44", "network=mlp", "network.hidden=[8]")


@pytest.fixture
def made(train, home):
    """`runs/one`, finished and with its checkpoint, and its files."""
    status, _, err = train(*SAVED, "run.id=one")
    assert status == 0, err
    return home / "runs" / "one"


def contents(run):
    """Its files, but for the log, which earlier commands of this process still have."""
    files = (p for p in run.rglob("*") if p.is_file() and p.name != "train.log")
    return {p: p.read_bytes() for p in files}


def earlier(run):
    """Make a folder what versions before `config.json` left."""
    for name in ("config.json", "run.json"):
        (run / name).unlink()


def plant(run, *lines):
    file = run / ".hydra" / "overrides.yaml"
    file.write_text(file.read_text() + "".join(f"- {json.dumps(x)}\n" for x in lines))


# ------------------------------------------------------------------ a stranger's folder


class Act:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


PLANTS = [
    "--experimental-rerun=runs/one/p",
    "hydra.searchpath=[pkg://planted]",
    "hydra.job_logging.handlers.console.stream=ext://planted.x",
    "hydra.job_logging.handlers.file.filename=MARK",
    "hydra.mode=MULTIRUN",
    "hydra.sweep.dir=MARK",
    "hydra.output_subdir=MARK",
    "+hydra.job.env_set.WANDB_BASE_URL=http://127.0.0.1:9",
    "hydra/launcher=joblib",
    "+hydra/callbacks=planted",
    "~hydra.job",
    "resum=MARK",
    "--config-dir=MARK",
    "-m",
]


@pytest.mark.parametrize("old", [False, True], ids=["now", "earlier"])
@pytest.mark.parametrize("line", PLANTS)
def test_what_only_a_stranger_would_record_is_refused(command, made, home, line, old):
    (made / "p").write_bytes(pickle.dumps(Act(home / "mark")))
    (home / "planted.py").write_text("open('mark', 'w')\n")
    if old:
        earlier(made)
    line = line.replace("MARK", str(home / "mark"))
    plant(made, line)
    before = contents(made)
    for argv in (
        ("train", "resume=runs/one"),
        ("anatomy", "runs/one", "--step", "46"),
        ("plot", "curves", "runs/one"),
    ):
        status, _, err = command(*argv)
        assert status == 2
        assert f"overrides.yaml: {line[:120]}: expected a key of a config" in err
    assert "Traceback" not in err
    assert contents(made) == before
    assert not (home / "mark").exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hydra.run.dir", "/tmp", "hydra.run.dir: expected a key of a config"),
        ("agent", "os.system", "agent=os.system: expected a registered agent"),
        ("agent.loss", "os.system", "agent.loss='os.system': expected a registered"),
        ("agent.discount", 7.0, "agent.discount=7.0: expected a number in [0, 1]"),
        ("network.hidden", "8", "network.hidden='8': expected a list"),
        ("agent.discont", 0.5, "agent.discont: expected a key of a config; did you"),
    ],
)
def test_a_document_holds_our_own_keys_and_values(command, made, key, value, expected):
    document = json.loads((made / "config.json").read_text())
    document["config"][key] = value
    (made / "config.json").write_text(json.dumps(document))
    before = contents(made)
    for argv in (("train", "resume=runs/one"), ("anatomy", "runs/one", "--step", "46")):
        status, _, err = command(*argv)
        assert status == 2
        assert expected in err
    assert contents(made) == before


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format": 2}', "format=2: expected 1"),
        ('{"format": true}', "format=True: expected 1"),
        ("[1]", "expected a JSON mapping"),
        ('{"format": 1', "expected JSON"),
        ("", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
    ],
)
def test_an_odd_document_is_one_line(command, made, name, text, expected):
    (made / name).write_text(text)
    for argv in (("train", "resume=runs/one"), ("anatomy", "runs/one", "--step", "46")):
        status, _, err = command(*argv)
        assert status == 2
        assert f"{name}: {expected}" in err
        assert "Traceback" not in err


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in itertools.pairwise("abcdefghij")
)


@pytest.mark.parametrize("name", ["config.yaml", "hydra.yaml", "overrides.yaml"])
@pytest.mark.parametrize(
    "text", ["1", "[]", "", BOMB, "{a: ", "!!python/object/apply:os.system [true]"]
)
def test_odd_yaml_of_an_earlier_version_is_one_line(command, made, name, text):
    earlier(made)
    (made / ".hydra" / name).write_text(text)
    if (name, text) == ("overrides.yaml", "[]"):
        return
    for argv in (
        ("train", "resume=runs/one"),
        ("anatomy", "runs/one", "--step", "46"),
        ("plot", "curves", "runs/one"),
    ):
        status, _, err = command(*argv)
        assert status == 2
        assert f"{name}: expected" in err
        assert "Traceback" not in err


def test_a_folder_of_an_earlier_version_goes_on(command, made):
    earlier(made)
    status, _, err = command("train", "resume=runs/one", "training.total_steps=60")
    assert status == 0, err
    rows = (made / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [44, 44, 60, 60]


def test_a_key_of_an_earlier_version_is_read_by_its_new_name(command, made):
    document = json.loads((made / "config.json").read_text())
    document["config"]["tracking.wandb.runs"] = "member"
    del document["config"]["tracking.runs"]
    when = {"time": "then", "step": 44, "values": {"tracking.wandb.runs": "point"}}
    (made / "config.json").write_text(json.dumps(document | {"changes": [when]}))
    status, _, err = command("train", "resume=runs/one", "training.total_steps=60")
    assert status == 0, err
    found = json.loads((made / "config.json").read_text())
    assert found["config"]["tracking.runs"] == "member"
    assert "tracking.wandb.runs" not in found["config"]
    assert found["changes"][0] == when
    assert "tracking.runs" not in found["changes"][1]["values"]  # Still of the point.


def test_such_a_key_on_the_command_line_of_a_resume_is_answered(command, made):
    status, _, err = command("train", "resume=runs/one", "tracking.wandb.runs=none")
    assert status == 2
    assert "tracking.wandb.runs=none: expected tracking.runs, its name now" in err


def test_a_folder_before_config_json_with_an_earlier_key_goes_on(command, made):
    earlier(made)
    file = made / ".hydra" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["tracking"]["wandb"]["runs"] = config["tracking"].pop("runs")
    file.write_text(yaml.safe_dump(config))
    status, _, err = command("train", "resume=runs/one", "training.total_steps=60")
    assert status == 0, err
    recorded = json.loads((made / "config.json").read_text())["config"]
    assert recorded["tracking.runs"] == "auto"


def test_what_reads_the_environment_is_asked_for(command, made):
    document = json.loads((made / "config.json").read_text())
    document["config"]["tracking.wandb.group"] = "${oc.env:HOME}"
    (made / "config.json").write_text(json.dumps(document))
    status, _, err = command("train", "resume=runs/one")
    assert status == 2
    assert "tracking.wandb.group=${oc.env:HOME}: expected on the command line" in err
    assert os.environ["HOME"] not in err


def test_where_mirrors_are_is_not_taken_from_a_folder(command, made, monkeypatch):
    document = json.loads((made / "config.json").read_text())
    document["config"] |= {
        "tracking.wandb.mode": "online",
        "tracking.wandb.entity": "stranger",
    }
    (made / "config.json").write_text(json.dumps(document))
    argv = ("train", "resume=runs/one", "tracking.wandb.mode=disabled")
    status, _, err = command(*argv, "training.total_steps=60")
    assert status == 0, err
    (change,) = json.loads((made / "config.json").read_text())["changes"]
    assert change["values"]["tracking.wandb.entity"] is None
    assert change["values"]["tracking.wandb.mode"] == "disabled"


# ---------------------------------------------------------------------- what may change


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("seeds=4", "seeds=[0, 1, 2, 3]: expected [0, 1], as in runs/one"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate=1.0: expected 0.0003"),
        ("agent=sarsa", "agent.loss=sarsa: expected double_q_learning"),
        ("experiment=random_walk", "experiment=random_walk: expected train"),
        ("hydra.run.dir=x", "hydra.run.dir=x: expected KEY=VALUE of the config"),
        ("agent.discont=1", "agent.discont=1: expected a key of agent"),
        ("checkpoint.keep=0", "checkpoint.keep=0: expected an integer in [1, "),
    ],
)
def test_a_refused_resume_writes_nothing(command, made, given, expected):
    before = contents(made)
    status, _, err = command("train", "resume=runs/one", given)
    assert status == 2
    assert expected in err
    assert contents(made) == before


def test_in_a_new_folder_any_number_may_change(command, made):
    before = contents(made)
    status, _, err = command(
        *("train", "resume=runs/one", "run.id=two", "training.total_steps=60"),
        *("optimizer.learning_rate=0.5", "agent=expected_sarsa"),
    )
    assert status == 0, err
    new = made.parent / "two"
    config = json.loads((new / "config.json").read_text())["config"]
    assert config["optimizer.learning_rate"] == 0.5
    assert config["agent.loss"] == "expected_sarsa"
    assert config["network.hidden"] == [8]
    assert json.loads((new / "run.json").read_text())["from"]["step"] == 44
    assert contents(made) == before


# -------------------------------------------------------------------------- resume=auto


def unfinished(run, name):
    other = run.parent / name
    shutil.copytree(run, other)
    (other / "summary.json").unlink()
    return other


def test_auto_takes_the_newest_that_can_be_resumed(command, made, caplog):
    places = [unfinished(made, name) for name in ("good", "empty", "leased")]
    shutil.rmtree(places[1] / "checkpoints")
    for age, place in enumerate((*places, made)):
        os.utime(place / "metrics.jsonl", (1e9 + age, 1e9 + age))
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        _lease(places[2], sleeper.pid)
        status, _, err = command("train", "resume=auto")
    finally:
        sleeper.communicate(b"\n")
    assert status == 0, err
    assert (places[0] / "summary.json").exists()
    assert "resume=auto: runs/good" in caplog.text
    assert "resume=auto: not runs/one: finished" in caplog.text
    assert "resume=auto: not runs/empty: has no checkpoint" in caplog.text
    assert "resume=auto: not runs/leased: process " in caplog.text


def _lease(directory, pid):
    """A lease that another living process of this machine holds."""
    from rl_grads.tracking import lease

    held = lease._own()._replace(pid=pid, began=lease._began(pid))
    document = held._asdict() | {"counter": 3}
    (directory / "lease.json").write_text(json.dumps(document))


def test_the_same_command_again_goes_on_or_begins(train, home):
    argv = (*SAVED, "run.id=job", "resume=auto")
    (home / "runs/job/.hydra").mkdir(parents=True)  # One was killed at its start.
    (home / "runs/job/.hydra/config.yaml").write_text("agent: {lo")
    assert train(*argv).status == 0
    rows = (home / "runs/job/metrics.jsonl").read_bytes()
    (home / "runs/job/summary.json").unlink()
    status, _, err = train(*argv)
    assert status == 0, err
    assert (home / "runs/job/metrics.jsonl").read_bytes() == rows
    status, _, err = train(*argv, "agent.discount=.5")
    assert status == 2
    assert "agent.discount=0.5: expected 0.995, as in runs/job" in err


def test_a_named_sweep_goes_on(train, home):
    argv = ("-m", "optimizer.learning_rate=0,1e-3", "run.id=job", "resume=auto")
    assert train(*SAVED, *argv).status == 0
    second = home / "sweeps/job/1"
    rows = (second / "metrics.jsonl").read_bytes()
    shutil.rmtree(second)
    status, out, err = train(*SAVED, *argv)
    assert status == 0, err
    assert "sweeps/job/population-0: finished before" in out
    assert (second / "metrics.jsonl").read_bytes() == rows
    status, _, err = train(*SAVED, *argv[:-1])
    assert status == 2
    assert "sweeps/job: holds a run already" in err


# ------------------------------------------------------------------------- a run's name


def test_a_name_is_used_once(train, home, made):
    status, _, err = train("run.id=one", "seed=7")
    assert status == 2
    assert "resume=runs/one" in err and "run.overwrite=true" in err
    status, _, err = train("run.id=one", "seed=7", "run.overwrite=true")
    assert status == 0, err
    assert json.loads((made / "summary.json").read_text())["seeds"] == [7, 8]
    old = json.loads((home / "runs/one.replaced-1/summary.json").read_text())
    assert old["seeds"] == [0, 1]


@pytest.mark.slow
def test_runs_started_at_once_have_folders_of_their_own(tiny, home):
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "rl_grads.cli.main", "train", *tiny, f"seed={k}"],
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(0, 40, 2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    places = [p.parent for p in (home / "runs" / "train").glob("*/summary.json")]
    seeds = [json.loads((p / "summary.json").read_text())["seeds"] for p in places]
    assert sorted(seeds) == [[k, k + 1] for k in range(0, 40, 2)]
    for place, (first, _) in zip(places, seeds, strict=True):
        overrides = yaml.safe_load((place / ".hydra" / "overrides.yaml").read_text())
        assert f"seed={first}" in overrides
        assert not (place / "lease.json").exists()


# ------------------------------------------------------------------------------ plugins


def test_plugins_are_asked_for_and_never_imported_by_a_folder(tiny, home):
    (home / "foreign_loss.py").write_text(
        "import rl_grads as rg\n"
        "from rl_grads.td import losses\n"
        "rg.register.loss('foreign')(losses.double_q_learning)\n"
    )
    argv = ("--plugin", "foreign_loss", "agent.loss=foreign", "run.id=own")
    code = (
        "import sys; from rl_grads.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    done = run("train", *tiny, *SAVED, *argv)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((home / "runs/own/run.json").read_text())
    assert recorded["plugins"] == ["foreign_loss"]
    assert re.fullmatch("[0-9a-f]{64}", recorded["source"]["foreign_loss"]["sha256"])
    done = run("train", "resume=runs/own")
    assert done.returncode == 2
    assert "expected --plugin foreign_loss: the run was made with it" in done.stderr
    done = run("train", "resume=runs/own", "--plugin", "foreign_loss")
    assert done.returncode == 0, done.stderr


def test_a_resume_needs_no_folder_of_configs(command, train, home):
    own = home / "conf" / "agent"
    own.mkdir(parents=True)
    text = (
        "defaults: [schema/q_learning@_here_]\nbehaviour_policy: {temperature: 3.0}\n"
    )
    (own / "mine.yaml").write_text(text)
    status, _, err = train(*SAVED, "--config-dir=conf", "agent=mine", "run.id=own")
    assert status == 0, err
    recorded = json.loads((home / "runs/own/run.json").read_text())
    assert recorded["config_dir"] == "conf"
    argv = ("train", "resume=runs/own", "training.total_steps=60")
    status, _, err = command(*argv)
    assert status == 0, err
    saved = yaml.safe_load((home / "runs/own/.hydra/config.yaml").read_text())
    assert saved["agent"]["behaviour_policy"]["temperature"] == 3.0
    recorded = json.loads((home / "runs/own/config.json").read_text())["config"]
    assert recorded["agent.behaviour_policy.temperature"] == 3.0
