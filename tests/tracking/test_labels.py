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


RATE, CLIP = "optimizer.learning_rate", "gradient.clip.max_norm"


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ((RATE,), ("lr",)),
        ((RATE, "meta.optimizer.learning_rate"), ("optimizer.lr", "meta.optimizer.lr")),
        ((CLIP, "gradient.update.max_norm"), ("clip.max_norm", "update.max_norm")),
        (("replay", "env.id"), ("replay", "env")),
        (("optimizer", "optimizer@meta.optimizer"), ("optimizer", "meta.optimizer")),
        (("network.initial_weights.0",), ("initial_weights.0",)),
        (("agent.discount", RATE), ("discount", "lr")),
    ],
)
def test_a_key_is_as_short_as_it_can_be_told_apart(keys, names):
    assert tuple(labels.short_names(keys).values()) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-4, "3e-4"),
        (0.00025, "2.5e-4"),
        (1e-3, "1e-3"),
        (0.01, "0.01"),
        (0.95, "0.95"),
        (1.0, "1"),
        (2000.0, "2000"),
        (50_000.0, "5e4"),
        (0.000316227766, "3.162e-4"),
        (-0.0005, "-5e-4"),
        (0.0, "0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (1000, "1000"),
        (100_000, "1e5"),
        (131_072, "131072"),
        (0, "0"),
        (-20_000, "-20000"),
        (True, "true"),
        (None, "null"),
        ([64, 64], "[64,64]"),
        ("td_error", "td_error"),
        ("x" * 99, "x" * 16 + "..." + "x" * 16),
    ],
)
def test_a_value_is_compact(value, text):
    assert labels.compact(value) == text


def test_what_a_config_does_not_have_is_not_in_its_name():
    keys = (RATE, "replay", "replay.exponent", "experiment")
    found = labels.differences({RATE: 3e-4, "replay": None}, keys)
    assert found == {RATE: "lr=3e-4", "replay": "replay=null"}


def test_a_name_is_short_enough_for_weights_and_biases():
    assert labels.joined("lr=3e-4", "seed 2") == "lr=3e-4 · seed 2"
    assert len(labels.joined(*["a=1"] * 99)) < 128
