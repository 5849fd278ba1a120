"""What is installed: the wheel, its metadata and the pinned versions."""

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import pin

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13")
TRAIN = (
    "train training.total_steps=400 training.warmup_steps=100 training.num_envs=1 "
    "seeds=2 evaluation.episodes=2 tracking.runs=none tracking.trackio=false"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from this checkout; its output, which a failure shows."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# ------------------------------------------------------------------------ the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    run(*build, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    version = PYPROJECT["project"]["version"]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"rl_grads-{version}.dist-info/METADATA").decode()
    return email.message_from_string(text)


def files_below(folder: str, suffix: str) -> set[str]:
    """Files of the checkout, relative to the folder."""
    top = ROOT / folder
    return {path.relative_to(top).as_posix() for path in top.rglob(f"*{suffix}")}


def test_the_wheel_holds_the_package_and_its_configs(names: set[str]) -> None:
    modules = {f"rl_grads/{name}" for name in files_below("rl_grads", ".py")}
    configs = {f"rl_grads/configs/{name}" for name in files_below("configs", ".yaml")}
    assert "rl_grads/cli/main.py" in modules
    assert "rl_grads/configs/train.yaml" in configs
    assert modules | configs <= names


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "rl_grads",
    }


def test_the_metadata_names_licence_extras_and_command(
    wheel: Path, metadata: Message
) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"cuda12", "cuda13", "tpu", "box2d", "dev"} <= extras
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        points = archive.read(entry).decode()
    assert "rl-grads = rl_grads.cli.main:main" in points


def test_every_dependency_is_bounded_below(metadata: Message) -> None:
    required = [Requirement(r) for r in metadata.get_all("Requires-Dist", [])]
    always = [r for r in required if not r.marker]
    assert {"jax", "optax", "gymnax"} <= {r.name for r in always}
    assert [str(r) for r in always if ">=" not in str(r.specifier)] == []


# ------------------------------------------------------------------ pinned versions


def read_pins(python: str) -> list[Requirement]:
    """The pins that hold for one version of Python."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    where = {"python_version": python}
    return [p for p in pins if not p.marker or p.marker.evaluate(where)]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_one_exact_pin(python: str) -> None:
    pinned = [canonicalize_name(p.name) for p in read_pins(python)]
    assert len(pinned) > 100
    assert sorted(set(pinned)) == sorted(pinned)
    exact = re.compile(r"==[^,*]+")
    assert [p for p in read_pins(python) if not exact.fullmatch(str(p.specifier))] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_satisfy_the_declared_dependencies(python: str) -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(line for e in extras for line in e)]
    pins = {canonicalize_name(p.name): str(p.specifier)[2:] for p in read_pins(python)}
    wanted = [r for r in map(Requirement, declared) if r.name != "rl_grads"]
    for requirement in wanted:
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_the_pins_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert re.findall(r"://|@|^-", text, re.MULTILINE) == []


def test_pins_that_differ_are_marked_by_python() -> None:
    resolved = {
        (3, 11): {"alike": "1", "split": "1", "old": "4"},
        (3, 12): {"alike": "1", "split": "2"},
        (3, 13): {"alike": "1", "split": "3"},
    }
    assert pin.merge(resolved) == [
        "alike==1",
        "old==4",
        'split==1 ; python_version < "3.12"',
        'split==2 ; python_version >= "3.12" and python_version < "3.13"',
        'split==3 ; python_version >= "3.13"',
    ]


def test_the_project_itself_is_not_pinned() -> None:
    found = [{"name": "Rl_Grads", "version": "0"}, {"name": "A.b", "version": "1"}]
    report = {
        "environment": {"python_version": "3.12"},
        "install": [{"metadata": item} for item in found],
    }
    assert pin.read_report(report) == ((3, 12), {"a-b": "1"})


# --------------------------------------------------------------- installing and using


def check_training(bin_dir: Path, folder: Path) -> None:
    """Train from an empty folder with what is installed, and read the results."""
    folder.mkdir()
    where = "import rl_grads; print(rl_grads.__file__)"
    module = run(bin_dir / "python", "-c", where, cwd=folder).strip()
    assert Path(module).is_relative_to(bin_dir.parent)
    run(bin_dir / "rl-grads", *TRAIN.split(), cwd=folder)
    (summary,) = folder.glob("runs/**/summary.json")
    rows = summary.with_name("metrics.jsonl").read_text().splitlines()
    assert {json.loads(row)["member"] for row in rows} == {0, 1}
    assert json.loads(summary.read_text())["status"] == "finished"


def test_the_wheel_trains_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """The wheel in a venv of its own, its dependencies borrowed from this one."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # A path file adds this environment's packages but does not run its path files,
    # so that the editable install of this checkout stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        tmp_path / "venv" / "bin" / "python",
    )
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    check_training(tmp_path / "venv" / "bin", tmp_path / "elsewhere")


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_venv(wheel: Path, tmp_path: Path) -> None:
    """As a user does it: every dependency is installed anew."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    pip = (tmp_path / "venv" / "bin" / "python", "-m", "pip")
    run(*pip, "install", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    check_training(tmp_path / "venv" / "bin", tmp_path / "elsewhere")
