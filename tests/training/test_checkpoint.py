"""What is saved comes back bit for bit, or is refused with a reason."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError
from rl_grads.training.checkpoint import Checkpoints, Saved

SEEDS = (4, 5)


class Members(NamedTuple):
    """A state with names out of alphabetical order."""

    zeta: Any
    alpha: Any
    key: Any
    frames: Any
    flag: Any


def members(scale=1.0, width=3, dtype=np.float32):
    """Floats, integers, keys, bytes, flags and an empty part."""
    return Members(
        zeta={"w": (np.arange(2 * width) * scale).reshape(2, width).astype(dtype)},
        alpha=(np.array([1, 2], np.int32), None),
        key=jax.vmap(jax.random.key)(jnp.arange(2) + int(scale)),
        frames=np.arange(2000, dtype=np.uint8).reshape(2, 1000),
        flag=np.array([True, False]),
    )


@pytest.fixture
def open_checkpoints(tmp_path):
    """Open the checkpoints in the test's folder; they are closed at its end."""
    opened = []

    def make(**options):
        opened.append(Checkpoints(tmp_path / "run", **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def saved(open_checkpoints):
    """One checkpoint on the disk."""
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 123, SEEDS, members()))
    checkpoints.close()


def test_everything_comes_back_in_its_place(open_checkpoints, saved):
    found = open_checkpoints().restore(members(scale=0.0), SEEDS)
    assert found[:3] == (7, 123, SEEDS)
    expected = members()
    assert jax.tree.structure(found.members) == jax.tree.structure(expected)
    assert draws(found.members.key) == draws(expected.key)
    parts = (found.members._replace(key=None), expected._replace(key=None))
    for leaf, other in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_array_equal(leaf, other)
        assert leaf.dtype == other.dtype


def draws(keys):
    return jax.vmap(jax.random.bits)(keys).tolist()


def test_abstract_members_do_as_well(open_checkpoints, saved):
    found = open_checkpoints().restore(jax.eval_shape(members), SEEDS)
    np.testing.assert_array_equal(found.members.zeta["w"], members().zeta["w"])


def test_the_newest_are_kept(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints(keep=2)
    for step in (10, 20, 30):
        checkpoints.save(Saved(step, step, SEEDS, members(scale=float(step))))
    checkpoints.close()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["20", "30"]
    found = open_checkpoints().restore(members(), SEEDS)
    assert found.iteration == found.offset == 30
    assert found.members.zeta["w"][0, 1] == 30.0


def test_arrays_may_change_once_save_has_returned(open_checkpoints):
    checkpoints, state = open_checkpoints(), members()
    checkpoints.save(Saved(7, 0, SEEDS, state))
    state.frames[:] = 0
    checkpoints.close()
    found = open_checkpoints().restore(members(), SEEDS)
    np.testing.assert_array_equal(found.members.frames, members().frames)


# --------------------------------------------------------------------------- refusals


def refusal(checkpoints, like, seeds=SEEDS):
    with pytest.raises(ConfigError) as caught:
        checkpoints.restore(like, seeds)
    text = str(caught.value)
    assert text.startswith("resume=")
    assert "\n" not in text
    return text


def test_a_run_without_checkpoints(open_checkpoints, tmp_path):
    text = refusal(open_checkpoints(), members())
    assert text == f"resume={tmp_path / 'run'}: expected a run with checkpoints"


def test_another_shape(open_checkpoints, saved):
    text = refusal(open_checkpoints(), members(width=4))
    assert text.endswith(
        "expected the config of the run; its checkpoint has zeta.w: float32[2, 3], "
        "this config float32[2, 4]"
    )


def test_another_precision(open_checkpoints, saved):
    assert "this config float64[2, 3]" in refusal(
        open_checkpoints(), members(dtype=np.float64)
    )


def test_another_structure(open_checkpoints, saved):
    more = members()._replace(zeta=members().zeta | {"target": np.zeros(2)})
    assert "has zeta.target: nothing, this config float64[2]" in refusal(
        open_checkpoints(), more
    )
    less = members()._replace(flag=None)
    assert "has flag: bool[2], this config nothing" in refusal(open_checkpoints(), less)


def test_other_seeds(open_checkpoints, saved):
    text = refusal(open_checkpoints(), members(), (4, 6))
    assert text.endswith("expected the seeds [4, 5], got [4, 6]")


def test_a_flipped_bit_anywhere_on_the_disk(open_checkpoints, saved, tmp_path):
    expected, refused = members().frames, 0
    folder = tmp_path / "run/checkpoints/7/members"
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        whole = file.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 2)):
            file.write_bytes(
                whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
            )
            try:
                found = open_checkpoints().restore(members(), SEEDS)
                np.testing.assert_array_equal(found.members.frames, expected)
            except ConfigError as error:
                assert "expected an intact checkpoint" in str(error)
                refused += 1
        file.write_bytes(whole)
    assert refused > 4


def test_a_value_that_changed_without_orbax_noticing(open_checkpoints, saved, tmp_path):
    meta = tmp_path / "run/checkpoints/7/meta/metadata"
    text = meta.read_text()
    start = text.index('"frames": ', text.index('"checksums"')) + len('"frames": ')
    meta.write_text(text[:start] + "1" + text[start:])
    text = refusal(open_checkpoints(), members())
    assert text.endswith(
        "expected an intact checkpoint, but frames has changed on the disk"
    )


def test_a_missing_file(open_checkpoints, saved, tmp_path):
    (tmp_path / "run/checkpoints/7/meta/metadata").unlink()
    assert "expected an intact checkpoint (" in refusal(open_checkpoints(), members())
