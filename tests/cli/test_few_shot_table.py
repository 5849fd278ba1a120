"""Tables and figures of errors over inner updates."""

import numpy as np
import pytest

from rl_grads.cli import few_shot

pytestmark = pytest.mark.slow


def errors():
    return {"learned": np.array([[4.0, 1.0], [4.0, 2.0], [4.0, 3.0]])}


def test_a_table_has_means_and_intervals():
    rows = few_shot.table(errors(), (0, 1)).splitlines()
    assert rows == [
        "| start | after 0 updates | after 1 updates |",
        "|---|---|---|",
        "| learned | 4 (4 to 4) | 2 (1 to 3) |",
    ]


def test_what_is_not_finite_has_no_interval():
    assert few_shot.cell(np.array([1.0, np.inf, 2.0])) == "nan"
    assert few_shot.cell(np.array([1.0, 3.0])) == "2"


def test_a_picture_is_written(tmp_path):
    picture = tmp_path / "errors.png"
    few_shot.draw(errors(), "error", picture)
    first = picture.read_bytes()
    few_shot.draw(errors(), "error", picture)
    assert first.startswith(b"\x89PNG")
    assert picture.read_bytes() == first
