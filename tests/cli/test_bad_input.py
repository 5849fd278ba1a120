"""Bad input: exit status 2 and one short message, and nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_grads.cli.main import COMMANDS

LONG = "9" * 5000

# The command line, the key and value that the message must name, and more of it: what
# was expected and the nearest valid name where there is one.
CASES = [
    # Keys.
    ("sed=1", "sed=1", "a key", "'seed'"),
    ("agent.discont=0.9", "agent.discont=0.9", "a key of agent", "'agent.discount'"),
    ("agent.target.priod=5", "agent.target.priod=5", "'agent.target.period'"),
    ("learning_rate=1", "learning_rate=1", "'optimizer.learning_rate'"),
    ("+stray.key=1", "stray.key=1", "a key"),
    ("+agent.stray=1", "agent.stray=1", "a key of agent (loss, discount"),
    ("+training.target.polyak=1", "training.target.polyak=1", "a key of training"),
    ("agent.discount.x=1", "agent.discount.x=1", "a number in [0, 1]"),
    ("agent=prediction agent.behaviour_policy.epsilon=1", "epsilon=1", "q_learning"),
    ("optimizer=sgd optimizer.b1=0.5", "optimizer.b1=0.5", "optimizer=adam"),
    ("env.params.gravity=5", "env.params.gravity=5", "+env.params.gravity=5"),
    ("replay=null replay.capacity=9", "replay.capacity=9", "below replay, which is"),
    ("experiment=baird replay.capacity=9", "replay.capacity=9", "below replay, which"),
    ("tracking.wandb.runs=point", "wandb.runs=point", "tracking.runs, its name now"),
    ("+tracking.wandb.runs=point", "wandb.runs=point", "tracking.runs, its name now"),
    ("~replay replay.capacity=9", "~replay", "expected replay=null"),
    ("hydra.run.dirr=x", "hydra.run.dirr=x", "a key"),
    # Choices of groups.
    ("agent=q_lerning", "agent=q_lerning", "one of", "'q_learning'"),
    ("network=mpl", "network=mpl", "convolution, linear, mlp", "'mlp'"),
    ("optimizer=adamm", "optimizer=adamm", "one of", "'adam'"),
    ("replay=bufer", "replay=bufer", "one of", "'buffer'"),
    ("experiment=trian", "experiment=trian", "one of", "'train'"),
    ("agent=null", "agent=none", "one of"),
    ("~network", "~network", "expected network=VALUE"),
    ("experiment=null", "experiment=none", "one of"),
    ("hydra/launcher=basik", "hydra/launcher=basik", "'basic'"),
    ("--config-name=trian", "trian", "the name of a config"),
    # Types.
    ("agent.discount=high", "agent.discount=high", "a number in [0, 1]"),
    ("training.batch_size=1.5", "training.batch_size=1.5", "an integer"),
    ("seeds=ten", "seeds=ten", "an integer"),
    ("tracking.progress=maybe", "tracking.progress=maybe", "true or false"),
    ("agent.discount=[0.9]", "agent.discount=[0.9]", "a number"),
    ("optimizer.learning_rate=null", "optimizer.learning_rate=null", "a number"),
    ("network.hidden=64", "network.hidden=64", "a list, each an integer"),
    ("network.hidden=[64,wide]", "network.hidden=[64,wide]", "each an integer"),
    ("optimizer=sgd optimizer.momentum=abc", "momentum=abc", "or null"),
    ("run.id=[1,2]", "run.id=[1,2]", "text or null"),
    ("training=5", "training=5", "training.total_steps"),
    ("agent.target=5", "agent.target=5", "agent.target.period"),
    ("replay=none replay={a:1}", "replay={a:1}", "no key below replay, which is null"),
    ("env=${seed}", "env=${seed}", "the name of one of its choices"),
    ("run=${seed}", "run=${seed}", "a key below it, such as run.id"),
    ("training=${meta}", "training=${meta}", "a key below it, such as training."),
    ("env.kwargs=${seed}", "env.kwargs=${seed}", "a plain value"),
    ("run=${seed} run.id=x", "run=${seed} run.id=x", "below a null or a reference"),
    # Values of another kind.
    ("replay=[1]", "replay=[1]", "the name of one of its choices"),
    ("env=[nan]", "env=[nan]", "the name of one of its choices"),
    ("optimizer=[[1]]", "optimizer=[[1]]", "the name of one of its choices"),
    ("network=1.5", "network=1.5", "the name of one of its choices"),
    ("agent=true", "agent=true", "the name of one of its choices"),
    ("agent=[null]", "agent=[null]", "the name of one of its choices"),
    ("experiment=[1]", "experiment=[1]", "the name of one of its choices"),
    ("hydra/launcher=[1]", "hydra/launcher=[1]", "the name of one of its choices"),
    ("-m agent=1,2", "agent=1,2", "the name of one of its choices"),
    ("env=gymnax/", "env.id='gymnax/'", "gymnax/ID"),
    ("agent=a/b", "agent=a/b", "one of double_q_learning"),
    ("agent=../x", "agent=../x", "the name of one of its choices"),
    ("agent=a\\b", "agent=a\\b", "the name of one of its choices"),
    ("training=[1]", "training=[1]", "training.total_steps"),
    ("meta.optimizer=[1]", "meta.optimizer=[1]", "meta.optimizer.learning_rate"),
    ("network.hidden={a:1}", "network.hidden={a:1}", "a list, each an integer"),
    ("env.params=[1]", "env.params=[1]", "a number in (-inf, inf)"),
    ("+env.params.gravity=[1]", "+env.params.gravity=[1]", "a number in (-inf, inf)"),
    ("+env.params.gravity=nan", "env.params.gravity=nan", "a number in (-inf, inf)"),
    ("hydra.run.dir=[1]", "hydra.run.dir=[1]", "another kind"),
    ("=1", "=1", "KEY=VALUE"),
    ("'agent'=1", "'agent'=1", "KEY=VALUE that Hydra can read"),
    # Sizes.
    (f"agent.discount={LONG[:320]}", "agent.discount=999", "99: expected a number in"),
    (f"agent.discount={LONG}", "agent.discount=999", "99: expected a shorter number"),
    (
        f"agent.secondary.learning_rate_ratio={LONG}",
        "agent.secondary.learning_rate_ratio=999",
        "99: expected a shorter number",
    ),
    (f"seeds={LONG[:320]}", "seeds=999", "99: expected an integer in [1, 1048576]"),
    (f"network.hidden=[{LONG[:320]}]", "network.hidden=999", "an integer in [1"),
    (f"hydra.run.dir=a{LONG[:300]}", "hydra.run.dir=a99", "(File name too long)"),
    (f"-m hydra.sweep.dir=a{LONG[:300]}", "hydra.sweep.dir=a99", "too long"),
    (f"--config-dir=a{LONG[:300]}", "--config-dir=a99", "a directory"),
    (f"--config-name=a{LONG[:300]}", "--config-name=a99", "the name of a config"),
    (f"env=a{LONG[:300]}", "env.id='a99", "gymnax/ID"),
    (f"agent=a{LONG[:300]}", "agent=a99", "one of double_q_learning"),
    (f"agent=a{LONG}", "agent=a99", "the name of a config (File name too long)"),
    ("training.total_episodes=10000000000", "=10000000000", "[1, 2147483647] or null"),
    ("training.total_steps=1000000000000", "=1000000000000", "[1, 2147483647]"),
    ("evaluation.max_steps=2147483648", "=2147483648", "[1, 2147483647]"),
    ("replay.capacity=1000000000000", "=1000000000000", "[1, 2147483647]"),
    ("seeds=1000000000000", "seeds=1000000000000", "[1, 1048576]"),
    ("seed=4294967290 seeds=200000", "seed=4294967290", "at most 4294767296"),
    ("optimizer.learning_rate=1e39", "learning_rate=1e+39", "precision=float32"),
    ("gradient.update.max_norm=1e-50", "max_norm=1e-50", "precision=float32"),
    # Domains.
    ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1.0", "[0, inf)"),
    ("agent.discount=1.5", "agent.discount=1.5", "a number in [0, 1]"),
    ("agent.discount=nan", "agent.discount=nan", "a number in [0, 1]"),
    ("optimizer.learning_rate=inf", "optimizer.learning_rate=inf", "[0, inf)"),
    ("training.batch_size=0", "training.batch_size=0", "an integer in [1, 2147483647]"),
    ("seed=-1", "seed=-1", "an integer in [0, 4294967295]"),
    ("agent.behaviour_policy.epsilon=2", "behaviour_policy.epsilon=2.0", "[0, 1]"),
    ("network.hidden=[64,0]", "network.hidden=0", "an integer in [1, 2147483647]"),
    (
        "env.wrappers.frame_stack=1",
        "env.wrappers.frame_stack=1",
        "[2, 2147483647] or null",
    ),
    ("precision=float23", "precision='float23'", "one of float32", "'float32'"),
    ("tracking.wandb.mode=of", "tracking.wandb.mode='of'", "one of auto, online"),
    ("agent.loss=sarsaa", "agent.loss='sarsaa'", "a registered loss", "'sarsa'"),
    ("gradient.update.clip=globl_norm", "clip='globl_norm'", "'global_norm'"),
    ("replay.priority=td_eror", "replay.priority='td_eror'", "'td_error'"),
    ("--cfg job agent.discount=2", "agent.discount=2.0", "a number in [0, 1]"),
    # Parts that do not fit each other.
    ("env=gymnacks/CartPole-v1", "gymnacks/CartPole-v1", "'gymnax/CartPole-v1'"),
    ("env=CartPole-v1", "CartPole-v1", "gymnax/ID", "'gymnax/CartPole-v1'"),
    ("env=gymnax/CartPol-v1", "gymnax/CartPol-v1", "'gymnax/CartPole-v1'"),
    ("env=gymnasium/FrozenLak-v1", "FrozenLak-v1", "'gymnasium/FrozenLake-v1'"),
    ("env=chain/random_wlk", "chain/random_wlk", "'chain/random_walk'"),
    ("env=null", "env.id='none'", "gymnax/ID"),
    ("env=gymnax/Pendulum-v1", "gymnax/Pendulum-v1", "discrete"),
    ("env=gymnasium/Pendulum-v1", "gymnasium/Pendulum-v1", "discrete"),
    ("env=gymnasium/Blackjack-v1", "gymnasium/Blackjack-v1", "Box or Discrete"),
    ("+env.params.gravty=5", "env.params.gravty", "'gravity'"),
    ("env=chain/boyan +env.params.x=5", "env.params.x", "chain/boyan"),
    ("network=convolution", "network=convolution", "(4,)"),
    ("network=linear network.initial_weights=[1]", "initial_weights", "4 numbers"),
    ("agent.loss=td", "agent.loss='td'", "double_q_learning"),
    ("agent=prediction agent.loss=sarsa", "agent.loss='sarsa'", "agent=prediction"),
    ("training.warmup_steps=100000", "training.warmup_steps=100000", "total_steps"),
    ("training.total_steps=1", "training.total_steps=1", "at least"),
    ("agent.target.period=9", "agent.target.period=9", "null", "agent.target.polyak"),
    (
        "replay=null training.updates_per_iteration=2",
        "training.updates_per_iteration=2",
        "1 where replay is null",
    ),
    # Replay.
    ("replay.capacity=2147483618", "=2147483618", "at most 2147483617", "10 new"),
    (
        "replay=large_batch replay.large_batch=33554432",
        "replay.large_batch=33554432",
        "at most 33554431 beside training.batch_size=64",
    ),
    (
        "training.total_steps=2_000_000_000 training.updates_per_iteration=11",
        "training.updates_per_iteration=11",
        "at most 10 beside so many steps",
    ),
    ("replay.exponent=-1", "replay.exponent=-1.0", "a number in [0, inf)"),
    ("replay.importance.exponent=-1", "importance.exponent=-1.0", "[0, inf)"),
    ("replay.importance.normalise=maximum", "normalise='maximum'", "max, mean, none"),
    ("replay.large_batch=0", "replay.large_batch=0", "an integer in [1, 2147483647]"),
    ("replay=perr", "replay", "'per'"),
    (
        "experiment=random_walk diagnostics.sampling_variance=true",
        "diagnostics.sampling_variance=True",
        "false where replay is null",
    ),
    (
        "agent=prediction agent.td_gradient=tdc replay=gradient_norm_last_layer",
        "replay.priority=gradient_norm_last_layer",
        "agent.td_gradient=tdc",
    ),
    # What a TD gradient needs.
    ("agent.td_gradient=gtd2", "td_gradient='gtd2'", "full, interpolate, qrc"),
    ("agent=prediction agent.td_gradient=tdcc", "td_gradient='tdcc'", "'tdc'"),
    (
        "agent=prediction agent.td_gradient=residual",
        "agent.td_gradient=residual",
        "env=chain/NAME",
        "gymnax/CartPole-v1",
    ),
    (
        "agent=prediction agent.td_gradient=residual env=chain/baird "
        "agent.target.polyak=null",
        "replay=buffer",
        "null",
        "td_gradient=residual",
    ),
    (
        "agent=prediction agent.td_gradient=emphatic",
        "replay=buffer",
        "null",
        "td_gradient=emphatic",
    ),
    (
        "agent.td_gradient=full agent.target.polyak=0.25",
        "agent.target.polyak=0.25",
        "null",
        "td_gradient=full",
    ),
    (
        "agent=prediction agent.td_gradient=tdc gradient.clip.max_abs=2",
        "gradient.clip.max_abs=2.0",
        "null",
        "td_gradient=tdc",
    ),
    ("own=-1e39", "own=-1e+39", "own"),
    ("own=numbers", "own='numbers'", "own"),
    ("agent.interpolation=2", "agent.interpolation=2.0", "a number in [0, 1]"),
    ("agent.secondary.regulariser=-1", "regulariser=-1.0", "[0, inf)"),
    # The command line itself.
    ("agent.discount", "agent.discount", "KEY=VALUE"),
    ("agent.discount=[1", "agent.discount=[1", "KEY=VALUE"),
    ("seeds=1,2", "seeds=1,2", "-m"),
    ("--unknown", "--unknown", "--help"),
    ("--config-dir=nowhere", "--config-dir=nowhere", "a directory"),
    ("--plugin foreign_nowhere", "--plugin=foreign_nowhere", "a module"),
    ("--plugin", "--plugin", "a Python module"),
    ("--plugin seeds=3", "--plugin=seeds=3", "a Python module"),
    ("resume=nowhere", "resume=nowhere", "the folder of a run"),
    ("resume=auto", "resume=auto", "an unfinished run"),
    ("resume=auto -m", "resume=auto", "without -m"),
    ("run.id=../../x", "run.id=../../x", "a name for a folder below runs/"),
    ("run.id=.", "run.id=.", "a name for a folder below runs/"),
    ("run.id=", "run.id=", "a name for a folder below runs/"),
    ("run.id=a/../b", "run.id=a/../b", "a name for a folder below runs/"),
    ("run.id=/tmp/x", "run.id=/tmp/x", "a name for a folder below runs/"),
    ("run.id=null", "run.id=null", "a name for a folder below runs/"),
    ("-m run.id=../x", "run.id=../x", "a name for a folder below runs/"),
    ("resume=auto hydra.verbose=true", "hydra.verbose=true", "KEY=VALUE of the config"),
    ("hydra.run.dir=/dev/null/x", "hydra.run.dir=/dev/null/x", "can be written"),
    ("-m hydra.sweep.dir=/dev/null/x", "hydra.sweep.dir=/dev/null/x", "be written"),
    # Seeds of a sweep.
    ("-m seed=0,5 seeds=10", "seed=5", "0 to 9", "5 to 14"),
    ("-m seed=3,3 seeds=1", "seed=3", "expected it once", "two points"),
    ("-m seed=0 seeds=5,10", "seed=0", "0 to 4", "0 to 9"),
    ("-m seed=0,5", "seed=5", "0 to 9"),
]


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("case", CASES, ids=[case[0][:60] for case in CASES])
def test_one_message_names_the_key_and_what_was_expected(command, home, case):
    arguments, *parts = case
    status, out, err = command("train", *arguments.split())
    assert (status, out, len(lines_of(err))) == (2, "", 1), err
    assert err.startswith("rl-grads train: ")
    assert len(err) < 600
    for part in parts:
        assert part in err
    assert list(home.rglob("*")) == []


def test_the_message_of_a_key_in_full(command):
    err = command("train", "agent.discont=0.9").err
    assert err == (
        "rl-grads train: agent.discont=0.9: expected a key of agent (loss, discount, "
        "target, behaviour_policy, td_gradient, interpolation, secondary); did you "
        "mean 'agent.discount'?\n"
    )


def test_the_message_of_a_value_in_full(command):
    err = command("train", "agent.discount=1.5").err
    expected = "agent.discount=1.5: expected a number in [0, 1]"
    assert err == f"rl-grads train: {expected}\n"


def test_unknown_command(command):
    status, _, err = command("trian")
    assert status == 2
    expected = f"expected one of {', '.join(COMMANDS)}; did you mean 'train'?"
    assert err == f"rl-grads trian: {expected}\n"


@pytest.mark.slow
def test_what_training_itself_refuses_is_one_message(train, home):
    assert train("run.id=done").status == 0
    status, out, err = train("resume=runs/done")
    assert (status, out) == (2, "")
    *other, message = lines_of(err)
    assert message.startswith("rl-grads train: resume=")
    assert all(line.startswith("Device: ") for line in other)


def test_an_interrupt_has_a_status_of_its_own(capsys):
    from rl_grads.cli import errors

    def interrupted(tracebacks):
        raise KeyboardInterrupt

    assert errors.guard("rl-grads train", [], interrupted) == 130
    assert capsys.readouterr().err == "rl-grads train: interrupted\n"


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_the_environment_is_left_as_it_was(monkeypatch, before):
    from rl_grads.cli import errors

    monkeypatch.setenv("HYDRA_FULL_ERROR", before or "")
    if before is None:
        monkeypatch.delenv("HYDRA_FULL_ERROR")
    seen = []
    assert errors.guard("rl-grads train", [], seen.append) == 0
    assert seen == [before == "1"]
    assert os.environ.get("HYDRA_FULL_ERROR") == before


@pytest.mark.slow
def test_disjoint_seeds_and_equal_seeds_of_other_points_are_fine(home):
    from rl_grads.cli import compose, door

    compose.store_schemas()

    def check(*overrides):
        with compose.composer(compose.read(["-m"])) as composed:
            door.check_seeds(door.points(overrides), composed)

    check("seed=0,10", "seeds=10")
    check("seed=3", "optimizer.learning_rate=1e-3,1e-4")
    check("seed=0,10", "agent=q_learning,sarsa", "seeds=10")
    with pytest.raises(ValueError, match="20 to 29"):
        check("seed=0,20,25", "agent=q_learning,sarsa", "seeds=10")


# -------------------------------------------------------------------- a config folder


def folder(home: Path, text: str) -> str:
    """A config folder with one experiment, `mine`."""
    path = home / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}\n")
    return f"--config-dir={home / 'conf'}"


CODE = [
    (
        "hydra: {callbacks: {mine: {_target_: os.getcwd}}}",
        ("hydra.callbacks.mine", "no callbacks"),
    ),
    (
        "hydra: {sweeper: {_target_: foreign_module.Sweeper}}",
        ("hydra.sweeper._target_=foreign_module.Sweeper", "a class of Hydra"),
    ),
    (
        "hydra: {job_logging: {handlers: {file: {class: foreign_module.Log}}}}",
        ("hydra.job_logging.handlers.file.class=foreign_module.Log",),
    ),
    (
        "hydra: {job_logging: {formatters: {simple: {(): foreign_module.Log}}}}",
        ("hydra.job_logging.formatters.simple.()=foreign_module.Log",),
    ),
]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("agent: {discont: 0.5}", ("agent.discont", "'agent.discount'")),
        ("agent: {discount: abc}", ("agent.discount", "a number in [0, 1]")),
        ("agent: {discount: 5}", ("agent.discount=5.0", "a number in [0, 1]")),
        ("seeds: [", ("mine.yaml",)),
        ("defaults: 5", ("defaults must be a list",)),
        ("defaults: [override /agent: q_lerning]", ("agent=q_lerning",)),
    ],
)
def test_a_users_config_is_checked_as_well(command, home, text, parts):
    where = folder(home, text)
    status, out, err = command("train", where, "experiment=mine")
    assert (status, out, len(lines_of(err))) == (2, "", 1), err
    for part in parts:
        assert part in err
    assert not (home / "runs").exists()


def test_a_key_below_what_a_file_switches_off(command, home):
    line = ("train", folder(home, "replay: null"), "experiment=mine")
    status, out, err = command(*line, "replay.capacity=9")
    expected = "replay.capacity=9: expected no key below replay, which is null"
    assert (status, out, lines_of(err)) == (2, "", [f"rl-grads train: {expected}"])


@pytest.mark.parametrize(("text", "parts"), CODE)
@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_a_config_names_no_code(command, home, text, parts, sweep):
    where = folder(home, text)
    status, out, err = command("train", where, *sweep, "experiment=mine")
    assert (status, out, len(lines_of(err))) == (2, "", 1), err
    for part in parts:
        assert part in err
    assert [path.name for path in home.iterdir()] == ["conf"]


# -------------------------------------------------------------------------- processes


def process(*arguments: str, cwd: Path, **environment: str):
    command = [sys.executable, "-m", "rl_grads.cli.main", *arguments]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )


def test_process_refuses_a_misspelt_key(tmp_path):
    done = process("train", "agent.discont=0.9", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert lines_of(done.stderr) == [done.stderr.strip()]
    assert "'agent.discount'" in done.stderr


@pytest.mark.slow
def test_process_refuses_a_network_that_does_not_fit(tmp_path):
    done = process("train", "network=convolution", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "network=convolution" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_process_shows_the_traceback_where_it_is_wanted(tmp_path):
    done = process("train", "agent.discont=0.9", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):")
    last = lines_of(done.stderr)[-1]
    assert last.startswith("rl-grads train: agent.discont=0.9: expected a key")
