"""The functions by hand: sums, norms, arguments, and what they refuse."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.autodiff import per_example as pe


def loss(w, x):
    """Gradient `(w @ x) * x`."""
    return 0.5 * jnp.square(w @ x)


W = jnp.array([3.0, 1.0])
X = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
# Gradients (3, 0), (0, 4), (4, 4); norms 3, 4, 4 sqrt(2).
NORMS = [3.0, 4.0, 4 * math.sqrt(2)]


# ------------------------------------------------------------------------------- sums


def test_weights_scale_examples_and_not_their_norms():
    weights = jnp.array([2.0, 0.0, -0.5])
    total, norms = jax.jit(pe.gradient_with_norms(loss))(W, weights, X)
    np.testing.assert_allclose(total, [4.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(norms, NORMS, rtol=1e-6)


@pytest.mark.slow
def test_no_weights_are_ones():
    total, _ = pe.gradient_with_norms(loss)(W, None, X)
    np.testing.assert_allclose(total, [7.0, 8.0], rtol=1e-6)


def test_a_clip_comes_before_the_weight():
    weights = jnp.array([1.0, 2.0, 1.0])
    total, norms = jax.jit(pe.clipped_gradient(loss, 3.5))(W, weights, X)
    corner = 3.5 / math.sqrt(2)
    np.testing.assert_allclose(total, [3 + corner, 7 + corner], rtol=1e-6)
    np.testing.assert_allclose(norms, NORMS, rtol=1e-6)


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.0, [0.0, 0.0]), (math.inf, [7.0, 8.0])]
)
def test_clips_at_the_edges(limit, expected):
    total, _ = pe.clipped_gradient(loss, limit)(W, None, X)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_the_weights_may_depend_on_the_norms():
    def weigh(norms):
        return {"unit": 1 / norms, "plain": None}

    sums, _ = pe.reweighted_gradients(loss, weigh)(W, X)
    corner = 1 / math.sqrt(2)
    np.testing.assert_allclose(sums["unit"], [1 + corner, 1 + corner], rtol=1e-6)
    np.testing.assert_allclose(sums["plain"], [7.0, 8.0], rtol=1e-6)


@pytest.mark.slow
def test_zero_gradients_have_norm_zero_and_derivative_zero():
    zeros = jnp.zeros((3, 2))
    assert pe.per_example_norms(loss)(W, zeros).tolist() == [0.0, 0.0, 0.0]
    slope = jax.grad(lambda x: pe.clipped_gradient(loss, 1.0)(W, None, x)[0].sum())
    assert jnp.all(jnp.isfinite(slope(zeros)))


# -------------------------------------------------------------------------- arguments


def test_axes_are_those_of_vmap():
    def three(w, scale, pair):
        return 0.5 * jnp.square(w @ pair["x"]) * scale * pair["r"]

    pair = {"x": X.T, "r": jnp.array([1.0, 2.0, 3.0])}
    axes = (None, None, {"x": 1, "r": 0})
    got = pe.per_example_gradients(three, in_axes=axes)(W, 0.5, pair)
    want = jax.vmap(jax.grad(three), in_axes=axes)(W, 0.5, pair)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got[1].tolist() == [0.0, 4.0]
    last = pe.per_example_norms(loss, in_axes=(None, -1))(W, X.T)
    np.testing.assert_allclose(last, NORMS, rtol=1e-6)


def test_each_example_may_have_parameters_of_its_own():
    own = jnp.stack([W, 2 * W, -W])
    got = pe.per_example_norms(loss, in_axes=0)(own, X)
    np.testing.assert_allclose(got, [3.0, 8.0, 4 * math.sqrt(2)], rtol=1e-6)
    total, _ = pe.gradient_with_norms(loss, in_axes=(0, 0))(own, None, X)
    np.testing.assert_allclose(total, [-1.0, 4.0], rtol=1e-6)


def test_aux_is_that_of_grad():
    def with_aux(w, x):
        return loss(w, x), {"value": w @ x, "index": jnp.argmax(x)}

    for function in (pe.per_example_gradients, pe.per_example_norms):
        _, aux = function(with_aux, has_aux=True)(W, X)
        assert aux["value"].tolist() == [3.0, 2.0, 4.0]
        assert aux["index"].tolist() == [0, 1, 0]
    (total, norms), aux = pe.gradient_with_norms(with_aux, has_aux=True)(W, None, X)
    assert total.tolist() == [7.0, 8.0]
    assert norms.shape == (3,)
    assert aux["value"].tolist() == [3.0, 2.0, 4.0]
    (total, _), aux = pe.clipped_gradient(with_aux, math.inf, has_aux=True)(W, None, X)
    assert total.tolist() == [7.0, 8.0]
    found = pe.gradient_statistics(with_aux, has_aux=True)(W, None, X)
    assert found.aux["value"].tolist() == [3.0, 2.0, 4.0]


def test_what_a_loss_reports_of_its_parameters_costs_nothing():
    def with_aux(w, x):
        return jnp.sum(jnp.tanh(w @ x)), jnp.linalg.norm(w)

    w = jnp.ones((4, 2))
    (found,) = pe.explain(with_aux, w, X, has_aux=True)
    assert found.way == "factors"
    _, aux = pe.per_example_norms(with_aux, has_aux=True)(w, X)
    np.testing.assert_allclose(aux, 3 * [math.sqrt(8)], rtol=1e-6)


class Pair(NamedTuple):
    x: jax.Array
    nothing: None = None


def test_other_arguments_may_be_anything():
    def odd(w, pair, kind, scale, flag):
        assert kind == "square" and pair.nothing is None
        return 0.5 * scale * jnp.square(w @ pair.x) if flag else jnp.sum(w)

    axes = (None, 0, None, None, None)
    got = pe.per_example_norms(odd, axes)(W, Pair(X), "square", 2, True)
    np.testing.assert_allclose(got, 2 * np.array(NORMS), rtol=1e-6)


def test_arrays_of_numpy_and_numbers_as_parameters():
    def line(p, x):
        return 0.5 * jnp.square(p["a"] * x + p["b"])

    x = np.array([1.0, 2.0], np.float32)
    got = pe.per_example_gradients(line)({"a": 2.0, "b": np.float32(1.0)}, x)
    assert got["a"].tolist() == [3.0, 10.0]
    assert got["b"].tolist() == [3.0, 5.0]


def test_keys_are_arguments_like_others():
    def noisy(w, key):
        return jnp.sum(w * jax.random.normal(key, (2,)))

    keys = jax.random.split(jax.random.key(0), 3)
    got = pe.per_example_gradients(noisy)(W, keys)
    want = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.slow
def test_half_precision_is_accumulated_in_single():
    def half(w, x):
        return jnp.sum(jnp.tanh(x @ w))

    w = jnp.asarray(np.random.default_rng(0).normal(size=(40, 30)), jnp.bfloat16)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 40)), jnp.bfloat16)
    total, norms = pe.gradient_with_norms(half)(w, None, x)
    assert total.dtype == jnp.bfloat16
    assert norms.dtype == jnp.float32
    each = jax.vmap(jax.grad(half), (None, 0))(w.astype(float), x.astype(float))
    want = jnp.linalg.norm(each.reshape(4, -1), axis=1)
    np.testing.assert_allclose(norms, want, rtol=0.02)


@pytest.mark.slow
def test_one_example():
    total, norms = pe.gradient_with_norms(loss)(W, None, X[:1])
    assert total.tolist() == [3.0, 0.0]
    assert norms.tolist() == [3.0]


# ------------------------------------------------------------------ what is not finite


def net(p, x):
    return jnp.sum(jnp.square(jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]))


PARAMS = {"b": jnp.ones(4), "v": jnp.full((4, 2), 0.5), "w": jnp.full((3, 4), 0.1)}
GOOD = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [2.0, 2.0, -1.0]])
BAD = jnp.array([[jnp.nan, 1.0, 1.0], [jnp.inf, 0.0, 0.0], [1e30, -1e30, 1.0]])


@pytest.mark.slow
@pytest.mark.parametrize("bad", range(2))
def test_an_example_that_is_not_finite_is_left_out_and_shows_it(bad):
    x = jnp.concatenate([GOOD, BAD[bad][None]])
    weights = jnp.array([1.0, 2.0, 0.5, 3.0])
    for function in (pe.gradient_with_norms(net), pe.clipped_gradient(net, 0.7)):
        total, norms = jax.jit(function)(PARAMS, weights, x)
        want, own = function(PARAMS, weights[:3], GOOD)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), total, want
        )
        np.testing.assert_allclose(norms[:3], own, rtol=1e-6)
        assert not jnp.isfinite(norms[3])


def test_a_loss_that_is_not_finite_counts_even_if_its_gradient_is():
    def offset(w, x, c):
        return loss(w, x) + c

    c = jnp.array([0.0, jnp.nan, 0.0])
    total, norms = pe.gradient_with_norms(offset)(W, None, X, c)
    assert total.tolist() == [7.0, 4.0]
    assert jnp.isnan(norms).tolist() == [False, True, False]
    assert jnp.isnan(pe.per_example_norms(offset)(W, X, c)).tolist() == [0, 1, 0]


@pytest.mark.slow
def test_statistics_leave_it_out_and_count_it():
    ask = pe.gradient_statistics(
        net, layer_norms=True, cosines=True, noise_scale=True, gram=True
    )
    found = jax.jit(ask)(PARAMS, None, jnp.concatenate([BAD[:2], GOOD]))
    want = jax.jit(ask)(PARAMS, None, GOOD)
    assert int(found.num_nonfinite) == 2
    assert int(want.num_nonfinite) == 0
    np.testing.assert_allclose(found.noise_scale, want.noise_scale, rtol=1e-4)
    np.testing.assert_allclose(found.cosines[2:], want.cosines, rtol=1e-5)
    np.testing.assert_allclose(found.gram[2:, 2:], want.gram, rtol=1e-5)
    for a, b in zip(found.layer_norms.values(), want.layer_norms.values(), strict=True):
        np.testing.assert_allclose(a[2:], b, rtol=1e-5)


# ------------------------------------------------------------------------- statistics


def test_statistics_by_hand():
    ask = pe.gradient_statistics(
        loss, layer_norms=True, cosines=True, gram=True, noise_scale=True
    )
    found = jax.jit(ask)(W, jnp.array([1.0, 0.0, 0.0]), X)
    np.testing.assert_allclose(found.gradient, [3.0, 0.0], rtol=1e-6)
    gram = [[9.0, 0.0, 12.0], [0.0, 16.0, 16.0], [12.0, 16.0, 32.0]]
    np.testing.assert_allclose(found.gram, gram, rtol=1e-6)
    np.testing.assert_allclose(found.layer_norms, NORMS, rtol=1e-6)
    # The plain mean is (7, 8) / 3 whatever the weights.
    length = math.hypot(7, 8)
    cosines = [7 / length, 8 / length, 15 / length / math.sqrt(2)]
    np.testing.assert_allclose(found.cosines, cosines, rtol=1e-6)
    # tr(covariance) = (9 + 16 + 32 - 3 * 113 / 9) / 2; signal = 113 / 9 - that / 3.
    trace = (57 - 113 / 3) / 2
    np.testing.assert_allclose(
        found.noise_scale, trace / (113 / 9 - trace / 3), rtol=1e-5
    )


@pytest.mark.slow
def test_no_signal_is_an_infinite_noise_scale():
    def plain(w, x):
        return w @ x

    x = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    ask = pe.gradient_statistics(plain, noise_scale=True, cosines=True)
    found = ask(W, None, x)
    assert float(found.noise_scale) == math.inf
    assert found.cosines.tolist() == [0.0, 0.0]


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.slow
def test_what_is_not_asked_for_costs_nothing():
    p = {"w": jnp.ones((30, 40)), "v": jnp.ones((40, 2)), "b": jnp.ones(40)}
    x = jnp.ones((16, 30))
    plain = flops(pe.gradient_with_norms(net), p, None, x)
    assert flops(pe.gradient_statistics(net), p, None, x) == pytest.approx(plain, 1e-2)
    for name in ("layer_norms", "cosines", "gram", "noise_scale"):
        more = flops(pe.gradient_statistics(net, **{name: True}), p, None, x)
        assert more > plain, name
    # Layer norms are on the way to the norms: a root for each.
    layers = flops(pe.gradient_statistics(net, layer_norms=True), p, None, x)
    assert layers < 1.01 * plain
    assert flops(pe.per_example_norms(net), p, x) < 0.75 * plain
    found = pe.gradient_statistics(net)(p, None, x)
    unasked = (found.layer_norms, found.cosines, found.gram, found.noise_scale)
    assert unasked == (None,) * 4


# -------------------------------------------------------------------------- bad input


def refuse(error, match, function, *args):
    with pytest.raises(error, match=match):
        function(*args)


ALL = [
    pe.per_example_gradients,
    pe.per_example_norms,
    lambda loss, **o: lambda p, *a: pe.gradient_with_norms(loss, **o)(p, None, *a),
    lambda loss, **o: lambda p, *a: pe.clipped_gradient(loss, 1.0, **o)(p, None, *a),
    lambda loss, **o: lambda p, *a: pe.gradient_statistics(loss, **o)(p, None, *a),
    lambda loss, **o: lambda p, *a: pe.explain(loss, p, *a, **o),
]


@pytest.mark.parametrize("of", ALL)
def test_every_function_refuses_bad_arguments(of):
    refuse(TypeError, r"loss_fn.*scalar.*\[2\]", of(lambda w, x: w * x), W, X)
    refuse(TypeError, "loss_fn.*scalar.*int32", of(lambda w, x: 3), W, X)
    refuse(TypeError, "loss_fn.*has_aux", of(loss, has_aux=True), W, X)
    integers = {"a": jnp.ones(2), "n": jnp.ones(2, jnp.int32)}
    refuse(TypeError, r"params\['n'\].*floating.*int32", of(net), integers, X)
    unequal = of(lambda w, x, y: loss(w, x) + y["r"])
    names = r"unequal length: batch\[0\] has 3, batch\[1\]\['r'\] has 2"
    refuse(ValueError, names, unequal, W, X, {"r": jnp.ones(2)})
    refuse(ValueError, r"batch\[0\].*batch axis 0", of(loss), W, 1.0)
    refuse(ValueError, r"batch\[0\].*at least one example", of(loss), W, X[:0])


@pytest.mark.parametrize("of", ALL)
@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((None,), r"in_axes=\(None,\): expected 2"),
        ((None, (0, 0)), "in_axes.*prefix"),
        ((None, None), "at least one batched"),
        ((None, 2), r"batch\[0\].*batch axis 2"),
    ],
)
def test_every_function_refuses_bad_axes(of, axes, message):
    refuse(ValueError, message, of(loss, in_axes=axes), W, X)


@pytest.mark.parametrize("limit", [-1.0, -1, math.nan, -math.inf])
def test_a_clip_refuses_a_limit_that_is_none(limit):
    refuse(
        ValueError,
        f"max_norm={limit}: expected a number >= 0",
        pe.clipped_gradient,
        loss,
        limit,
    )


@pytest.mark.parametrize("weights", [jnp.ones(2), jnp.ones((3, 1)), 1.0])
def test_weights_are_one_per_example(weights):
    for function in (
        pe.gradient_with_norms(loss),
        pe.clipped_gradient(loss, 1.0),
        pe.gradient_statistics(loss),
    ):
        refuse(
            ValueError, r"weights: expected the shape \(3,\)", function, W, weights, X
        )


# ------------------------------------------------------------------------ explanations


def test_explanations_name_the_parameter_the_way_and_the_reason():
    def mixed(p, x):
        h = jnp.tanh(x @ p["dense"]) + p["bias"]
        return jnp.sum(h @ p["small"]) + 0 * jnp.argmax(p["unused"])

    params = {
        "bias": jnp.ones(5),
        "dense": jnp.ones((4, 5)),
        "small": jnp.ones((5, 2)),
        "unused": jnp.ones(3),
    }
    found = pe.explain(mixed, params, jnp.ones((7, 6, 4)))
    assert [str(e) for e in found] == [
        "params['bias'] [5]: materialised, 5 numbers per example (meets add)",
        "params['dense'] [4x5]: assembled, 20 numbers per example "
        "(dot_general at 6 places)",
        "params['small'] [5x2]: assembled, 10 numbers per example "
        "(dot_general at 6 places)",
        "params['unused'] [3]: unused, 0 numbers per example "
        "(the loss does not depend on it)",
    ]


def test_explanations_need_shapes_only():
    shapes = (
        jax.ShapeDtypeStruct((3, 4), jnp.float32),
        jax.ShapeDtypeStruct((8, 4), jnp.float32),
    )
    (found,) = pe.explain(lambda w, x: jnp.sum(jnp.tanh(w @ x)), *shapes)
    assert (found.way, found.shape, found.numbers) == ("factors", (3, 4), 7)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda w, x: jnp.sum((w * x) @ x), "meets mul"),
        (lambda w, x: jnp.sum(jax.jit(jnp.sin)(w) @ x), "meets sin"),
        (
            lambda w, x: jnp.sum((w @ w) @ x),
            "is not the only parameter in a dot_general",
        ),
        (lambda w, x: w[0, 0], "meets slice"),
        (
            lambda w, x: jnp.sum(jax.lax.cond(x[0] > 0, lambda w: w, lambda w: w.T, w)),
            "leaves a branch of cond",
        ),
        (
            lambda w, x: jnp.sum(jax.lax.scan(lambda c, _: (c, w), 0.0, None, 2)[1]),
            "leaves a scan",
        ),
        (
            lambda w, x: jnp.sum(jax.nn.relu(w) @ x),
            "enters a custom_jvp_call, which has a derivative rule of its own",
        ),
    ],
)
def test_reasons(function, reason):
    (found,) = pe.explain(function, jnp.ones((2, 2)), X)
    assert (found.way, found.reason) == ("materialised", reason)


@pytest.mark.slow
def test_large_patches_are_not_unfolded():
    def convolve(w, x):
        out = jax.lax.conv_general_dilated(
            x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(jnp.tanh(out))

    shapes = [
        jax.ShapeDtypeStruct(s, jnp.float32)
        for s in ((3, 3, 64, 64), (2, 128, 128, 64))
    ]
    (found,) = pe.explain(convolve, *shapes)
    assert found.way == "materialised"
    assert found.reason.startswith("meets a convolution")
