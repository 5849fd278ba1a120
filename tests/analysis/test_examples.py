"""The figure of a batch."""

import numpy as np
import pytest

from rl_grads.analysis.examples import Gradients, figure

BATCH = Gradients(
    norms=np.array([1.0, np.nan, 4.0, 0.0]),
    td_errors=np.array([-1.0, np.inf, 2.0, 0.0]),
    shares={
        "a": np.array([0.25, np.nan, 1.0, np.nan]),
        "b": np.array([0.75, np.nan, 0.0, np.nan]),
    },
    cosines=np.full((4, 4), np.nan),
)


def test_bars_are_as_long_as_norms_and_parted_by_layer():
    made = figure(BATCH, [2, 0], "a title")
    bars = made.axes[0].containers
    assert [bar.get_label() for bar in bars] == ["a", "b"]
    assert [patch.get_width() for patch in bars[0]] == [4.0, 0.25]
    assert [patch.get_x() for patch in bars[1]] == [4.0, 0.25]
    assert [text.get_text() for text in made.axes[0].get_yticklabels()] == ["#2", "#0"]
    assert made.get_suptitle() == "a title"


def test_the_matrix_begins_with_the_largest():
    cosines = np.arange(16.0).reshape(4, 4) / 16
    made = figure(BATCH._replace(cosines=cosines), [2])
    (image,) = made.axes[2].images
    order = [1, 2, 0, 3]  # One that is not finite leads.
    np.testing.assert_array_equal(image.get_array(), cosines[np.ix_(order, order)])


def test_an_example_that_is_not_finite_can_be_drawn(tmp_path):
    figure(BATCH, [1, 2]).savefig(tmp_path / "it.png")


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="top: expected at least one place"):
        figure(BATCH, [])
