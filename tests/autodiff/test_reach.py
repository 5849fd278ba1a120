"""Which inputs reach an output by a path with a derivative."""

import jax
import jax.numpy as jnp
import pytest

from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.mixed_mode import mixed_mode_grad
from rl_grads.autodiff.reach import reaching
from rl_grads.autodiff.steps import skip_nonfinite
from rl_grads.autodiff.surrogates import straight_through


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (lambda x, y: x * y, (True, True)),
        (lambda x, y: x, (True, False)),
        (lambda x, y: x + jax.lax.stop_gradient(y), (True, False)),
        (lambda x, y: jnp.where(x > 0, y, 0.0), (False, True)),
        (lambda x, y: jnp.floor(x) * y, (False, True)),
        (lambda x, y: y * jnp.argmax(jnp.stack([x, y])), (False, True)),
        (lambda x, y: y * (x > 0).astype(float), (False, True)),
        (lambda x, y: jax.jit(lambda a, b: (a, b))(x, y)[1], (False, True)),
        (lambda x, y: jax.checkpoint(lambda a, b: (b, a))(x, y)[0], (False, True)),
        (lambda x, y: jax.nn.relu(x), (True, False)),
        # Loops and rules count as a whole: True may be too much, False is certain.
        (lambda x, y: clip_gradient(x, y), (True, True)),
        (lambda x, y: straight_through(jnp.round)(x), (True, False)),
        (
            lambda x, y: jax.lax.scan(
                lambda c, _: ((c[0] + 1.0, 2 * c[1]), None), (x, y), length=2
            )[0][0],
            (True, True),
        ),
        (lambda x, y: jax.random.uniform(jax.random.key(0)) < x, (False, False)),
    ],
)
def test_reaching(fun, expected):
    assert reaching(fun, 1.0, 2.0) == expected


def test_it_looks_through_a_gradient():
    # The gradient of y sin(x) + z in x is y cos(x).
    loss = lambda x, y, z: y * jnp.sin(x) + z  # noqa: E731
    step = skip_nonfinite(lambda x, *a: (x - mixed_mode_grad(loss)(x, *a), None))
    fun = lambda x, y, z: step(x, y, z)[0]  # noqa: E731
    assert reaching(mixed_mode_grad(loss), 1.0, 2.0, 3.0) == (True, True, False)
    assert reaching(fun, 1.0, 2.0, 3.0) == (True, True, False)


def test_pytrees():
    found = reaching(lambda t: t["a"][0] * 2, {"a": (1.0, 2.0), "b": jnp.int32(1)})
    assert found == ({"a": (True, False), "b": False},)
