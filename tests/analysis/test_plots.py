"""Figures: what their lines hold, and what is refused."""

import numpy as np
import pytest

from rl_grads.analysis import plots
from rl_grads.analysis.plots import Axis, Line, Point, Series

X, Y = Axis("step size"), Axis("error")


def drawn(figure):
    """Label to the points of each line in the legend."""
    (axes,) = figure.axes
    return {
        one.get_label(): list(zip(*one.get_data(), strict=True))
        for one in axes.lines
        if not one.get_label().startswith("_")
    }


def crosses(figure):
    return [
        tuple(map(float, xy))
        for one in figure.axes[0].lines
        if one.get_marker() == "x"
        for xy in zip(*one.get_data(), strict=True)
    ]


def test_a_sensitivity_draws_means_in_order_of_the_swept_number():
    points = [
        Point(0.2, "td", [1.0, 3.0]),
        Point(0.1, "td", [4.0, 6.0]),
        Point(0.1, "full", [7.0]),
    ]
    figure = plots.sensitivity(points, X, Y)
    assert drawn(figure) == {"td": [(0.1, 5.0), (0.2, 2.0)], "full": [(0.1, 7.0)]}
    assert crosses(figure) == []
    assert figure.axes[0].get_xscale() == "linear"
    assert figure.axes[0].get_xlabel() == "step size"


@pytest.mark.parametrize(
    "lost",
    [
        Point(0.3, "td", [1.0, 2.0], diverged=True),
        Point(0.3, "td", [1.0, np.nan]),
        Point(0.3, "td", [1.0, np.inf]),
        Point(0.3, "td", [1.0, 1e30], diverged=True),
    ],
)
@pytest.mark.parametrize(("higher", "worst"), [(False, 5.0), (True, 2.0)])
def test_a_point_that_diverged_stands_at_the_bad_end(lost, higher, worst):
    # All three 2 are one in 27 draws of three, more than the 2.5 % below the interval.
    points = [Point(0.1, "td", [2.0, 3.0, 4.0]), Point(0.2, "td", [5.0] * 3), lost]
    figure = plots.sensitivity(points, X, Y, higher_is_better=higher)
    assert drawn(figure) == {"td": [(0.1, 3.0), (0.2, 5.0), (0.3, worst)]}
    assert crosses(figure) == [(0.3, worst)]


def test_the_worst_end_of_an_interval_may_be_zero():
    lost = Point(0.3, "td", [np.nan])
    figure = plots.sensitivity([Point(0.1, "td", [-4.0, -2.0, 0.0]), lost], X, Y)
    assert crosses(figure) == [(0.3, 0.0)]
    points = [Point(0.1, "td", [4.0, 2.0, 0.0]), lost]
    assert crosses(plots.sensitivity(points, X, Y, higher_is_better=True)) == [(0.3, 0)]


def test_a_point_below_the_worst_value_stands_on_it_where_higher_is_better():
    points = [Point(0.1, "td", [2.0]), Point(0.2, "td", [5.0, 4.0, 3.0])]
    figure = plots.sensitivity(points, X, Y, worst=3.5, higher_is_better=True)
    assert drawn(figure) == {"td": [(0.1, 3.5), (0.2, 4.0)]}
    assert crosses(figure) == [(0.1, 3.5)]
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (3.5, 5.0)


def test_a_point_above_the_worst_value_stands_on_it():
    points = [Point(0.1, "td", [2.0]), Point(0.2, "td", [5.0])]
    figure = plots.sensitivity(points, X, Y, worst=4.0)
    assert drawn(figure) == {"td": [(0.1, 2.0), (0.2, 4.0)]}
    assert crosses(figure) == [(0.2, 4.0)]


def test_a_sweep_in_which_all_diverged():
    points = [Point(0.1, "td", [np.nan])]
    assert crosses(plots.sensitivity(points, X, Y)) == [(0.1, 1.0)]
    figure = plots.sensitivity(points, X, Y, higher_is_better=True)
    assert crosses(figure) == [(0.1, 1.0)]


def test_far_apart_numbers_get_a_logarithmic_scale():
    points = [Point(x, "td", [1.0]) for x in (0.01, 0.1)]
    assert plots.sensitivity(points, X, Y).axes[0].get_xscale() == "log"
    points = [Point(x, "td", [1.0]) for x in (0.0, 0.1)]
    assert plots.sensitivity(points, X, Y).axes[0].get_xscale() == "linear"


def test_a_band_is_a_bootstrap_interval_of_the_mean():
    point = Point(0.1, "td", [1.0, 2.0, 3.0, 4.0])
    figure = plots.sensitivity([point, Point(0.2, "td", [2.0] * 4)], X, Y)
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert 1.0 < heights.min() < 2.0 < 3.0 < heights.max() < 4.0


