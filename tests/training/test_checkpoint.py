"""What is saved comes back bit for bit, or is refused with a reason."""

import math
import string
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rl_grads.training import checkpoint, state_files
from rl_grads.training.checkpoint import Checkpoints, Due, Saved
from tests.training.saved_members import SEEDS, draws, members, refusal

AUTO = jax.sharding.AxisType.Auto


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


def test_the_arrays_may_be_given_away_once_save_has_returned(
    open_checkpoints, monkeypatch
):
    """As training does: it hands them to a program that writes into them."""
    started, write = threading.Event(), state_files.write

    def late(*arguments):
        assert started.wait(60)
        write(*arguments)

    monkeypatch.setattr(state_files, "write", late)
    mesh = jax.make_mesh((len(jax.devices()),), ("m",), axis_types=(AUTO,))
    members_axis = NamedSharding(mesh, PartitionSpec("m"))
    frames = jnp.arange(4_000_000).reshape(4, -1)
    state = {"x": jax.device_put(frames, members_axis)}
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 0, SEEDS, state))
    advance = jax.jit(lambda x: x + 1, donate_argnums=0)
    after = jax.block_until_ready(advance(state["x"]))
    assert state["x"].is_deleted() and after[0, 0] == 1
    started.set()
    checkpoints.wait()
    found = checkpoints.restore({"x": after}, SEEDS).members["x"]
    np.testing.assert_array_equal(found.ravel(), np.arange(4_000_000))


def test_a_copy_shares_no_memory():
    mesh = jax.make_mesh((len(jax.devices()),), ("m",), axis_types=(AUTO,))
    for spec in (PartitionSpec("m"), PartitionSpec()):
        array = jax.device_put(jnp.arange(8.0).reshape(4, 2), NamedSharding(mesh, spec))
        copy = checkpoint._copy(array)
        np.testing.assert_array_equal(copy, np.arange(8.0).reshape(4, 2))
        for shard in array.addressable_shards:
            assert not np.shares_memory(copy, np.asarray(shard.data))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_keep_their_implementation(open_checkpoints, impl):
    """Whatever JAX's default is when they are read."""
    state = {"key": jax.random.split(jax.random.key(3, impl=impl), 2)}
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 0, SEEDS, state))
    checkpoints.wait()
    other = "rbg" if impl == "threefry2x32" else "threefry2x32"
    with jax.default_prng_impl(other):
        found = checkpoints.restore(jax.eval_shape(lambda: state), SEEDS)
    assert found.members["key"].dtype == state["key"].dtype
    assert draws(found.members["key"]) == draws(state["key"])
    wanted = {"key": jax.random.split(jax.random.key(3, impl=other), 2)}
    assert f"has key.{impl}: uint32" in refusal(checkpoints, wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "complex64"])
def test_numbers_of_every_type(open_checkpoints, dtype):
    state = {"x": jnp.array([[0.5, 2], [3, -4]], dtype), "none": jnp.zeros((2, 0))}
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 0, SEEDS, state))
    checkpoints.wait()
    found = checkpoints.restore(state, SEEDS).members["x"]
    assert found.dtype == dtype
    assert found.astype(complex).tolist() == [[0.5, 2], [3, -4]]


# --------------------------------------------------------------------------- refusals


def test_a_run_without_checkpoints(open_checkpoints, tmp_path):
    text = refusal(open_checkpoints(), members())
    assert text == f"resume={tmp_path / 'run'}: expected a run with a checkpoint"


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


# ------------------------------------------------------------------------- odd places


def test_any_path_will_do(tmp_path):
    names = [c for c in string.printable if c.isprintable() and c != "/"]
    for name in (*(f"a{c}b" for c in names), "[x]", "*", "lr=1e-3,hidden=[8]", "ä 'x'"):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(Saved(7, 0, SEEDS, members()))
        checkpoints.wait()
        assert checkpoints.restore(members(), SEEDS).iteration == 7, name


