"""The checks behind `check_rule`, each a function of a `Subject`.

The function under test is seen as one of vectors. With the Jacobian J of `y = f(x)`,
forward mode gives `J t` and reverse mode `J' c`. Once `jit` has passed, everything is
compiled.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike

from rl_grads.autodiff.rule_subject import (
    Function,
    Leaf,
    Subject,
    entry,
    pull_back,
    size,
    vectors,
)
from rl_grads.typing import PyTree

_COPIES = 3  # Points that are stacked for vmap and scan.
_STEP = 0.015  # The fraction by which they come closer to 0.
_ROWS = 16  # Outputs whose own derivative is looked at.
_ULPS = 8  # Units in the last place that a bfloat16 result may be off.


class NotApplicableError(Exception):
    """A check makes no sense for this function; says why."""


class MismatchError(Exception):
    """Two numbers that should be equal are not; says where."""


class Found(NamedTuple):
    """What a check that holds has found.

    Attributes:
        error: The largest relative difference.
        left_out: Part of the check to the reason why it does not apply.
    """

    error: float
    left_out: Mapping[str, str] = {}


# ------------------------------------------------------------------ along one direction


@contextlib.contextmanager
def _forward_mode() -> Iterator[None]:
    """Where forward mode does not pass, the check, or its part, does not apply."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        reason = "forward mode cannot pass a custom_vjp"
        raise NotApplicableError(reason) from error


class _Slope(NamedTuple):
    """`J t`, and how far it may be off, both `[M]`."""

    value: np.ndarray
    slack: np.ndarray


def _pushed(tested: Subject, tangent: np.ndarray) -> _Slope:
    """`J t` by forward mode."""
    with _forward_mode():
        pushed = _numbers(tested.vectors.push(tested.vectors.x, tangent)[1])
    return _Slope(pushed, np.zeros_like(pushed))


def _difference(
    fun: Function, x: np.ndarray, tangent: np.ndarray, dtype: DTypeLike
) -> _Slope:
    """`J t` by central differences of two widths, extrapolated (Richardson)."""
    eps = float(jnp.finfo(dtype).eps)
    reach = max(1.0, np.max(np.abs(x[tangent != 0])))
    width = eps**0.25 * reach / np.max(np.abs(tangent))

    def central(h: float) -> np.ndarray:
        return (_numbers(fun(x + h * tangent)) - _numbers(fun(x - h * tangent))) / 2 / h

    wide, narrow = central(width), central(width / 2)
    value = (4 * narrow - wide) / 3
    rounding = 10 * eps * np.max(np.abs(_numbers(fun(x))), initial=0) / width
    return _Slope(value, rounding + 0.01 * np.abs(value - narrow))


def _differences(tested: Subject, tangent: np.ndarray) -> _Slope:
    """`J t` by central differences."""
    seen = tested.vectors
    return _difference(seen.call, seen.x, tangent, seen.dtype)


def _numbers(x: PyTree) -> np.ndarray:
    return np.asarray(x, np.float64)


def _draw(tested: Subject, *shape: int) -> np.ndarray:
    return np.random.default_rng(tested.seed).normal(size=shape)


class _Direction(NamedTuple):
    """A tangent `[N]` that moves one argument leaf."""

    tangent: np.ndarray
    leaf: Leaf


def _directions(tested: Subject) -> list[_Direction]:
    """One per leaf: 1 for a scalar, else random."""
    directions, start = [], 0
    for leaf in tested.inputs:
        stop = start + size(leaf)
        tangent = np.zeros(tested.vectors.x.size)
        tangent[start:stop] = _draw(tested, stop - start) if leaf.shape else 1.0
        directions.append(_Direction(tangent, leaf))
        start = stop
    return [direction for direction in directions if size(direction.leaf)]


# -------------------------------------------------------------------------- comparisons


