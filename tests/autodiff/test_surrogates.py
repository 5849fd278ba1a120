"""Surrogate gradients: exact values forward, borrowed derivatives backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import autodiff

LOGITS = jnp.array([0.3, -1.2, 0.8, 0.1])
SAMPLERS = [autodiff.reinmax, autodiff.gumbel_straight_through]


def softmax_jacobian(p):
    return jnp.diag(p) - jnp.outer(p, p)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


# ------------------------------------------------------------------ straight-through


@pytest.mark.parametrize(
    "fun", [jnp.round, jnp.sign, lambda x: jnp.where(x > 0, 1.0, 0.0)]
)
def test_the_value_is_that_of_the_function_and_the_slope_one(fun):
    x = jnp.array([-1.7, 0.3, 1e-8, 123456.7])
    through = autodiff.straight_through(fun)
    assert through(x).tolist() == fun(x).tolist()
    weights = jnp.array([2.0, 3.0, 5.0, 7.0])
    gradient = jax.grad(lambda x: weights @ through(x))(x)
    assert gradient.tolist() == weights.tolist()


def test_the_value_is_exact_where_a_sum_would_round():
    through = autodiff.straight_through(lambda x: jnp.full_like(x, 0.1))
    x = jnp.float32(1e8)
    assert float(x + jax.lax.stop_gradient(0.1 - x)) == 0.0
    assert float(through(x)) == float(jnp.float32(0.1))
    assert float(through(jnp.inf)) == float(jnp.float32(0.1))


def test_both_modes_and_the_second_order():
    square = lambda x: autodiff.straight_through(jnp.round)(x) ** 2  # noqa: E731
    assert [float(v) for v in jax.jvp(square, (1.7,), (1.0,))] == [4.0, 4.0]
    assert float(jax.grad(square)(1.7)) == 4.0  # 2 * round(x)
    assert float(jax.hessian(square)(1.7)) == 2.0
    assert float(jax.grad(jax.grad(square))(1.7)) == 2.0


def test_trees_transformations_and_further_arguments():
    @autodiff.straight_through
    def quantise(tree, step):
        return jax.tree.map(lambda x: step * jnp.floor(x / step), tree)

    def loss(tree, step):
        made = quantise(tree, step)
        return made["a"] * 3.0 + made["b"] ** 2

    trees = {"a": jnp.array([1.3, 2.6]), "b": jnp.array([0.7, 0.2])}
    both = jax.vmap(jax.grad(loss, argnums=(0, 1)), (0, None))
    gradient, of_step = jax.jit(both)(trees, 0.5)
    assert gradient["a"].tolist() == [3.0, 3.0]
    assert gradient["b"].tolist() == [1.0, 0.0]  # 2 * floor(b)
    assert of_step.tolist() == [0.0, 0.0]


def test_a_function_that_closes_over_what_is_differentiated():
    def loss(x):
        return autodiff.straight_through(lambda y: jnp.round(x * y))(x)

    assert float(jax.grad(loss)(1.6)) == 1.0


def test_the_function_may_be_one_that_cannot_be_differentiated():
    def halve(x):
        return jax.lax.while_loop(lambda y: y > 1.0, lambda y: y / 2, x)

    assert float(jax.grad(autodiff.straight_through(halve))(5.0)) == 1.0


def test_refusals_of_straight_through():
    with pytest.raises(TypeError) as caught:
        autodiff.straight_through(jnp.sign)(3)
    assert str(caught.value) == "x: expected a floating dtype, got int32"
    with pytest.raises(ValueError) as caught:
        autodiff.straight_through(lambda x: x > 0)(jnp.ones(2))
    assert str(caught.value) == "output of fun: expected float32[2], got bool[2]"
    with pytest.raises(ValueError, match=r"expected float32\[2\], got float32\[\]"):
        autodiff.straight_through(jnp.sum)(jnp.ones(2))


# ------------------------------------------------------------------------- sampling


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_one_hot_with_the_probabilities_of_a_softmax(sampler):
    keys = jax.random.split(jax.random.key(0), 40_000)
    samples = jax.jit(jax.vmap(lambda key: sampler(key, LOGITS, 0.7)))(keys)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert (samples.sum(-1) == 1).all()
    expected = jax.nn.softmax(LOGITS)
    # Five standard errors of a frequency.
    assert (abs(samples.mean(0) - expected) < 5 * 0.5 / 200).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_shapes_and_dtypes(sampler, dtype):
    sample = sampler(jax.random.key(0), jnp.zeros((2, 3, 5), dtype), 0.5)
    assert (sample.shape, sample.dtype) == ((2, 3, 5), dtype)
    assert sample.sum(-1).tolist() == [[1.0] * 3] * 2


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_category_that_is_ruled_out(sampler):
    logits = jnp.array([0.0, -jnp.inf, 1.0])

    def loss(logits, key):
        return jnp.array([1.0, 2.0, 4.0]) @ sampler(key, logits)

    keys = jax.random.split(jax.random.key(0), 200)
    values, slopes = jax.vmap(jax.value_and_grad(loss), (None, 0))(logits, keys)
    assert set(values.tolist()) == {1.0, 4.0}
    assert jnp.isfinite(slopes).all()
    assert (slopes[:, 1] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_forward_mode_agrees_with_reverse_mode(sampler):
    key, weights = jax.random.key(3), jnp.array([1.0, -2.0, 0.5, 3.0])
    loss = lambda logits: (weights @ sampler(key, logits, 0.7)) ** 2  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(LOGITS)
    assert jnp.abs(gradient).max() > 0.01
    np.testing.assert_allclose(jax.jacfwd(loss)(LOGITS), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gumbel_has_the_slope_of_the_relaxed_sample():
    key, weights = jax.random.key(3), jnp.array([1.0, -2.0, 0.5, 3.0])

    def relaxed(logits, temperature):
        noise = jax.random.gumbel(key, logits.shape)
        return weights @ jax.nn.softmax((logits + noise) / temperature)

    def hard(logits, temperature):
        return weights @ autodiff.gumbel_straight_through(key, logits, temperature)

    expected = jax.grad(relaxed, argnums=(0, 1))(LOGITS, 0.7)
    found = jax.jit(jax.grad(hard, argnums=(0, 1)))(LOGITS, 0.7)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


# -------------------------------------------------------------------------- ReinMax


def quadratic(size):
    matrix, vector = normal(5, size, size), normal(6, size)
    return lambda d: 0.5 * d @ matrix @ d + vector @ d + 1.7


def keys_by_category(logits):
    """For each category a key that draws it: the sampler is enumerated, not trusted."""
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.jit(jax.vmap(lambda key: autodiff.reinmax(key, logits, 1.0)))(keys)
    first = {int(i): at for at, i in reversed(list(enumerate(drawn.argmax(-1))))}
    return keys[jnp.array([first[i] for i in range(len(logits))])]


def relative_bias(sampler, fun, logits):
    """Of the mean gradient, over the categories, against the exact gradient."""

    @jax.jit
    def bias(logits, keys):
        slope = jax.grad(lambda logits, key: fun(sampler(key, logits)))
        probabilities = jax.nn.softmax(logits)
        found = probabilities @ jax.vmap(slope, (None, 0))(logits, keys)
        values = jax.vmap(fun)(jnp.eye(len(logits)))
        exact = softmax_jacobian(probabilities) @ values
        return jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact)

    return float(bias(logits, keys_by_category(logits)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4, 7])
def test_reinmax_is_exactly_unbiased_for_quadratics(size):
    sampler = functools.partial(autodiff.reinmax, temperature=1.0)
    assert relative_bias(sampler, quadratic(size), 0.7 * normal(size, size)) < 1e-5


@pytest.mark.slow
def test_in_float64_the_bias_is_rounding():
    with jax.enable_x64(True):
        logits = LOGITS.astype(jnp.float64)
        sampler = functools.partial(autodiff.reinmax, temperature=1.0)
        assert relative_bias(sampler, quadratic(4), logits) < 1e-14


@pytest.mark.slow
def test_a_bias_that_the_enumeration_sees():
    """A cubic, another temperature and the plain estimator are biased."""

    def plain(key, logits):
        sample = autodiff.reinmax(key, logits)
        soft = jax.nn.softmax(logits)
        return soft + jax.lax.stop_gradient(sample - soft)

    cubic = lambda d: jnp.sum(normal(7, 4) * (d + normal(8, 4)) ** 3)  # noqa: E731
    warm = functools.partial(autodiff.reinmax, temperature=2.0)
    assert relative_bias(autodiff.reinmax, cubic, LOGITS) > 1e-2
    assert relative_bias(plain, quadratic(4), LOGITS) > 1e-2
    assert relative_bias(warm, quadratic(4), LOGITS) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_slope_of_reinmax_by_its_formula(temperature):
    key, weights = jax.random.key(3), jnp.array([1.0, -2.0, 0.5, 3.0])
    sample = autodiff.reinmax(key, LOGITS, temperature)
    mean = (sample + jax.nn.softmax(LOGITS / temperature)) / 2
    expected = 2 * softmax_jacobian(mean) - softmax_jacobian(jax.nn.softmax(LOGITS)) / 2
    found = jax.grad(lambda x: weights @ autodiff.reinmax(key, x, temperature))(LOGITS)
    np.testing.assert_allclose(found, weights @ expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------- refusals


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("logits", "temperature", "message"),
    [
        (jnp.arange(3), 1.0, "logits: expected a floating dtype, got int32"),
        (1.0, 1.0, "logits: expected [..., categories], got a scalar"),
        (LOGITS, 0.0, "temperature=0.0: expected a number > 0"),
        (LOGITS, -1, "temperature=-1: expected a number > 0"),
        (LOGITS, jnp.ones(2), "temperature: expected a scalar, got the shape (2,)"),
        (LOGITS, None, "temperature: expected a real number, got NoneType"),
    ],
)
def test_refusals_of_samplers(sampler, logits, temperature, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        sampler(jax.random.key(0), logits, temperature)
    assert str(caught.value) == message
