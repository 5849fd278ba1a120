"""Every picture of the pages is what its kept numbers look like today."""

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from rl_grads.analysis import plots
from scripts import pictures

PINNED = re.search(
    r"^matplotlib==(\S+)",
    (Path(__file__).parents[1] / "constraints.txt").read_text(),
    re.MULTILINE,
)
# Of 255, over all pixels: a point of a line that moves by a twentieth is .01.
CLOSE = 0.005
# Whose numbers are not kept yet: it takes an hour to have them.
OLD = {"meta_self_tuning", "minatar_breakout"}

pytestmark = pytest.mark.skipif(
    PINNED is None or importlib.metadata.version("matplotlib") != PINNED[1],
    reason="another Matplotlib sets other type",
)


def pixels(file):
    return 255.0 * image.imread(file)[..., :3]


def difference(name, figure, folder):
    """Mean absolute difference to the picture as it is checked in."""
    (path,) = plots.save(figure, folder / f"{name}.png")
    drawn, kept = pixels(path), pixels(pictures.IMAGES / f"{name}.png")
    assert drawn.shape == kept.shape
    return np.abs(drawn - kept).mean()


@pytest.mark.parametrize("name", sorted(set(pictures.PICTURES) - OLD))
def test_a_picture_is_what_its_numbers_look_like(name, tmp_path):
    off = difference(name, pictures.figure(name), tmp_path)
    assert off < CLOSE, f"run: python -m scripts.pictures {name}"


def test_all_pictures_have_numbers_and_all_numbers_a_picture():
    drawn = {path.stem for path in pictures.IMAGES.glob("*.png")}
    kept = {path.stem for path in pictures.DATA.iterdir()}
    assert drawn == kept | OLD == set(pictures.PICTURES)
    assert not kept & OLD


def test_what_is_kept_is_small():
    sizes = {path.stem: path.stat().st_size for path in pictures.DATA.iterdir()}
    assert {name: size for name, size in sizes.items() if size > 16_000} == {}


def altered(change):
    kept = pictures.read("baird")
    change(kept["lines"][0])
    return pictures.PICTURES["baird"].draw(kept)


def test_a_point_that_moves_is_seen(tmp_path):
    def move(line):
        line["y"][25] *= 1.05

    assert difference("baird", altered(move), tmp_path) > CLOSE


def test_a_name_that_changes_is_seen(tmp_path):
    def rename(line):
        line["label"] += "s"

    assert difference("baird", altered(rename), tmp_path) > CLOSE


def test_an_axis_that_is_called_otherwise_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "_STEPS", plots.Axis("environment step per member"))
    assert difference("baird", pictures.figure("baird"), tmp_path) > CLOSE


def test_another_size_is_seen(tmp_path):
    figure = pictures.figure("baird")
    figure.set_size_inches(6.4, 3.9)
    with pytest.raises(AssertionError):
        difference("baird", figure, tmp_path)


def test_numbers_are_kept_short():
    given = {"a": np.array([1.23456, np.nan, 3.0]), "b": [("x", None, True, 12345)]}
    assert pictures.short(given) == {
        "a": [1.235, None, 3],
        "b": [["x", None, True, 12345]],
    }


def test_what_is_kept_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "DATA", tmp_path / "data")
    line = plots.Line("µ", np.arange(2), np.array([0.5, np.nan]), style="--")
    pictures.keep("one", {"lines": [line._asdict()]})
    (back,) = pictures._lines(pictures.read("one")["lines"])
    assert (back.label, back.low, back.style) == ("µ", None, "--")
    np.testing.assert_array_equal(back.y, [0.5, np.nan])


def test_a_picture_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        pictures.main(["bard"])
    assert "'bard'" in capsys.readouterr().err
