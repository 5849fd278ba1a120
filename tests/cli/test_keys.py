"""The generated page of all keys and metrics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rl_grads as rg
from rl_grads.cli import errors, keys
from rl_grads.config import SCHEMAS, walk
from rl_grads.tracking.metrics import METRICS

ROOT = Path(__file__).parents[2]


def rows(page: str) -> dict[str, list[str]]:
    """The first cell of every row of every table, to its other cells."""
    cells = [
        line.strip("|").split(" | ") for line in page.splitlines() if "| `" in line
    ]
    return {row[0].strip(" `"): [c.strip() for c in row[1:]] for row in cells}


@pytest.fixture(scope="module")
def page() -> str:
    """The page of a process that knows the built-in components alone."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "rl_grads.cli.main", "keys"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_page_in_the_documentation_is_up_to_date(page):
    kept = (ROOT / "docs" / "config.md").read_text()
    assert kept == page, "run: rl-grads keys --write docs/config.md"


def test_every_key_has_type_default_domain_and_meaning(page):
    found = rows(page)
    for path, field in errors.declared().items():
        if not field.is_group:
            assert len(found[path]) == 4, path
            assert all(found[path]), path


def test_rows_by_hand(page):
    found = rows(page)
    meaning = "step of the target towards the parameters at each update"
    assert "`null` → `0.03`" in page
    assert found["training.num_envs"][:3] == [
        "integer",
        "`1` → `10`",
        "an integer in [1, 2147483647]",
    ]
    assert found["agent.target.polyak"] == [
        "number",
        "`null`",  # The last table is that of agent=prediction.
        "a number in [0, 1] or null",
        meaning,
    ]
    assert found["network.hidden"][0] == "list of integers"
    assert found["env.params"][:2] == ["numbers by name", "`{}`"]
    assert found["tracking.progress"][:3] == ["true or false", "`true`", "any"]
    assert found["run.id"][:3] == ["text", "`null`", "any, or null"]


def test_every_choice_has_its_place(page):
    for name in SCHEMAS:
        assert f"### {name.replace('/', '=')}\n" in page
    assert (
        "- `network=normalised_mlp`: An MLP with LayerNorm in every layer, which keeps "
        "Q-learning from collapsing. Sets `network.layer_norm=true`.\n"
    ) in page
    sarsa = next(x for x in page.splitlines() if x.startswith("- `agent=sarsa`"))
    assert "`agent.target.polyak=0.03`" in sarsa
    assert "`agent.loss=sarsa`" in sarsa


def test_every_experiment_is_listed(page):
    for path in (ROOT / "configs" / "experiment").glob("*.yaml"):
        assert f"- `experiment={path.stem}`: " in page


def test_every_metric_is_listed(page):
    found = rows(page)
    for metric in METRICS:
        better = {True: "higher", False: "lower", None: "-"}[metric.higher_is_better]
        assert found[metric.name] == [metric.unit, better, metric.meaning]


def test_keys_writes_what_it_prints(command, home):
    assert command("keys", "--write", "page.md") == (0, "", "")
    assert command("keys").out == (home / "page.md").read_text()


def test_keys_names_a_file_that_cannot_be_written(command):
    status, out, err = command("keys", "--write=/dev/null/page.md")
    assert (status, out) == (2, "")
    assert err == (
        "rl-grads keys: --write=/dev/null/page.md: expected a file that can be written "
        "(Not a directory)\n"
    )


def test_values_are_written_as_on_the_command_line():
    values = {None: "null", True: "true", False: "false", 0.5: "0.5", 1e-8: "1e-08"}
    assert {value: keys._yaml(value) for value in values} == values
    assert keys._yaml((128, 64)) == "[128,64]"
    assert keys._yaml("text") == "text"


def test_metric_names_are_unique_and_explained():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(metric.unit and metric.meaning for metric in METRICS)


def test_every_declared_key_is_one_of_the_config():
    paths = set(errors.declared())
    assert {path for path, _, _ in walk(rg.Config())} <= paths
    assert "optimizer.momentum" in paths  # Of another choice than the default.


def test_keys_of_a_plugin_are_listed(command, home, registry):
    (home / "foreign_numbers.py").write_text(
        "import rl_grads as rg\n"
        "from rl_grads.config import config, number\n"
        "@config\n"
        "class Numbers:\n"
        "    power: float = number(2.0, 'power')\n"
        "rg.register.priority('foreign', Numbers)(lambda signals, config: None)\n"
    )
    assert "own.foreign.power" not in command("keys").out
    told = command("keys", "--plugin", "foreign_numbers").out
    row = "| `own.foreign.power` | number | `2` | a number in (-inf, inf) | power |"
    assert row in told
    missing = command("keys", "--plugin", "foreign_nmbers")
    assert missing.status == 2
    assert missing.err.startswith("rl-grads keys: --plugin=foreign_nmbers: expected a")
