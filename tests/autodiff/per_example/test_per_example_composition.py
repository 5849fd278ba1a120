"""Under jit, vmap, scan and shard_map, and differentiated once more."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rl_grads.autodiff import per_example as pe

pytestmark = pytest.mark.slow

B = 6
LIMIT = 51.0


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def loss(p, x, y):
    """Has a layer over places, one used twice, a look-up and biases."""
    h = jnp.tanh(x @ p["w"] + p["b"])
    h = jnp.tanh(h.mean(0) @ p["v"]) @ p["v"].T + p["e"][y]
    return 0.5 * jnp.sum(jnp.square(h)) + jnp.sum(jnp.sin(x[0] @ p["w"]))


def arguments(dtype=jnp.float32):
    shapes = {"b": (9,), "e": (6, 9), "v": (9, 8), "w": (8, 9)}
    params = {name: draw(i, *s) for i, (name, s) in enumerate(shapes.items())}
    x = 0.7 * draw(4, B, 3, 8)
    y = jnp.asarray(np.random.default_rng(5).integers(0, 6, B))
    return (*jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x)), y)


def close(got, want, rtol=1e-5):
    def same(a, b):
        scale = float(jnp.max(jnp.abs(b)))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)

    jax.tree.map(same, got, want)


def clip(params, limit, x, y):
    return pe.clipped_gradient(loss, limit)(params, None, x, y)


def reference_clip(params, limit, x, y):
    each = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, y)
    square = sum(jnp.sum(jnp.square(g.reshape(len(y), -1)), 1) for g in each.values())
    norms = jnp.sqrt(square)
    factor = jnp.minimum(1, limit / norms)
    return jax.tree.map(lambda g: jnp.tensordot(factor, g, 1), each), norms


def test_the_reference_has_some_clipped_and_some_not():
    params, x, y = arguments()
    norms = jax.jit(reference_clip)(params, 5.0, x, y)[1]
    assert 1 < int(jnp.sum(norms > LIMIT)) < B - 1
    found = pe.explain(loss, params, x, y)
    assert "".join(e.way[0] for e in found) == "mfff", "\n".join(map(str, found))


# ------------------------------------------------------------------- transformations


def test_a_population():
    _, x, y = arguments()
    members = jax.tree.map(
        lambda *a: jnp.stack(a),
        *[jax.tree.map(lambda a, s=s: s * a, arguments()[0]) for s in (0.5, 1.0, -1.5)],
    )
    limits = jnp.array([1.0, LIMIT, 20.0])
    got = jax.jit(jax.vmap(clip, (0, 0, None, None)))(members, limits, x, y)
    for i in range(3):
        member = jax.tree.map(lambda a, i=i: a[i], members)
        one = jax.jit(reference_clip)(member, limits[i], x, y)
        close(jax.tree.map(lambda a, i=i: a[i], got), one)


def test_a_population_with_batches_of_its_own():
    params, x, y = arguments()
    batches = jnp.stack([x, x[::-1], -x])
    got = jax.jit(jax.vmap(partial(clip, params, LIMIT), (0, None)))(batches, y)
    for i in range(3):
        one = jax.jit(reference_clip)(params, LIMIT, batches[i], y)
        close(jax.tree.map(lambda a, i=i: a[i], got), one)


def test_descent_in_a_scan():
    params, x, y = arguments()

    def train(gradient):
        def step(params, _):
            total, norms = gradient(params, LIMIT, x, y)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, total), norms

        return jax.jit(lambda p: jax.lax.scan(step, p, None, 4))(params)

    close(train(clip), train(reference_clip), 1e-4)


@pytest.mark.parametrize("check_vma", [False, True])
def test_shards_of_a_batch(check_vma):
    params, x, y = arguments()
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(axis,))

    def shard(params, x, y):
        total, norms = clip(params, LIMIT, x, y)
        return jax.lax.psum(total, "batch"), norms

    got = jax.jit(
        jax.shard_map(
            shard,
            mesh=mesh,
            in_specs=(P(), P("batch"), P("batch")),
            out_specs=(P(), P("batch")),
            check_vma=check_vma,
        )
    )(params, x, y)
    close(got, jax.jit(reference_clip)(params, LIMIT, x, y))


@pytest.mark.parametrize("check_vma", [False, True])
def test_shards_of_a_batch_with_a_branch_in_a_loop(check_vma, quick):
    def branching(w, x):
        def step(h, x):
            stay, move = (lambda: 0.5 * h), (lambda: jnp.tanh(h @ w + x))
            return jax.lax.cond(x[0] > 0, move, stay), None

        h, _ = jax.lax.scan(jax.checkpoint(step), x[0], x)
        return h.sum() + jnp.sum(w[jnp.argmax(x[0])])

    w, x = jnp.asarray(draw(0, 8, 8), jnp.float32), arguments()[1]
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))

    @quick
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(), P("batch")),
        out_specs=(P(), P("batch")),
        check_vma=check_vma,
    )
    def program(w, x):
        total, norms = pe.gradient_with_norms(branching)(w, None, x)
        return jax.lax.psum(total, "batch"), norms

    each = quick(jax.vmap(jax.grad(branching), (None, 0)))(w, x)
    norms = jnp.linalg.norm(each.reshape(B, -1), axis=1)
    close(program(w, x), (each.sum(0), norms))


def test_shards_of_a_population():
    params, x, y = arguments()
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((2,), ("members",), axis_types=(axis,))
    members = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, -a, 2 * a]), params)
    program = jax.shard_map(
        jax.vmap(lambda p, x, y: clip(p, LIMIT, x, y), (0, None, None)),
        mesh=mesh,
        in_specs=(P("members"), P(), P()),
        out_specs=P("members"),
        check_vma=False,
    )
    got = jax.jit(program)(members, x, y)
    reference = jax.vmap(lambda p: reference_clip(p, LIMIT, x, y))
    close(got, jax.jit(reference)(members))


def test_an_array_hidden_in_the_loss_that_differs_between_devices_is_refused():
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))

    def shard(w, x, hidden):
        norms = pe.per_example_norms(lambda w, x: jnp.sum(w * x) * hidden[0])
        return norms(w, x)

    program = jax.shard_map(
        shard, mesh=mesh, in_specs=(P(), P(), P("batch")), out_specs=P("batch")
    )
    with pytest.raises(ValueError, match=r"differs along the mesh axes.*argument"):
        program(jnp.ones(3), jnp.ones((4, 3)), jnp.ones(2))


def test_what_a_loss_closes_over_may_be_transformed():
    """The closure holds values of an outer `grad`, inside of `vmap` and `jit`."""
    params, x, y = arguments()

    def norms(scale, gradient_norms):
        def scaled(params, x, y):
            return loss(params, scale * x, y)

        return jnp.sum(gradient_norms(scaled)(params, x, y))

    def reference(scaled):
        def norm(params, x, y):
            leaves = jax.tree.leaves(jax.grad(scaled)(params, x, y))
            return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in leaves))

        return jax.vmap(norm, (None, 0, 0))

    scales = jnp.array([0.5, 1.0])
    slopes = [
        jax.jit(jax.vmap(jax.grad(partial(norms, gradient_norms=way))))(scales)
        for way in (pe.per_example_norms, reference)
    ]
    close(*slopes, 1e-4)


# ------------------------------------------------------------------ second derivatives


def summary(params, limit, x, y):
    """A number that depends on every entry of the result."""
    total, norms = clip(params, limit, x, y)
    parts = [jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(total)]
    return sum(parts) + jnp.sum(jnp.cos(norms))


def differences(function, value, direction, step=1e-6):
    forth = function(jax.tree.map(lambda v, d: v + step * d, value, direction))
    back = function(jax.tree.map(lambda v, d: v - step * d, value, direction))
    return (forth - back) / (2 * step)


@pytest.mark.parametrize("name", ["params", "limit", "x"])
def test_outer_derivatives_by_finite_differences(name, quick):
    with jax.enable_x64(True):
        params, x, y = arguments(jnp.float64)
        given = {"params": params, "limit": jnp.float64(LIMIT), "x": x}

        def outer(value):
            return summary(**{**given, name: value}, y=y)

        @quick
        def derivatives(value, direction):
            slope = jax.grad(outer)(value)
            products = jax.tree.map(jnp.vdot, slope, direction)
            forward = jax.jvp(outer, (value,), (direction,))[1]
            return sum(jax.tree.leaves(products)), forward

        direction = jax.tree.map(lambda a: jnp.cos(3 * a), given[name])
        want = differences(quick(outer), given[name], direction)
        assert abs(want) > 1e-3
        np.testing.assert_allclose(derivatives(given[name], direction), want, rtol=1e-6)


def test_a_meta_gradient_through_clipped_updates(quick):
    """Three inner updates; the outer derivative is in the threshold and the rate."""
    with jax.enable_x64(True):
        params, x, y = arguments(jnp.float64)

        def outer(eta):
            def step(params, _):
                total, _ = clip(params, eta["limit"], x, y)
                return jax.tree.map(lambda p, g: p - eta["rate"] * g, params, total), ()

            end, _ = jax.lax.scan(step, params, None, 3)
            return jnp.mean(jax.vmap(loss, (None, 0, 0))(end, x, y))

        eta = {"limit": jnp.float64(LIMIT), "rate": jnp.float64(0.001)}
        slope, value = quick(jax.grad(outer))(eta), quick(outer)
        for name in eta:
            unit = {n: jnp.float64(n == name) for n in eta}
            want = differences(value, eta, unit)
            np.testing.assert_allclose(slope[name], want, rtol=1e-5)
            assert abs(want) > 1e-4


def test_weights_of_zero_have_a_derivative():
    """d sum_i w_i g_i / d w_i = g_i, also where w_i = 0."""
    params, x, y = arguments()
    weights = jnp.zeros(B).at[0].set(1.0)

    def component(weights):
        total, _ = pe.gradient_with_norms(loss)(params, weights, x, y)
        return total["w"][0, 0]

    slope = jax.jit(jax.grad(component))(weights)
    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(params, x, y)
    close(slope, each["w"][:, 0, 0])


def test_norms_are_differentiable_where_two_uses_cancel():
    """The same record twice with opposite derivatives: the gradient is zero."""

    def cancel(w, x):
        return jnp.sum(x @ w) - jnp.sum(x @ w)

    def total(w):
        return jnp.sum(pe.per_example_norms(cancel)(w, jnp.ones((2, 3))))

    value, slope = jax.value_and_grad(total)(jnp.ones((3, 2)))
    assert float(value) == 0.0
    assert jnp.all(jnp.isfinite(slope))
