"""Dense layers, look-ups and shared weights give what `vmap(grad)` gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

B = 5  # Examples in a batch.
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


# ----------------------------------------------------------------------- dense layers


@case
def dense(m):
    def loss(p, x, y):
        return jnp.sum(jnp.square(jnp.tanh(x @ p["w"]) @ p["v"].T - y))

    params = {"v": m.draw(0, 3, 6), "w": m.draw(1, 4, 6)}
    return (loss, params, (m.draw(2, B, 4), m.draw(3, B, 3)), "ff")


@case
def dense_from_the_left(m):
    def loss(p, x):
        return jnp.sum(jnp.tanh(p["w"] @ x + p["b"]))

    params = {"b": m.draw(0, 6), "w": m.draw(1, 6, 4)}
    return (loss, params, (m.draw(2, B, 4),), "mf")


@case
def dense_on_three_axes(m):
    return m.flax(
        nn.Sequential([nn.Dense(9), nn.tanh, nn.Dense(40)]), m.draw(2, B, 7, 8), "mamf"
    )


@case
def dense_on_many_places(m):
    return m.flax(nn.Dense(30, use_bias=False), m.draw(2, B, 3, 20), "f")


@case
def dense_on_four_axes(m):
    net = nn.Sequential([nn.Dense(30), nn.tanh, nn.Dense(20)])
    return m.flax(net, m.draw(2, B, 2, 3, 25), "mfmf")


@case
def dense_over_two_axes(m):
    module = nn.DenseGeneral((3, 4), axis=(-2, -1), use_bias=False)
    return m.flax(module, m.draw(2, B, 5, 6), "f")


@case
def one_weight_matrix_per_head(m):
    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.einsum("thk,hkn->htn", x, w)))

    return (loss, m.draw(1, 3, 12, 10), (m.draw(2, B, 2, 3, 12),), "f")


@case
def matrix_moved_before_its_use(m):
    def loss(w, x):
        moved = jnp.transpose(w, (1, 0, 2)).reshape(7, 12)[None, :, None]
        half = moved.astype(jnp.float32).squeeze(2)
        return jnp.sum(jnp.tanh(x @ half[0]))

    return (loss, m.draw(1, 3, 7, 4), (m.draw(2, B, 7),), "f")


@case
def matrix_repeated_before_its_use(m):
    def loss(w, x):
        return jnp.sum(
            jnp.tanh(jnp.einsum("hk,hkn->hn", x, jnp.broadcast_to(w, (3, 9, 8))))
        )

    return (loss, m.draw(1, 9, 8), (m.draw(2, B, 3, 9),), "f")


@case
def columns_repeated_before_their_use(m):
    def loss(w, x):
        wide = jnp.broadcast_to(w[:, :, None], (6, 5, 4))
        deep = jnp.broadcast_to(w[None], (3, 6, 5))
        out = jnp.tensordot(x, wide, 1) * jnp.arange(4)
        return jnp.sum(jnp.tanh(out)) + jnp.sum(
            jnp.tanh(jnp.tensordot(jnp.outer(x[:3], x), deep, 2))
        )

    return (loss, m.draw(1, 6, 5), (m.draw(2, B, 6),), "f")


# --------------------------------------------------------------------- shared weights


@case
def used_twice(m):
    def loss(w, x, y):
        return jnp.sum(jnp.tanh(x @ w)) - 0.9 * jnp.sum(jnp.tanh(y @ w))

    return (loss, m.draw(0, 8, 9), (m.draw(1, B, 8), m.draw(1, B, 8) + 0.01), "f")


@case
def used_six_times(m):
    def loss(w, x):
        for _ in range(6):
            x = jnp.tanh(x @ w)
        return jnp.sum(x)

    return (loss, m.draw(0, 20, 20), (m.draw(1, B, 20),), "f")


@case
def used_as_itself_and_transposed(m):
    def loss(w, x):
        return jnp.sum(jnp.square(jnp.tanh(x @ w) @ w.T))

    return (loss, m.draw(0, 8, 9), (m.draw(1, B, 8),), "f")


@case
def used_in_two_shapes(m):
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w)) + jnp.sum(jnp.tanh(x[:2] @ w.reshape(2, -1)))

    return (loss, m.draw(0, 6, 4), (m.draw(1, B, 6),), "a")


@case
def two_heads(m):
    def loss(p, x):
        h = jnp.tanh(x @ p["body"])
        return jnp.sum(jnp.square(h @ p["one"])) + jnp.max(h @ p["two"])

    params = {"body": m.draw(0, 4, 8), "one": m.draw(1, 8, 2), "two": m.draw(2, 8, 3)}
    return (loss, params, (m.draw(3, B, 4),), "fff")


# -------------------------------------------------------------- normalisation, look-ups


@case
def layer_norm(m):
    net = nn.Sequential([nn.Dense(12), nn.LayerNorm(), nn.tanh, nn.Dense(9)])
    return m.flax(net, m.draw(0, B, 6), "mfmmmf")


@case
def embedding(m):
    index = m.integers(0, 4, B, 6)
    net = nn.Sequential([nn.Embed(50, 7), nn.tanh])
    return m.flax(net, index, "f")


@case
def embedding_out_of_bounds(m):
    def loss(w, i):
        rows = w.at[i].get(mode="fill", fill_value=0.5)
        return jnp.sum(jnp.sin(rows)) + jnp.sum(jnp.cos(w.at[i].get(mode="clip")))

    index = jnp.array([[0, 9], [3, 3], [-1, -9], [11, 2], [9, 9]])
    return (loss, m.draw(0, 9, 4), (index,), "f")


@case
def embedding_out_of_promised_bounds(m):
    """Read at the nearest row, but without a derivative there, as `jax.grad` has it."""

    def loss(w, i):
        return jnp.sum(jnp.sin(w.at[i].get(mode="promise_in_bounds")))

    index = jnp.array([[0, 9], [3, 3], [-1, -9], [11, 2], [-10, 12]])
    return (loss, m.draw(0, 9, 4), (index,), "f")


@case
def tied_embedding(m):
    def loss(w, i):
        h = jnp.tanh(w[i]).mean(0)
        return jax.nn.logsumexp(h @ w.T) + jnp.sum(w[i[0]] * h)

    return (loss, m.draw(0, 30, 7), (m.integers(1, 4, B, 4),), "f")


@case
def table_of_states_and_actions(m):
    def loss(q, s, a, r):
        return 0.5 * jnp.square(r - q[s, a]) + jnp.sum(q[s])

    state, action = jnp.array([0, 3, 3, 2, 1]), jnp.array([1, 0, 1, 1, 0])
    return (loss, m.draw(0, 4, 2), (state, action, m.draw(1, B)), "a")


@case
def table_of_one_row(m):
    def loss(v, s, r):
        return 0.5 * jnp.square(r - v[s])

    return (loss, m.draw(0, 9), (jnp.array([0, 3, 8, 2, 1]), m.draw(1, B)), "f")


@case
def looked_up_by_column(m):
    def loss(w, i):
        return jnp.sum(jnp.sin(w[:, i])) + jnp.sum(jnp.sin(w[1, :, i[0]])) ** 2

    return (loss, m.draw(0, 3, 5, 8), (jnp.arange(2 * B).reshape(B, 2) % 5,), "a")


@pytest.mark.parametrize("name", CASES)
def test_exact(name, make, check_case):
    check_case(*CASES[name](make))