class _Pair(NamedTuple):
    """Two vectors that should be equal.

    Attributes:
        names: What each of them is, in words.
        found: What the rule says.
        expected: What it is held against.
        place: Name of the entry at an index.
        slack: Absolute difference that is allowed in any case.
    """

    names: tuple[str, str]
    found: Any
    expected: Any
    place: Callable[[int], str]
    slack: Any = 0.0


def _agree(tolerance: float, pairs: list[_Pair]) -> Found:
    """Compare every pair; the largest relative difference of any."""
    return Found(max((_compare(tolerance, pair) for pair in pairs), default=0.0))


def _compare(tolerance: float, pair: _Pair) -> float:
    found, expected = _numbers(pair.found), _numbers(pair.expected)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):  # inf - inf
        apart = np.where(same, 0.0, np.abs(found - expected))
    apart = np.where(np.isnan(apart), np.inf, apart)
    scale = max(_largest(found), _largest(expected))
    excess = apart - tolerance * scale - pair.slack
    if np.any(excess > 0):
        at = int(np.argmax(excess))
        name, other = pair.names
        said = f"{name} {found[at]:.6g}, {other} {expected[at]:.6g}"
        raise MismatchError(f"{pair.place(at)}: {said}")
    return float(np.max(apart, initial=0.0) / scale) if scale else 0.0


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0))


def _precision(tested: Subject) -> float:
    """The tolerance, widened where the function itself computes in a small dtype."""
    eps = float(jnp.finfo(tested.vectors.dtype).eps)
    return max(tested.tolerance, 100 * eps**0.8)


def _gradient_place(tested: Subject) -> Callable[[int], str]:
    return lambda i: f"gradient of {entry(tested.inputs, i)}"


# ----------------------------------------------------------- what the others rest upon


def value(tested: Subject) -> Found:
    """Differentiating does not change the value."""
    fun, x = tested.vectors.fun, jnp.asarray(tested.vectors.x)
    plain = fun(x)

    def pair(primal: jax.Array) -> _Pair:
        names = ("differentiated", "plain")
        return _Pair(names, primal, plain, lambda i: entry(tested.outputs, i))

    pairs, left_out = [pair(jax.vjp(fun, x)[0])], {}
    try:
        with _forward_mode():
            pairs.append(pair(jax.jvp(fun, (x,), (jnp.ones_like(x),))[0]))
    except NotApplicableError as reason:
        left_out["forward"] = str(reason)
    return _agree(tested.tolerance, pairs)._replace(left_out=left_out)


def control_flow(tested: Subject) -> Found:
    """Function and rule can be traced: nothing branches on a number."""
    jax.eval_shape(tested.vectors.pull, tested.vectors.x, _cotangents(tested, 1)[0])
    return Found(0.0)


def jit(tested: Subject) -> Found:
    """Compiled, and called again, the gradient is the same."""
    fun, x, pull = tested.vectors.fun, tested.vectors.x, tested.vectors.pull
    (cotangent,) = _cotangents(tested, 1)
    plain = pull_back(fun, jnp.asarray(x), jnp.asarray(cotangent))
    names, place = ("compiled", "not"), _gradient_place(tested)
    pairs = [_Pair(names, pull(x, cotangent), plain, place) for _ in range(2)]
    return _agree(_precision(tested), pairs)


def _cotangents(tested: Subject, count: int) -> np.ndarray:
    """Random ones, `[count, M]`."""
    return _draw(tested, count, tested.vectors.size).astype(tested.vectors.dtype)


# ---------------------------------------------------------------- is it the derivative?


def forward_reverse(tested: Subject) -> Found:
    """Both modes give the same Jacobian."""
    directions = _directions(tested)
    slopes = [_pushed(tested, direction.tangent) for direction in directions]
    return _held_against(tested, ("reverse mode", "forward mode"), directions, slopes)


def finite_differences(tested: Subject) -> Found:
    """The Jacobian is that of central differences."""
    directions = _directions(tested)
    slopes = [_differences(tested, direction.tangent) for direction in directions]
    return _held_against(tested, ("rule", "central differences"), directions, slopes)


