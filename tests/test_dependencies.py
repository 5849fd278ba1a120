"""Every package that the project asks for can be imported, by itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
NAMES = [re.split(r"[<>=\\[ ]", d)[0] for d in PROJECT["project"]["dependencies"]]
MODULES = {"hydra-core": "hydra"}


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_imported(name):
    module = MODULES.get(name, name.replace("-", "_"))
    command = [sys.executable, "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
