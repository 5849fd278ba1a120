"""Random numbers do not depend on JAX's default implementation of PRNG keys."""

import ast
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import rl_grads as rg
from rl_grads import prng
from rl_grads.training.checkpoint import Checkpoints, Saved

ROOT = Path(__file__).resolve().parent.parent
IMPLEMENTATIONS = (
    "threefry2x32",
    "threefry4x32",
    "rbg",
    "unsafe_rbg",
    "philox2x32",
    "philox4x32",
)
CONFIG = rg.replace(
    rg.Config(),
    {
        "network.hidden": (8,),
        "training.total_steps": 300,
        "training.warmup_steps": 200,
        "tracking.interval": 300,
        "evaluation.interval": None,
        "evaluation.episodes": 2,
    },
)


def errors(seeds: list[int]) -> list[float]:
    """What members of these seeds report at the end."""
    result = rg.train(members=rg.population(CONFIG, seeds=seeds))
    return result.metrics["loss/td_error_abs"][:, -1].tolist()


def test_these_are_all_implementations_that_jax_offers():
    with pytest.raises(ValueError, match=re.escape(str(list(IMPLEMENTATIONS)))):
        jax.config.update("jax_default_prng_impl", "none of them")


@pytest.fixture(scope="module")
def usual() -> list[float]:
    return errors([0, 1, 2])


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_members_differ_and_equal_their_solo_runs(name, usual):
    with jax.default_prng_impl(name):
        together, alone = errors([0, 77, 1]), errors([1])
    assert len(set(together)) == 3
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-5)
    np.testing.assert_allclose([together[0], together[2]], usual[:2], rtol=1e-5)


@pytest.mark.parametrize("name", ["rbg", "philox2x32"])
def test_a_key_read_back_from_a_checkpoint_is_what_it_was(name, tmp_path):
    members = {"theirs": jax.random.key(3, impl="unsafe_rbg"), "ours": prng.key(3)}
    with jax.default_prng_impl(name):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(Saved(1, 0, (0,), members))
        checkpoints.wait()
        found = checkpoints.restore(jax.eval_shape(lambda: members), (0,)).members
    for kind, key in members.items():
        assert found[kind].dtype == key.dtype
        assert jax.random.bits(found[kind]) == jax.random.bits(key)


def makes_a_key(node: ast.AST) -> bool:
    """`jax.random.key(..)` and its like, handed on uncalled as well."""
    named = isinstance(node, ast.Attribute) and node.attr in ("key", "PRNGKey")
    return named and ast.unparse(node).startswith(("jax.random.", "random."))


def test_keys_are_made_in_one_place():
    sources = [
        path
        for room in ("rl_grads", "experiments")
        for path in (ROOT / room).rglob("*.py")
    ]
    found = {
        str(path.relative_to(ROOT))
        for path in sources
        if any(makes_a_key(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert found == {"rl_grads/prng.py"}