def _held_against(
    tested: Subject,
    names: tuple[str, str],
    directions: list[_Direction],
    slopes: list[_Slope],
) -> Found:
    """Rows of the Jacobian, from reverse mode, along directions."""
    rows = _rows(tested)
    chosen = np.array(list(rows))
    gradients = np.stack(list(rows.values()))
    pairs = [
        _Pair(
            names,
            gradients @ tangent,
            slope.value[chosen],
            functools.partial(_derivative, tested, leaf, chosen),
            slope.slack[chosen],
        )
        for (tangent, leaf), slope in zip(directions, slopes, strict=True)
    ]
    return _agree(_precision(tested), pairs)


def _rows(tested: Subject) -> dict[int, np.ndarray]:
    """Rows of the Jacobian by reverse mode: all of them, or some of many."""
    count, dtype = tested.vectors.size, tested.vectors.dtype
    chosen = np.linspace(0, count - 1, min(count, _ROWS)).astype(int)
    units = {int(i): (np.arange(count) == i).astype(dtype) for i in chosen}
    pull, x = tested.vectors.pull, tested.vectors.x
    return {i: _numbers(pull(x, unit)) for i, unit in units.items()}


def _derivative(tested: Subject, leaf: Leaf, rows: np.ndarray, index: int) -> str:
    """The place of a derivative of one output along the direction of one leaf."""
    along = " (random direction)" if leaf.shape else ""
    return f"d {entry(tested.outputs, int(rows[index]))} / d {leaf.name}{along}"


def dot_product(tested: Subject) -> Found:
    """`<c, J t> = <J' c, t>` for every c, and 0 for 0."""
    pull, x = tested.vectors.pull, tested.vectors.x
    tangent, left_out = _draw(tested, x.size), {}
    try:
        slope = _pushed(tested, tangent)
    except NotApplicableError as reason:
        slope, left_out["forward"] = _differences(tested, tangent), str(reason)
    cotangents = _cotangents(tested, _COPIES)
    pulled = np.stack([_numbers(pull(x, c)) for c in cotangents])
    sizes, tolerance = np.abs(_numbers(cotangents)), _precision(tested)
    products = _Pair(
        ("<J' c, t> =", "<c, J t> ="),
        pulled @ tangent,
        _numbers(cotangents) @ slope.value,
        lambda i: f"random c number {i}",
        tolerance * sizes @ np.abs(slope.value) + sizes @ slope.slack,
    )
    nothing = pull(x, np.zeros_like(cotangents[0]))
    zero = _Pair(("J' 0 =", "not"), nothing, np.zeros(x.size), _gradient_place(tested))
    return _agree(tolerance, [products, zero])._replace(left_out=left_out)


def second_order(tested: Subject) -> Found:
    """The derivative of `J' c` is that of central differences, in both orders."""
    (cotangent,) = _cotangents(tested, 1)
    pull, x = tested.vectors.pull, tested.vectors.x

    def gradient(x: PyTree) -> PyTree:
        return pull(x, cotangent)

    pairs, left_out = [], {}
    reverse = jax.jit(lambda t: pull_back(gradient, x, t))
    forward = jax.jit(lambda t: jax.jvp(gradient, (x,), (t,))[1])
    for tangent, leaf in _directions(tested):
        slope = _difference(gradient, x, tangent, tested.vectors.dtype)
        pair = functools.partial(_second_pair, tested, leaf, slope)
        pairs.append(pair("reverse over reverse", reverse(tangent)))
        try:
            with _forward_mode():
                pairs.append(pair("forward over reverse", forward(tangent)))
        except NotApplicableError as reason:
            left_out["forward over reverse"] = str(reason)
    return _agree(10 * _precision(tested), pairs)._replace(left_out=left_out)


def _second_pair(
    tested: Subject, leaf: Leaf, slope: _Slope, name: str, product: PyTree
) -> _Pair:
    def place(i: int) -> str:
        return f"d gradient of {entry(tested.inputs, i)} / d {leaf.name}"

    names = (name, "central differences of the gradient")
    return _Pair(names, product, slope.value, place, slope.slack)


