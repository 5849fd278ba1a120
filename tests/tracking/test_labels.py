"""What the mirrors call a run."""

from pathlib import Path

import pytest

from rl_grads.tracking import labels


@pytest.mark.parametrize(
    ("directory", "home", "name", "group"),
    [
        ("runs/walk/T", "runs/walk/T", "walk/T", "walk/T"),
        ("sweeps/walk/T/3", "sweeps/walk/T", "walk/T/3", "walk/T"),
        ("runs/paper", "runs/paper", "paper", "paper"),
        ("sweeps/paper/0", "sweeps/paper", "paper/0", "paper"),
        ("/a/study/b/1", "/a/study/b", "study/b/1", "study/b"),
        ("/b", "/b", "b", "b"),
    ],
)
def test_names(directory, home, name, group):
    assert labels.names(Path(directory), Path(home)) == (name, group)


def test_tags_are_short_enough_for_weights_and_biases():
    (tag,) = labels.tags(env="gymnasium/" + "x" * 80, agent=None)
    assert (tag[:19], len(tag)) == ("env:gymnasium/xxxxx", 64)
