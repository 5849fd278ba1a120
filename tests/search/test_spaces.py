"""What a search draws from."""

import numpy as np
import pytest

from rl_grads.config import non_negative, one_of, positive, unit
from rl_grads.search.spaces import (
    Choice,
    Range,
    draw,
    is_scale,
    random_places,
    sobol_places,
)


def test_numbers_lie_on_the_scale_of_their_domain():
    rate = Range("a.rate", 1e-4, 1e-2, log=True)
    assert [rate.at(u) for u in (0.0, 0.25, 0.5)] == [
        "a.rate=0.0001",
        "a.rate=0.000316228",
        "a.rate=0.001",
    ]
    assert Range("a.b", -1.0, 3.0).at(0.25) == "a.b=0"
    assert [is_scale(d) for d in (positive, unit, non_negative, one_of("x"))] == [
        True,
        False,
        True,
        False,
    ]


def test_whole_numbers_have_both_their_ends():
    size = Range("n", 1, 4, whole=True)
    assert [size.at(u) for u in (0.0, 0.24, 0.26, 0.99)] == ["n=1", "n=1", "n=2", "n=4"]


def test_options_are_equally_likely():
    choice = Choice(("a=x", "a=y", "a=z"))
    assert [choice.at(u) for u in (0.0, 0.34, 0.99)] == ["a=x", "a=y", "a=z"]


def test_a_point_is_drawn_once():
    places = np.array([[0.1, 0.2], [0.15, 0.2], [0.9, 0.2]])
    dimensions = [Choice(("a=x", "a=y")), Range("b", 0.0, 1.0)]
    assert draw(dimensions, places) == [("a=x", "b=0.2"), ("a=y", "b=0.2")]


@pytest.mark.parametrize("places", [random_places, sobol_places])
def test_places_fill_the_space_and_repeat_by_their_seed(places):
    found = places(64, 2, seed=3)
    assert found.shape == (64, 2)
    assert np.all((found >= 0) & (found < 1))
    assert np.array_equal(found, places(64, 2, seed=3))
    assert not np.array_equal(found, places(64, 2, seed=4))


def test_a_sobol_sequence_leaves_no_gap():
    cells = (sobol_places(64, 2, seed=0) * 8).astype(int)
    assert len({tuple(cell) for cell in cells}) == 64  # One in each of 8 x 8 cells.
    assert sobol_places(5, 1, seed=0).shape == (5, 1)