def test_nothing_is_written_before_the_first_save(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.iterations() == []
    checkpoints.remove_all()
    checkpoints.close()
    assert not (tmp_path / "run").exists()


def test_foreign_folders_are_left_alone(two, open_checkpoints):
    for name in ("x", "²", ".5.part"):
        (two.parent / name).mkdir()
    (two.parent / "9").write_text("")
    checkpoints = open_checkpoints(keep=1)
    assert checkpoints.iterations() == [6, 7]
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    checkpoints.wait()
    assert checkpoints.iterations() == [8]
    assert (two.parent / "9").exists() and (two.parent / "x").exists()


def test_what_lies_behind_the_newest_save_is_given_up(two, open_checkpoints):
    (two / "state.npz").write_bytes(b"")
    (two.parent / "7").rename(two.parent / "9")
    checkpoints = open_checkpoints(keep=1)
    assert checkpoints.restore(members(), SEEDS).iteration == 6
    checkpoints.save(Saved(8, 0, SEEDS, members(scale=8.0)))
    checkpoints.wait()
    assert checkpoints.iterations() == [8]
    found = open_checkpoints().restore(members(), SEEDS)
    assert found.members.zeta["w"][0, 1] == 8.0


def test_what_a_killed_process_has_left_is_removed(two, open_checkpoints):
    for name in (".5.part", ".3.gone", ".x.part", "5.part"):
        (two.parent / name).mkdir()
        (two.parent / name / "state.npz").write_bytes(b"half")
    (two.parent / ".9.gone").write_text("")
    checkpoints = open_checkpoints(keep=2)
    checkpoints.save(Saved(8, 0, SEEDS, members()))
    checkpoints.wait()
    left = sorted(path.name for path in two.parent.iterdir())
    assert left == [".x.part", "5.part", "7", "8"]


def test_a_whole_checkpoint_is_not_replaced_by_itself(two, open_checkpoints):
    before = (two / "state.npz").stat().st_ino
    checkpoints = open_checkpoints(keep=2)
    again = Saved(7, 107, SEEDS, members(scale=7.0))
    checkpoints.save(again)
    checkpoints.wait()
    assert (two / "state.npz").stat().st_ino == before
    (two / "state.npz").write_bytes(b"")
    checkpoints.save(again)
    checkpoints.wait()
    assert checkpoints.restore(members(), SEEDS).iteration == 7


def test_an_iteration_is_saved_again(two, open_checkpoints):
    checkpoints = open_checkpoints(keep=2)
    checkpoints.save(Saved(7, 5, SEEDS, members(scale=9.0)))
    checkpoints.wait()
    found = checkpoints.restore(members(), SEEDS)
    assert (found.iteration, found.offset) == (7, 5)
    assert found.members.zeta["w"][0, 1] == 9.0


# ---------------------------------------------------------------------------- how often


def test_saving_waits_for_its_share_of_the_time():
    due = Due(60.0, now=100.0)
    assert not due(159.9, cost=0.0)
    assert due(160.0, cost=0.0)
    due.saved(160.0)
    assert not due(219.0, cost=0.6)
    assert due(220.0, cost=1.5)
    assert not due(229.0, cost=2.1)  # 2.1 s are 3 % of 70 s.
    assert due(230.0, cost=2.1)
    assert not Due(None, now=0.0)(1e9, cost=0.0)


def test_what_a_save_costs_is_known(open_checkpoints):
    checkpoints = open_checkpoints()
    assert checkpoints.cost == 0.0
    checkpoints.save(Saved(7, 0, SEEDS, {"x": np.zeros((2, 4_000_000), np.uint8)}))
    checkpoints.wait()
    assert 0.001 < checkpoints.cost < 10


def test_none_is_due_while_one_is_being_written(open_checkpoints, monkeypatch):
    started, write = threading.Event(), state_files.write

    def late(*arguments):
        assert started.wait(60)
        write(*arguments)

    monkeypatch.setattr(state_files, "write", late)
    checkpoints = open_checkpoints()
    checkpoints.save(Saved(7, 0, SEEDS, members()))
    assert checkpoints.cost == math.inf
    assert not Due(60.0, now=0.0)(1e9, cost=checkpoints.cost)
    started.set()
    checkpoints.wait()
    assert 0.0 < checkpoints.cost < 10
