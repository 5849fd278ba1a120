"""Loops, branches, calls and stopped gradients give what `vmap(grad)` gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

B = 5  # Examples in a batch.
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


# ----------------------------------------------------------------------------- control


@case
def attention(m):
    return m.flax(
        nn.MultiHeadDotProductAttention(num_heads=2), m.draw(0, B, 5, 12), "mfmfmfmf"
    )


@case
def recurrent_cell_in_scan(m):
    return m.flax(nn.RNN(nn.GRUCell(9)), m.draw(0, B, 4, 8), "mfffmfmfmf")


@case
def cell_in_scan(m):
    def loss(p, xs):
        def step(h, x):
            h = jnp.tanh(p["w"] @ h + x @ p["u"] + p["b"])
            return h, h @ p["v"]

        h, ys = jax.lax.scan(step, jnp.zeros(9), xs, reverse=True)
        return jnp.sum(ys**2) + h.sum()

    params = {
        "b": m.draw(0, 9),
        "u": m.draw(1, 8, 9),
        "v": m.draw(2, 9, 8),
        "w": m.draw(3, 9, 9),
    }
    return (loss, params, (m.draw(4, B, 3, 8),), "mfff")


@case
def scan_over_layers(m):
    def loss(ws, x):
        return jnp.sum(jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, ws)[0])

    return (loss, m.draw(0, 3, 8, 8), (m.draw(1, B, 8),), "f")


@case
def scan_over_layers_at_many_places(m):
    def loss(ws, x):
        def layer(h, w):
            return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), h, None, 2)

        return jnp.sum(jax.lax.scan(layer, x, ws)[0])

    return (loss, m.draw(0, 3, 8, 8), (m.draw(1, B, 3, 8),), "a")


@case
def parameter_that_rides_in_a_carry(m):
    def loss(w, xs):
        def step(carry, x):
            w, h = carry
            return (w, jnp.tanh(h @ w + x)), None

        return jnp.sum(jax.lax.scan(step, (w, jnp.ones(8)), xs)[0][1])

    return (loss, m.draw(0, 8, 8), (m.draw(1, B, 2, 8),), "f")


@case
def parameter_that_changes_in_a_carry(m):
    def loss(w, xs):
        def step(carry, x):
            w, h = carry
            return (w * 0.9, jnp.tanh(h @ w + x)), None

        return jnp.sum(jax.lax.scan(step, (w, jnp.ones(8)), xs)[0][1])

    return (loss, m.draw(0, 8, 8), (m.draw(1, B, 2, 8),), "m")


@case
def used_in_and_out_of_a_loop(m):
    def loss(w, xs):
        h = jnp.tanh(xs[0] @ w)
        h, _ = jax.lax.scan(lambda h, x: (jnp.tanh(h @ w + x), None), h, xs)
        return jnp.sum(h @ w)

    return (loss, m.draw(0, 12, 12), (m.draw(1, B, 3, 12),), "f")


@case
def named_for_a_checkpoint(m):
    def loss(w, x):
        named = checkpoint_name(w, "w")
        return jnp.sum(jnp.tanh(x @ named))

    return (loss, m.draw(0, 7, 6), (m.draw(1, B, 7),), "f")


@case
def fori_loop(m):
    def loss(w, x):
        return jnp.sum(jax.lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ w), x))

    return (loss, m.draw(0, 8, 8), (m.draw(1, B, 8),), "f")


@case
def cond_with_sites_in_both_branches(m):
    def loss(p, x):
        def yes(x):
            return jnp.sum(jnp.tanh(x @ p["w"]) @ p["v"])

        return jax.lax.cond(x[0] > 0, yes, lambda x: jnp.sum(jnp.sin(x @ p["w"])), x)

    params = {"v": m.draw(0, 7, 8), "w": m.draw(1, 6, 7)}
    return (loss, params, (m.draw(2, B, 6),), "ff")


@case
def switch_with_a_loop_inside(m):
    def loss(w, i, x):
        def loop(x):
            return jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ w), x)

        branches = [lambda x: x, loop, lambda x: jnp.sin(w @ x)]
        return jnp.sum(jax.lax.switch(i, branches, x))

    return (loss, m.draw(0, 8, 8), (jnp.array([0, 1, 2, 2, 1]), m.draw(1, B, 8)), "f")


@case
def nested_jit(m):
    @jax.jit
    def layer(w, x):
        return jax.jit(jnp.tanh)(x @ w.T)

    def loss(w, x):
        return jnp.sum(jax.jit(lambda w, x: layer(w, x) @ w)(w, x))

    return (loss, m.draw(0, 7, 8), (m.draw(1, B, 8),), "f")


@case
def remat(m):
    def loss(p, x):
        layer = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))
        policy = jax.checkpoint_policies.dots_saveable
        return jnp.sum(jax.checkpoint(layer, policy=policy)(p[1], layer(p[0], x)))

    return (loss, [m.draw(0, 7, 8), m.draw(1, 8, 9)], (m.draw(2, B, 7),), "ff")


@case
def remat_in_scan(m):
    def loss(w, xs):
        step = jax.checkpoint(lambda h, x: (jnp.tanh(h @ w + x), None))
        return jnp.sum(jax.lax.scan(step, jnp.zeros(8), xs)[0])

    return (loss, m.draw(0, 8, 8), (m.draw(1, B, 3, 8),), "f")


@jax.custom_vjp
def halved(x):
    """The identity with half its gradient."""
    return x


halved.defvjp(lambda x: (x, None), lambda _, g: (g / 2,))


@jax.custom_vjp
def odd_product(w, x):
    """A product with a derivative rule that no other reading gives."""
    return x @ w


odd_product.defvjp(
    lambda w, x: (x @ w, (w, x)), lambda r, g: (3 * jnp.outer(r[1], g), r[0] @ g)
)


@case
def custom_rules_between_layers(m):
    def loss(p, x):
        h = halved(jax.nn.relu(x @ p[0]))
        return jnp.sum(jax.nn.gelu(h @ p[1])) + jnp.sum(jax.nn.softplus(halved(h)))

    return (loss, [m.draw(0, 7, 8), m.draw(1, 8, 9)], (m.draw(2, B, 7),), "ff")


@case
def custom_rule_of_a_parameter(m):
    def loss(p, x):
        return jnp.sum(jnp.tanh(odd_product(p[0], x)) @ halved(p[1]))

    return (loss, [m.draw(0, 7, 8), m.draw(1, 8, 9)], (m.draw(2, B, 7),), "mm")


@case
def custom_jvp_of_a_parameter(m):
    @jax.custom_jvp
    def rule(w, x):
        return x @ w

    @rule.defjvp
    def _(primals, tangents):
        (w, x), (dw, dx) = primals, tangents
        return x @ w, 2 * (x @ dw) + dx @ w

    def loss(w, x):
        return jnp.sum(jnp.tanh(rule(w, x)))

    return (loss, m.draw(0, 7, 8), (m.draw(2, B, 7),), "m")


# ------------------------------------------------------------------ what does not count


@case
def stopped_branch(m):
    def loss(p, x):
        target = jax.lax.stop_gradient(jnp.tanh(x @ jnp.exp(p["w"])) @ p["v"])
        return jnp.sum(jnp.square(jnp.tanh(x @ p["w"]) @ p["v"] - target))

    params = {"v": m.draw(0, 7, 8), "w": m.draw(1, 6, 7)}
    return (loss, params, (m.draw(2, B, 6),), "ff")


@case
def stopped_parameter_and_one_never_used(m):
    def loss(p, x):
        stopped = jax.lax.stop_gradient(p["stopped"])
        return jnp.sum(x @ stopped @ p["used"]) + 0 * jnp.argmax(p["argmax"])

    params = {
        n: m.draw(i, 6, 6) for i, n in enumerate(("argmax", "never", "stopped", "used"))
    }
    return (loss, params, (m.draw(5, B, 6),), "uuuf")


@case
def elementwise_use(m):
    def loss(p, x):
        h = x @ p["w"] / jnp.linalg.norm(p["w"])
        return jnp.sum(h * p["scale"]) + 0.1 * jnp.sum(p["w"] ** 2) + p["shift"]

    params = {"scale": m.draw(0, 7), "shift": jnp.ones(()), "w": m.draw(1, 6, 7)}
    return (loss, params, (m.draw(2, B, 6),), "mmm")


@case
def the_loss_itself(m):
    return (lambda w, x: w, jnp.ones(()), (m.draw(0, B),), "m")


@case
def complex_numbers_inside(m):
    def loss(w, x):
        return jnp.sum(jnp.abs(jnp.fft.fft(x) @ w))

    return (loss, m.draw(0, 6, 4), (m.draw(1, B, 6),), "m")


@case
def product_of_parameters(m):
    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ (p["a"] @ p["b"])))

    params = {"a": m.draw(0, 7, 2), "b": m.draw(1, 2, 6)}
    return (loss, params, (m.draw(2, B, 7),), "mm")


@case
def vector_times_matrix_of_parameters(m):
    def loss(p, x):
        return jnp.sum(jnp.tanh(x * (p["v"] @ p["w"])))

    params = {"v": m.draw(0, 7), "w": m.draw(1, 7, 6)}
    return (loss, params, (m.draw(2, B, 6),), "mm")


@case
def fast_weights(m):
    def loss(w, x, gate):
        return jnp.sum(jnp.tanh(x @ (w * gate)))

    return (loss, m.draw(0, 7, 6), (m.draw(1, B, 7), m.draw(2, B, 7, 6)), "m")


@case
def no_parameters_at_all(m):
    return (
        lambda p, x: jnp.sum(x),
        {"empty": jnp.ones((0, 3))},
        (m.draw(0, B, 2),),
        "u",
    )


@case
def matrix_times_a_constant(m):
    def loss(w, x):
        return jnp.sum(jnp.tanh(w @ jnp.arange(7.0)) * x)

    return (loss, m.draw(0, 6, 7), (m.draw(1, B, 6),), "f")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_exact(name, make, check_case):
    check_case(*CASES[name](make))
