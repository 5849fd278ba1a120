"""Convolutions of every kind give what `vmap(grad)` gives."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.agents import networks
from rl_grads.agents.schema import Convolution
from rl_grads.autodiff import per_example
from rl_grads.autodiff.per_example import batch as of_batches

pytestmark = pytest.mark.slow

B = 5  # Examples in a batch.
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


# ----------------------------------------------------------------------- convolutions


class Convolutions(nn.Module):
    features: tuple[int, ...]
    kernel: tuple[int, ...]
    options: Any

    @nn.compact
    def __call__(self, x):
        for features in self.features:
            x = nn.relu(nn.Conv(features, self.kernel, **dict(self.options))(x))
        return nn.Dense(3)(x.ravel())


def convolutions(m, x, features, kernel, ways, **options):
    return m.flax(Convolutions(features, kernel, tuple(options.items())), x, ways)


@case
def convolution(m):
    return convolutions(m, m.draw(0, B, 9, 8, 3), (5, 4), (3, 3), "mamamf")


@case
def convolution_on_a_line(m):
    return convolutions(
        m, m.draw(0, B, 12, 3), (5,), (4,), "mamf", strides=2, padding="VALID"
    )


@case
def convolution_in_space(m):
    return convolutions(m, m.draw(0, B, 4, 4, 4, 2), (3,), (2, 2, 2), "mamf")


@case
def convolution_with_holes_and_strides(m):
    options = dict(kernel_dilation=(2, 1), strides=(1, 2), padding=((1, 2), (0, 1)))
    return convolutions(m, m.draw(0, B, 9, 8, 3), (5,), (3, 3), "mamf", **options)


@case
def convolution_in_groups(m):
    return convolutions(
        m, m.draw(0, B, 6, 6, 4), (8,), (3, 3), "mamf", feature_group_count=2
    )


@case
def convolution_per_channel(m):
    return convolutions(
        m, m.draw(0, B, 6, 6, 4), (8,), (3, 3), "mamf", feature_group_count=4
    )


@case
def convolution_with_a_dilated_input(m):
    return convolutions(
        m,
        m.draw(0, B, 4, 4, 3),
        (5,),
        (3, 3),
        "mamf",
        input_dilation=2,
        padding=((1, 1), (1, 2)),
    )


@case
def transposed_convolution(m):
    module = nn.Sequential([nn.ConvTranspose(4, (3, 3), strides=(2, 2)), nn.tanh])
    return m.flax(module, m.draw(0, B, 3, 3, 6), "ma")


@case
def convolution_of_few_places(m):
    return convolutions(
        m, m.draw(0, B, 3, 3, 30), (40,), (3, 3), "mfmf", padding="VALID"
    )


@case
def convolution_with_channels_first(m):
    def loss(w, x):
        out = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")
        return jnp.sum(jnp.tanh(out))

    return (loss, m.draw(0, 5, 3, 3, 3), (m.draw(1, B, 2, 3, 6, 6),), "a")


@case
def masked_convolution(m):
    mask = jnp.arange(9).reshape(3, 3, 1, 1) < 5

    def loss(w, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            x[None], w * mask, (1, 1), "SAME", dimension_numbers=numbers
        )
        return jnp.sum(jnp.tanh(out))

    return (loss, m.draw(0, 3, 3, 2, 4), (m.draw(1, B, 6, 6, 2),), "m")


@case
def convolution_in_scan(m):
    numbers = ("NHWC", "HWIO", "NHWC")

    def loss(w, xs):
        def step(h, x):
            out = jax.lax.conv_general_dilated(
                x + h, w, (1, 1), "SAME", dimension_numbers=numbers
            )
            return jnp.tanh(out), jnp.sum(out)

        return jnp.sum(jax.lax.scan(step, jnp.zeros((1, 5, 4, 2)), xs)[1])

    return (loss, m.draw(0, 3, 3, 2, 2), (m.draw(1, B, 3, 1, 5, 4, 2),), "a")


@pytest.mark.parametrize("name", CASES)
def test_exact(name, make, check_case):
    check_case(*CASES[name](make))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_blocks_of_every_size(size, make, check_case, monkeypatch):
    loss, params, batch, ways = convolution_with_channels_first(make)
    numbers = 2 * 36 * (27 + 5)  # Patches and derivatives of one example.
    monkeypatch.setattr(of_batches, "MOST_NUMBERS", size * numbers)
    check_case(loss, params, batch, ways)
    assert of_batches.block(numbers) == size


def test_blocks_are_differentiated(make, monkeypatch):
    loss, params, batch, _ = convolution_with_channels_first(make)

    def blocks(w, max_norm):
        return per_example.clipped_gradient(loss, max_norm)(w, None, *batch)

    def whole(w, max_norm):
        rows = jax.vmap(jax.grad(loss), (None, 0))(w, *batch)
        norms = jnp.sqrt(jnp.sum(jnp.square(rows.reshape(B, -1)), 1))
        factor = jnp.minimum(1.0, max_norm / norms)
        return jnp.tensordot(factor, rows, 1), norms

    def derivative(clipped):
        def outer(w, max_norm):
            total, norms = clipped(w, max_norm)
            return jnp.sum(jnp.sin(total)) + jnp.sum(norms)

        return jax.jit(jax.grad(outer, (0, 1)))(params, 1.0)

    monkeypatch.setattr(of_batches, "MOST_NUMBERS", 2 * 2 * 36 * (27 + 5))
    expected = derivative(whole)
    for found, right in zip(derivative(blocks), expected, strict=True):
        assert np.abs(right).max() > 0.01
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def test_patches_of_a_batch_are_not_held():
    network = networks.convolution(Convolution(), 6)
    obs = jnp.ones((256, 10, 10, 4))
    params = network.init(jax.random.key(0), obs[0])

    def loss(params, obs):
        return jnp.sum(network.apply(params, obs) ** 2)

    def total(params, obs):
        return jnp.sum(jax.vmap(loss, (None, 0))(params, obs))

    def memory(function):
        compiled = jax.jit(function).lower(params, obs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    gradient = memory(jax.grad(total))
    norms = memory(per_example.per_example_norms(loss))
    assert norms < 1.1 * gradient  # Patches alone are 0.6 of it.
    both = per_example.gradient_with_norms(loss)
    assert memory(lambda params, obs: both(params, None, obs)) < 1.35 * gradient
