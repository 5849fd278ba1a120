"""A view knows where every entry of a rearranged parameter came from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_grads.autodiff.per_example import views


def places(view):
    """The position in the flat parameter of each entry of a view, from its strides."""
    out = np.zeros(view.shape, int)
    for axis, (labels, size) in enumerate(zip(view.axes, view.shape, strict=True)):
        sizes = [a.size for a in labels]
        assert not labels or np.prod(sizes) == size
        steps = np.zeros(size, int)
        for i, digits in enumerate(itertools.product(*map(range, sizes))):
            steps[i] = sum(d * a.stride for d, a in zip(digits, labels, strict=True))
        out += steps.reshape([-1 if a == axis else 1 for a in range(len(view.shape))])
    return out


def follow(function, shape):
    """The view after a function, and where entries really came from."""
    flat = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.float32).reshape(shape)
    jaxpr = jax.make_jaxpr(function)(flat)
    view = views.whole(0, shape)
    for eqn in jaxpr.eqns:
        view = views.moved(eqn, view)
        if view is None:
            return None, None
    return view, np.asarray(function(flat), int)


@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((2, 3), lambda w: w.T),
        ((2, 3), lambda w: w.reshape(-1)),
        ((12,), lambda w: w.reshape(2, 3, 2)),
        ((2, 3, 4), lambda w: jnp.transpose(w, (2, 0, 1)).reshape(4, 6)),
        ((2, 3, 4), lambda w: jnp.transpose(w, (1, 0, 2)).reshape(3, 2, 2, 2)),
        ((4, 6), lambda w: w.T.reshape(3, 2, 4).transpose(2, 1, 0)),
        ((2, 1, 3), lambda w: w[:, 0]),
        ((3,), lambda w: jnp.broadcast_to(w[:, None], (3, 4))),
        ((1, 3), lambda w: jnp.broadcast_to(w, (5, 3)).T),
        ((), lambda w: jnp.broadcast_to(w, (2, 2))),
        ((1,), lambda w: w.reshape(())),
    ],
)
def test_moves(shape, function):
    view, wanted = follow(function, shape)
    assert view is not None
    np.testing.assert_array_equal(places(view), wanted)


@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((2, 3), lambda w: w.T.reshape(2, 3)),  # Cuts an axis of 3 in two.
        ((4,), lambda w: jnp.broadcast_to(w, (2, 4)).reshape(8)),
        ((4,), lambda w: w[::-1]),
        ((4,), lambda w: w * 2),
        ((4, 2), lambda w: w[:2]),
    ],
)
def test_other_operations_are_not_moves(shape, function):
    assert follow(function, shape) == (None, None)


def test_a_round_trip_gives_the_whole_parameter_back():
    view, _ = follow(lambda w: w.reshape(2, 3, 2).reshape(4, 3).T.T, (4, 3))
    assert view == views.whole(0, (4, 3))


@given(data=st.data())
def test_any_chain_of_moves(data):
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=3)))
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    view = views.whole(0, shape)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(array.ndim)))
            array, view = array.transpose(order), view.pick(order)
        else:
            new = data.draw(st.sampled_from(factorisations(array.size)))
            moved = view.reshape(new)
            if moved is None:
                continue
            array, view = array.reshape(new), moved
    assert view.shape == array.shape
    np.testing.assert_array_equal(places(view), array)


def factorisations(size):
    """Some shapes of that size."""
    shapes = [(size,), (1, size), (size, 1)]
    for a in range(2, size + 1):
        if size % a == 0:
            shapes += [(a, size // a), (size // a, 1, a)]
            b = size // a
            shapes += [(a, c, b // c) for c in range(2, b) if b % c == 0]
    return shapes
