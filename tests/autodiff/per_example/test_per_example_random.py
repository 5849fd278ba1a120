"""Random small networks give what `vmap(grad)` gives."""

from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from rl_grads.autodiff import per_example as pe

pytestmark = pytest.mark.slow

B = 3
LAYERS = st.sampled_from(
    [
        *("dense", "dense_transposed", "bias", "scale", "tanh", "relu", "norm"),
        *("twice", "scan", "layers", "convolution", "mix", "stop", "cond", "remat"),
        *("residual", "embed", "reshape"),
    ]
)


class Layer(NamedTuple):
    kind: str
    width: int


class Net(NamedTuple):
    layers: tuple[Layer, ...]
    tokens: int
    width: int


NETS = st.builds(
    Net,
    st.lists(st.builds(Layer, LAYERS, st.integers(1, 6)), min_size=1, max_size=5).map(
        tuple
    ),
    tokens=st.integers(1, 4),
    width=st.integers(1, 5),
)


def build(net):
    """Parameters, and `loss(params, x, index)` for tokens `x [tokens, width]`."""
    rng = np.random.default_rng(len(net.layers))
    params, functions, width = [], [], net.width
    for layer in net.layers:
        shape, function, width = make(layer, net.tokens, width)
        params.append(jnp.asarray(0.7 * rng.normal(size=shape), jnp.float32))
        functions.append(function)

    def loss(params, x, index):
        for w, function in zip(params, functions, strict=True):
            x = function(w, x, index)
        return jnp.sum(jnp.square(x - 0.3)) + jnp.sum(jnp.sin(x))

    return params, loss


def square(width):
    return (width, width)


def convolve(w, x):
    return jax.lax.conv_general_dilated(
        x[None], w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )[0]


def normalise(x):
    return (x - x.mean()) / jnp.sqrt(x.var() + 0.1)


def stopped(w):
    return jax.lax.stop_gradient(jnp.exp(w))[0]


again = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))


def scanned(w, x):
    def step(h, x):
        h = jnp.tanh(h @ w + x)
        return h, h

    return jax.lax.scan(step, jnp.zeros(x.shape[1]), x)[1]


def make(layer, tokens, n):
    """Shape of the parameter, the function, and the width after it."""
    m = layer.width
    table = {
        "dense": ((n, m), lambda w, x, i: x @ w, m),
        "dense_transposed": ((m, n), lambda w, x, i: x @ w.T, m),
        "bias": ((n,), lambda w, x, i: x + w, n),
        "scale": ((n,), lambda w, x, i: x * w, n),
        "tanh": ((), lambda w, x, i: jnp.tanh(x), n),
        "relu": ((), lambda w, x, i: jax.nn.relu(x), n),
        "norm": ((n,), lambda w, x, i: normalise(x) * w, n),
        "twice": (square(n), lambda w, x, i: jnp.tanh(x @ w) @ w, n),
        "residual": (square(n), lambda w, x, i: x + jnp.sin(x @ w), n),
        "scan": (square(n), lambda w, x, i: scanned(w, x), n),
        "layers": (
            (2, n, n),
            lambda w, x, i: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), 0), x, w)[0],
            n,
        ),
        "convolution": ((2, n, m), lambda w, x, i: convolve(w, x), m),
        "mix": ((tokens, tokens), lambda w, x, i: jnp.tanh(w @ x), n),
        "stop": (
            (n, n),
            lambda w, x, i: x @ w - stopped(w),
            n,
        ),
        "cond": (
            (n, n),
            lambda w, x, i: jax.lax.cond(i > 1, lambda: x @ w, lambda: x @ jnp.sin(w)),
            n,
        ),
        "remat": (
            (n, m),
            lambda w, x, i: again(w, x),
            m,
        ),
        "embed": ((4, n), lambda w, x, i: x + w[i] - w[jnp.array([0, i])].sum(0), n),
        "reshape": ((n * m,), lambda w, x, i: x @ w.reshape(m, n).T, m),
    }
    return table[layer.kind]


@hypothesis.settings(max_examples=12)
@hypothesis.given(net=NETS)
def test_random_networks(quick, net):
    params, loss = build(net)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(B, net.tokens, net.width)), jnp.float32)
    index = jnp.array([0, 2, 3])
    weights = jnp.array([1.0, -0.5, 2.0])

    @quick
    def program(params, x, index):
        each = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, index)
        total, norms = pe.gradient_with_norms(loss)(params, weights, x, index)
        clipped, _ = pe.clipped_gradient(loss, 1.0)(params, weights, x, index)
        return each, total, norms, clipped

    each, total, norms, clipped = program(params, x, index)
    rows = np.concatenate([np.asarray(g, np.float64).reshape(B, -1) for g in each], 1)
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(norms, lengths, rtol=1e-5, atol=1e-5 * lengths.max())
    factor = np.minimum(1, 1 / np.maximum(lengths, 1e-30))
    for tree, w in ((total, weights), (clipped, weights * factor)):
        got = np.concatenate([np.ravel(leaf) for leaf in tree])
        want = np.asarray(w, np.float64) @ rows
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * abs(want).max())