# ----------------------------------------------------------------- for every argument?


def pytrees(tested: Subject) -> Found:
    """One argument alone, for one output alone, gives its block of the whole."""
    if len(tested.inputs) == len(tested.outputs) == 1:
        raise NotApplicableError("there is one argument and one output")
    pairs = []
    for j in range(len(tested.outputs)):
        alone, among_all = jax.jit(functools.partial(_blocks, tested, j))()
        pairs += [
            _block_pair(tested, i, j, *block)
            for i, block in enumerate(zip(alone, among_all, strict=True))
        ]
    return _agree(_precision(tested), pairs)


def _blocks(tested: Subject, j: int) -> tuple[list[jax.Array], tuple[jax.Array, ...]]:
    """Gradients of output leaf j in each argument leaf: all else constant, or not."""
    outs, pull = jax.vjp(
        lambda *leaves: tested.fun(leaves, tested.fixed), *tested.leaves
    )
    cotangent = _draw(tested, *outs[j].shape).astype(outs[j].dtype)
    chosen = (i == j for i in range(len(outs)))
    given = zip(chosen, outs, strict=True)
    among_all = pull(tuple(cotangent if c else jnp.zeros_like(o) for c, o in given))

    def alone(i: int) -> jax.Array:
        def fun(leaf: PyTree) -> jax.Array:
            leaves = (*tested.leaves[:i], leaf, *tested.leaves[i + 1 :])
            return tested.fun(leaves, tested.fixed)[j]

        return jax.vjp(fun, tested.leaves[i])[1](cotangent)[0]

    return [alone(i) for i in range(len(tested.leaves))], among_all


def _block_pair(
    tested: Subject, i: int, j: int, alone: PyTree, among_all: PyTree
) -> _Pair:
    def place(at: int) -> str:
        return (
            f"gradient of {tested.outputs[j].name} in {entry((tested.inputs[i],), at)}"
        )

    names = ("alone", "among all")
    return _Pair(names, np.ravel(alone), np.ravel(among_all), place)


def nondifferentiable(tested: Subject) -> Found:
    """Integer inputs may be traced, and have no gradient."""
    if not tested.fixed:
        raise NotApplicableError("no argument is an array of integers or booleans")
    (cotangent,) = _cotangents(tested, 1)

    def gradients(leaves: PyTree, fixed: PyTree) -> PyTree:
        def flat(leaves: PyTree, fixed: PyTree) -> jax.Array:
            return ravel_pytree(tested.fun(leaves, fixed))[0]

        return jax.vjp(flat, leaves, fixed)[1](cotangent)

    found, of_integers = jax.jit(gradients)(tested.leaves, tested.fixed)
    for gradient in of_integers:
        if gradient.dtype != jax.dtypes.float0:
            raise MismatchError(f"gradient of an integer: got {gradient.dtype}")
    known = tested.vectors.pull(tested.vectors.x, cotangent)
    traced = np.concatenate([np.ravel(leaf) for leaf in found])
    names = ("integers traced", "integers known")
    return _agree(
        _precision(tested), [_Pair(names, traced, known, _gradient_place(tested))]
    )


# ---------------------------------------------------------- under every transformation?


class _Points(NamedTuple):
    """Points `[K, N]`, cotangents `[K, M]`, and the gradients there, one by one."""

    x: np.ndarray
    cotangent: np.ndarray
    gradient: np.ndarray


def _points(tested: Subject, step: float) -> _Points:
    """Points that come closer to 0 by a fraction `step` each."""
    x = np.stack([tested.vectors.x * (1 - step * i) for i in range(_COPIES)])
    cotangents, pull = _cotangents(tested, _COPIES), tested.vectors.pull
    each = [_numbers(pull(*pair)) for pair in zip(x, cotangents, strict=True)]
    return _Points(x, cotangents, np.stack(each))


