"""The command line answers before anything heavy is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_grads.cli import help_page
from tests.results.made_runs import write_run

ROOT = Path(__file__).parents[2]
HEAVY = {"jax", "optax", "flax", "gymnax", "gymnasium", "wandb", "trackio", "orbax"}
# The status, and what has been imported when the command is done.
PROBE = """
import json, sys
from rl_grads.cli.main import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported_by(*arguments: str, cwd: Path) -> tuple[int, set[str], str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.splitlines()
    status, names = json.loads(last)
    return status, set(names), "\n".join([*printed, done.stderr])


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("train", "agent.discont=0.9"), 2),
        (("train", "agent.discount=2"), 2),
        (("train", "agent=q_lerning"), 2),
        (("train", "--help"), 0),
        (("train", "--cfg", "job"), 0),
        (("keys",), 0),
        (("--help",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_nothing_heavy_is_imported(tmp_path, arguments, status):
    found, names, _ = imported_by(*arguments, cwd=tmp_path)
    assert found == status
    assert names & HEAVY == set()
    assert "rl_grads" in names


@pytest.mark.parametrize(
    ("arguments", "not_needed"),
    [
        (("list",), {"duckdb", "pandas"}),
        (("delete", "runs/a"), {"duckdb", "pandas"}),
        (("table", "runs/a"), {"pandas"}),
        (("compare", "runs", "--by", "agent.discount"), {"pandas"}),
    ],
    ids=["list", "delete", "table", "compare"],
)
def test_what_reads_runs_imports_nothing_heavy(tmp_path, arguments, not_needed):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", agent__discount=0.5)
    status, names, printed = imported_by(*arguments, cwd=tmp_path)
    assert (status, names & (HEAVY | not_needed)) == (0, set()), printed


def test_the_probe_sees_what_is_imported(tmp_path):
    _, names, _ = imported_by("train", "env=gymnax/Nope-v1", cwd=tmp_path)
    assert {"jax", "gymnax"} <= names


def test_import_of_the_package_is_light(tmp_path):
    code = "import sys, rl_grads; print({n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (HEAVY | {"numpy", "hydra", "omegaconf"}) & eval(done.stdout) == set()


def test_help_says_what_the_command_does(command):
    status, out, err = command("train", "--help")
    assert (status, err) == (0, "")
    assert out == f"{help_page.text()}\n"
    assert max(map(len, out.splitlines())) <= 88
    whole = out.replace(f",\n{' ' * 14}", ", ")
    choices = dict(line.split(None, 1) for line in whole.splitlines() if ", " in line)
    assert choices["optimizer"] == "adam, fading_adam, rmsprop, sgd"
    assert choices["env"] == "gymnax/ID, gymnasium/ID, chain/NAME"
    files = (ROOT / "configs" / "experiment").glob("*.yaml")
    assert choices["experiment"] == ", ".join(sorted(path.stem for path in files))
    for word in ("--plugin MODULE", "--config-dir DIR", "-m, --multirun", "docs/"):
        assert word in out


def test_help_names_what_a_plugin_registers(command, home, registry):
    (home / "foreign_help.py").write_text(
        "import rl_grads as rg\n"
        "@rg.register.optimizer('foreign')\n"
        "def foreign(config): ...\n"
        "@rg.register.env('foreign')\n"
        "def env(config): ...\n"
    )
    out = command("train", "--help", "--plugin", "foreign_help").out
    assert "  optimizer   adam, fading_adam, foreign, rmsprop, sgd\n" in out
    assert "  env         gymnax/ID, gymnasium/ID, chain/NAME, foreign\n" in out


def test_examples_of_the_help_compose(command):
    lines = help_page.text().partition("examples:")[2].partition("choices")[0]
    examples = [line.strip().split("  ")[0].split()[2:] for line in lines.split("\n")]
    shown = [e for e in examples if e and not {"-m", "resume"} & {a[:6] for a in e}]
    assert shown == [
        ["env=gymnasium/FrozenLake-v1", "seeds=3"],
        ["agent=sarsa", "agent.discount=0.9", "replay=null"],
    ]
    for example in shown:
        assert command("train", "--cfg", "job", *example).status == 0


def test_main_help_lists_the_commands(command):
    for arguments in ((), ("--help",)):
        status, out, err = command(*arguments)
        assert (status, err) == (0, "")
        for word in ("train", "dashboard", "keys"):
            assert f"  {word:<12}" in out
