"""What the test configuration promises."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

SKIPPING = """
import pytest

def test_skips():
    pytest.skip("no browser")

@pytest.mark.xfail
def test_expected_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("ci", "expected"),
    [("true", "1 failed, 1 xfailed"), ("", "1 skipped, 1 xfailed")],
)
def test_a_skip_fails_in_ci_only(ci: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(SKIPPING)
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "tests" / "conftest.py").write_text(conftest.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout, done.stdout


def test_tests_see_two_devices() -> None:
    assert jax.local_device_count() == 2