def _transformed(tested: Subject, name: str, found: PyTree, points: _Points) -> _Pair:
    """A transformed gradient `[K, N]` against the plain ones."""
    count = points.x.shape[1]

    def place(i: int) -> str:
        return f"gradient of {entry(tested.inputs, i % count)}, point {i // count}"

    return _Pair((name, "without"), np.ravel(found), np.ravel(points.gradient), place)


def vmap(tested: Subject) -> Found:
    """A batch of points, or of cotangents, gives what each gives alone."""
    near, here = _points(tested, _STEP), _points(tested, 0.0)
    pull = functools.partial(pull_back, tested.vectors.fun)
    batch = jax.jit(jax.vmap(pull))(near.x, near.cotangent)
    cotangents = jax.jit(jax.vmap(pull, (None, 0)))(here.x[0], here.cotangent)
    pairs = [
        _transformed(tested, "vmap", batch, near),
        _transformed(tested, "vmap of cotangents", cotangents, here),
    ]
    return _agree(_precision(tested), pairs)


def scan(tested: Subject) -> Found:
    """Inside a scan, and differentiated through one, the gradient is the same."""
    fun, points = tested.vectors.fun, _points(tested, _STEP)

    def inside(_: None, pair: PyTree) -> tuple[None, jax.Array]:
        return None, pull_back(fun, *pair)

    def step(total: jax.Array, pair: PyTree) -> tuple[jax.Array, None]:
        x, cotangent = pair
        return total + jnp.vdot(cotangent, fun(x)), None

    def through(xs: PyTree) -> jax.Array:
        zero = jnp.zeros((), tested.vectors.dtype)
        return jax.lax.scan(step, zero, (xs, points.cotangent))[0]

    within = jax.lax.scan(inside, None, (points.x, points.cotangent))[1]
    pairs = [
        _transformed(tested, "in a scan", within, points),
        _transformed(
            tested, "through a scan", jax.jit(jax.grad(through))(points.x), points
        ),
    ]
    return _agree(_precision(tested), pairs)


def remat(tested: Subject) -> Found:
    """Computed again for the backward pass, the gradient is the same."""
    points = _points(tested, 0.0)
    pull = jax.jit(functools.partial(pull_back, jax.checkpoint(tested.vectors.fun)))
    each = [pull(*pair) for pair in zip(points.x, points.cotangent, strict=True)]
    return _agree(_precision(tested), [_transformed(tested, "remat", each, points)])


def bfloat16(tested: Subject) -> Found:
    """Value and gradient keep the dtype and, but for rounding, the numbers."""
    try:
        small = vectors(
            tested.fun, [x.astype(jnp.bfloat16) for x in tested.leaves], tested.fixed
        )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise NotApplicableError(f"fun refuses it ({reason})") from error
    cotangent = _draw(tested, small.size).astype(small.dtype)
    primal, gradient = jax.jit(
        lambda x, c: (jax.vjp(small.fun, x)[0], pull_back(small.fun, x, c))
    )(small.x, cotangent)
    if primal.dtype != small.dtype:
        said = f"differentiated {primal.dtype}, plain {small.dtype}"
        raise MismatchError(f"dtype of the output: {said}")
    exact, wide = tested.vectors, small.x.astype(np.float64)
    expected = exact.pull(wide, cotangent.astype(exact.dtype))
    names = ("bfloat16", "float64")
    pairs = [
        _Pair(names, primal, exact.call(wide), lambda i: entry(tested.outputs, i)),
        _Pair(names, gradient, expected, _gradient_place(tested)),
    ]
    return _agree(_ULPS * float(jnp.finfo(jnp.bfloat16).eps), pairs)


CHECKS: Mapping[str, Callable[[Subject], Found]] = {
    check.__name__: check
    for check in (
        value,
        control_flow,
        jit,
        forward_reverse,
        finite_differences,
        dot_product,
        pytrees,
        nondifferentiable,
        vmap,
        scan,
        remat,
        second_order,
        bfloat16,
    )
}
