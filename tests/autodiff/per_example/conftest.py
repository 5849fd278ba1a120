"""The check that every case of per-example gradients goes through."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff import per_example

# Half the time to compile; what is computed stays the same.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
LIMIT = 0.8
WEIGHTS = np.array([1.0, 0.5, 0.0, -2.0, 3.0])


def draw(seed: int, *shape: int) -> jax.Array:
    """Normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def integers(seed: int, high: int, *shape: int) -> jax.Array:
    """Integers in [0, high)."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, shape), jnp.int32)


def flax(module: nn.Module, x: jax.Array, ways: str) -> tuple[Any, ...]:
    """A case: the sum of the squared outputs of a flax module."""
    shapes = jax.eval_shape(module.init, jax.random.key(1), x[0])
    params = jax.tree.map(lambda a: 0.5 * draw(a.size, *a.shape), shapes)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(module.apply(params, x)))

    return loss, params, (x,), ways


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """What cases are made of."""
    return SimpleNamespace(draw=draw, integers=integers, flax=flax)


def everything(loss: Callable[..., jax.Array], params: Any, *batch: Any) -> Any:
    """All that there is, and the reference."""
    pe, weights = per_example, jnp.asarray(WEIGHTS, jnp.float32)
    ask = pe.gradient_statistics(
        loss, layer_norms=True, cosines=True, gram=True, noise_scale=True
    )
    return SimpleNamespace(
        wanted=jax.vmap(jax.grad(loss), (None, *(0,) * len(batch)))(params, *batch),
        each=pe.per_example_gradients(loss)(params, *batch),
        norms=pe.per_example_norms(loss)(params, *batch),
        weighted=pe.gradient_with_norms(loss)(params, weights, *batch),
        clipped=pe.clipped_gradient(loss, LIMIT)(params, weights, *batch),
        statistics=ask(params, None, *batch),
    )


def matrix(gradients: Any) -> np.ndarray:
    """`[B, all parameters]` in float64."""
    leaves = jax.tree.leaves(gradients)
    return np.concatenate([np.asarray(g, np.float64).reshape(5, -1) for g in leaves], 1)


def close(got: Any, wanted: Any, rtol: float = 1e-5) -> None:
    """Relative to the largest entry."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    scale = np.abs(wanted).max(initial=0)
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol * scale)


def vector(tree: Any) -> np.ndarray:
    """All entries of a tree."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def check(
    loss: Callable[..., jax.Array], params: Any, batch: tuple[Any, ...], ways: str
) -> None:
    """Everything agrees with `vmap(grad)`, and the ways are those expected.

    `ways` has the first letter of each parameter's way, so that a case cannot pass by
    falling back on the slow one.
    """
    found = per_example.explain(loss, params, *batch)
    assert "".join(e.way[0] for e in found) == ways, "\n".join(map(str, found))

    def program(params: Any, *batch: Any) -> dict[str, Any]:
        return vars(everything(loss, params, *batch))

    got = SimpleNamespace(**jax.jit(program, compiler_options=QUICK)(params, *batch))
    rows = matrix(got.wanted)
    lengths = np.linalg.norm(rows, axis=1)
    jax.tree.map(close, got.each, got.wanted)
    for norms in (got.norms, got.weighted[1], got.clipped[1], got.statistics.norms):
        close(norms, lengths)
    close(vector(got.weighted[0]), WEIGHTS @ rows)
    factor = np.minimum(1, LIMIT / np.maximum(lengths, 1e-30))
    close(vector(got.clipped[0]), (WEIGHTS * factor) @ rows)
    check_statistics(got.statistics, rows, got.wanted)


def check_statistics(found: Any, rows: np.ndarray, wanted: Any) -> None:
    """Against the gradients as a matrix."""
    close(vector(found.gradient), rows.sum(0))
    close(found.gram, rows @ rows.T)
    mean = rows.mean(0)
    scale = np.linalg.norm(rows, axis=1) * np.linalg.norm(mean)
    zeros = np.zeros(len(rows))
    close(found.cosines, np.divide(rows @ mean, scale, where=scale > 0, out=zeros))
    layers = zip(
        jax.tree.leaves(found.layer_norms), jax.tree.leaves(wanted), strict=True
    )
    for norms, leaf in layers:
        close(norms, np.linalg.norm(np.asarray(leaf).reshape(5, -1), axis=1))
    trace = np.var(rows, axis=0, ddof=1).sum()
    signal = mean @ mean - trace / len(rows)
    if signal > 1e-2 * trace:
        np.testing.assert_allclose(found.noise_scale, trace / signal, rtol=1e-3)
    assert int(found.num_nonfinite) == 0


@pytest.fixture(scope="session")
def quick() -> Callable[..., Any]:
    """`jax.jit` that compiles in half the time."""
    return functools.partial(jax.jit, compiler_options=QUICK)


@pytest.fixture(scope="session")
def check_case() -> Callable[..., None]:
    """`check(loss, params, batch, ways)`."""
    return check