def test_members_of_one_point_are_pooled():
    made = plots.sweep_points(
        [0.1, 0.2, 0.1], ["a", "a", "a"], np.array([1.0, 2.0, 3.0]), [False] * 3
    )
    assert made == [Point(0.1, "a", [1.0, 3.0]), Point(0.2, "a", [2.0])]


def test_no_points_are_refused():
    with pytest.raises(ValueError, match="points: expected at least one"):
        plots.sensitivity([], X, Y)


# ------------------------------------------------------------------------------ curves


def test_curves_of_one_run_show_its_members_where_they_were_measured():
    values = [[1.0, np.nan, 3.0], [3.0, np.nan, 5.0], [2.0, np.nan, 40.0]]
    figure = plots.curves([Series("a", [10, 20, 30], values)], "loss", log_y=True)
    lines = figure.axes[0].lines
    assert [list(one.get_xdata()) for one in lines] == [[10, 30]] * 4
    np.testing.assert_allclose(lines[-1].get_ydata(), [2.0, (0.25 * 43 + 5) / 1.5])
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_ylabel() == "loss"


def test_curves_of_several_runs_are_a_line_each():
    runs = [
        Series("a", [10, 20], [[1.0, 2.0], [3.0, 4.0]]),
        Series("b", [10], [[7.0], [9.0]]),
    ]
    figure = plots.curves(runs, "loss")
    assert drawn(figure) == {"a": [(10, 2.0), (20, 3.0)], "b": [(10, 8.0)]}


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_curves_of_another_shape_are_refused(values):
    with pytest.raises(ValueError, match=r"values: expected \[members, 2\], got the"):
        plots.curves([Series("a", [10, 20], values)], "loss")
    with pytest.raises(ValueError, match="runs: expected at least one"):
        plots.curves([], "loss")


# ------------------------------------------------------------------------------- files


def test_files_have_both_kinds_and_equal_figures_equal_bytes(tmp_path):
    lines = [Line("a", [0, 1], [2, 3]), Line("b", [0, 1], [3, 2], [2, 1], [4, 3], "--")]
    figures = [plots.lines(lines, X, Axis("y", low=0.0, high=5.0)) for _ in range(2)]
    assert figures[0].axes[0].get_ylim() == (0.0, 5.0)
    first, second = (
        plots.save(figure, tmp_path / "new" / str(k))
        for k, figure in enumerate(figures)
    )
    assert [path.name for path in first] == ["0.png", "0.pdf"]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert first[1].read_bytes().startswith(b"%PDF")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_stem_may_have_dots(tmp_path):
    figure = plots.lines([Line("a", [0], [1])], X, Y)
    assert plots.save(figure, tmp_path / "v1.5")[0].name == "v1.5.png"


def test_panels_stand_one_above_the_other():
    runs = [
        Series("rate", [10, 20], [[0.5, 0.25], [0.5, 0.75]]),
        Series("discount", [10, 20], [[0.9, 0.8], [0.9, 1.0]]),
    ]
    figure = plots.panels(runs)
    assert [axes.get_ylabel() for axes in figure.axes] == ["rate", "discount"]
    assert figure.axes[0].lines[-1].get_ydata().tolist() == [0.5, 0.5]
    assert figure.axes[0].get_title() == (
        "n = 2 members (thin) and their interquartile mean"
    )
    with pytest.raises(ValueError, match="runs: expected at least one"):
        plots.panels([])


def test_a_mean_line_has_means_and_intervals():
    line = plots.mean_line("a", [1, 2], [[0.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
    assert (line.label, line.y.tolist()) == ("a", [3.0, 5.0])
    assert 0.0 <= line.low[0] < 3.0 < line.high[0] <= 6.0
    assert (line.low[1], line.high[1]) == (5.0, 5.0)


def test_a_grid_draws_equal_labels_alike():
    one, two = Line("one", [0, 1], [1, 2]), Line("two", [0, 1], [3, 4])
    rows = [
        [plots.Panel([one, two], X, Y, "left"), plots.Panel([two], X, Y, "right")],
        [plots.Panel([two], X, Y._replace(log=True)), plots.Panel([one], X, Y)],
    ]
    figure = plots.grid(rows)
    colors = {}
    for axes in figure.axes:
        for line in axes.lines:
            colors.setdefault(line.get_label(), set()).add(line.get_color())
    assert colors == {"one": {"#0072B2"}, "two": {"#D55E00"}}
    assert [axes.get_title() for axes in figure.axes] == ["left", "right", "", ""]
    assert [axes.get_yscale() for axes in figure.axes][2] == "log"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


def test_a_grid_of_unequal_rows_is_refused():
    panel = plots.Panel([Line("one", [0], [1])], X, Y)
    with pytest.raises(ValueError, match=r"rows of one length, got \[1, 2\]"):
        plots.grid([[panel], [panel, panel]])
