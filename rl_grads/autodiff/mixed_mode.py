"""Derivatives through many updates, at the memory of few.

An outer derivative through `theta - rate * grad(L)(theta, eta)` needs, per update, the
products of a cotangent c with the two second derivatives of L. Reverse mode over the
gradient keeps that gradient's whole computation for it. By symmetry of second
derivatives both products are one forward derivative of a gradient,

    d/dt grad_{theta, eta} L(theta + t c, eta)  at t = 0,

which needs nothing but theta and eta (mixed-mode differentiation, Kemaev et al. 2025).
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Jaxpr, JaxprEqn

from rl_grads.autodiff.closed import Closed, close, is_float
from rl_grads.typing import Function, LossFunction, PyTree, State

_INSIDE_JAX = os.path.dirname(jax.__file__) + os.sep


def mixed_mode_grad(
    loss_fn: LossFunction,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Function:
    """`jax.grad` whose own derivative is cheap in memory.

    Values equal those of `jax.grad`, and so do reverse-mode derivatives of them, in
    every argument and in whatever the loss closes over. Only the arguments are kept for
    the backward pass.

    The symmetry holds for true gradients. A loss with a backward rule of its own or
    with `stop_gradient` inside has none; it is recognised, and the gradient's
    computation is repeated in the backward pass instead: slower, as small, and right.
    (`jax.custom_jvp` rules of JAX itself, such as that of relu, are true derivatives;
    others may be surrogates.)

    Args:
        loss_fn: `loss_fn(*args) -> scalar`, or `(scalar, aux)` with `has_aux`.
        argnums: Argument or arguments to differentiate, as in `jax.grad`.
        has_aux: Whether the loss returns something beside its value.

    Returns:
        `gradient(*args)`, or `(gradient, aux)` with `has_aux`.

    Raises:
        TypeError: By JAX: the loss is no scalar, or forward mode (`jax.jvp`) passes
            over the gradient; `steps.linearize_through_reverse` does that.

    Example:
        >>> def loss(theta, eta, x):
        ...     return 0.5 * eta * (theta - x) ** 2
        >>> def outer(eta):
        ...     return 1.0 - 0.5 * mixed_mode_grad(loss)(1.0, eta, 3.0)
        >>> float(outer(1.0)), float(jax.grad(outer)(1.0))
        (2.0, 1.0)
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def gradient(*args: PyTree) -> PyTree:
        at = [i % len(args) for i in chosen]
        owner = [i for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
        traced = close(loss_fn, args, also=at)
        wanted = [
            place
            for i in at
            for place, whose in zip(traced.places, owner, strict=True)
            if whose == i and place is not None
        ]
        found, aux = _Gradient(traced, wanted, has_aux)(list(traced.inputs))
        structure = jax.tree.structure([args[i] for i in at])
        out = jax.tree.unflatten(structure, found)
        picked = out[0] if isinstance(argnums, int) else tuple(out)
        return (picked, aux) if has_aux else picked

    return gradient


class _Gradient(NamedTuple):
    """A traced loss and the inputs in which its gradient is wanted."""

    loss: Closed
    wanted: Sequence[int]
    has_aux: bool

    def value(self, inputs: Sequence[jax.Array]) -> PyTree:
        """The loss and its aux."""
        return self.loss(inputs) if self.has_aux else (self.loss(inputs), None)

    def gradients(self, inputs: Sequence[jax.Array], places: Sequence[int]) -> PyTree:
        """Gradients in the inputs at some places, and aux."""

        def at(chosen: Sequence[jax.Array]) -> PyTree:
            return self.value(_put(inputs, places, chosen))

        return jax.grad(at, has_aux=True)([inputs[p] for p in places])

    def __call__(self, inputs: Sequence[jax.Array]) -> PyTree:
        """What is wanted, with the rule of the module."""
        # An array that comes twice, as parameters that bootstrap do, is kept once.
        distinct = list({id(x): x for x in inputs}.values())
        order = [id(x) for x in distinct]
        which = [order.index(id(x)) for x in inputs]

        @jax.custom_vjp
        def rule(distinct: Sequence[jax.Array]) -> PyTree:
            return self.gradients([distinct[k] for k in which], self.wanted)

        def forward(distinct: Sequence[PyTree]) -> PyTree:
            given = [primal.value for primal in distinct]
            return self.gradients([given[k] for k in which], self.wanted), given

        def backward(distinct: Sequence[jax.Array], cotangent: PyTree) -> PyTree:
            inputs = [distinct[k] for k in which]
            floats = [p for p, x in enumerate(inputs) if is_float(x)]
            symmetric = is_true_derivative(self.loss.jaxpr)
            back = _by_symmetry if symmetric else _by_repetition
            found: list[Any] = [None] * len(distinct)
            for place, ct in zip(
                floats, back(self, inputs, floats, cotangent), strict=True
            ):
                before = found[which[place]]
                found[which[place]] = ct if before is None else before + ct
            return (found,)

        rule.defvjp(forward, backward, symbolic_zeros=True)
        return rule(distinct)


def _put(
    inputs: Sequence[PyTree], places: Sequence[int], new: Sequence[PyTree]
) -> list[PyTree]:
    """The inputs with those at some places exchanged."""
    out = list(inputs)
    for place, x in zip(places, new, strict=True):
        out[place] = x
    return out


def _by_symmetry(
    of: _Gradient, inputs: Sequence[jax.Array], floats: Sequence[int], cotangent: PyTree
) -> list[jax.Array]:
    """Cotangents of the float inputs, by one forward derivative of a gradient."""

    def everywhere(chosen: Sequence[jax.Array]) -> PyTree:
        return of.gradients(_put(inputs, of.wanted, chosen), floats)[0]

    primals = [inputs[p] for p in of.wanted]
    tangents = [_instantiated(ct) for ct in cotangent[0]]
    _, found = jax.jvp(everywhere, (primals,), (tangents,))
    if all(isinstance(ct, SymbolicZero) for ct in jax.tree.leaves(cotangent[1])):
        return found

    def aux(chosen: Sequence[jax.Array]) -> PyTree:
        return _differentiable(of.value(_put(inputs, floats, chosen))[1], cotangent[1])

    _, pull_back = jax.vjp(aux, [inputs[p] for p in floats])
    (more,) = pull_back(_differentiable(cotangent[1], cotangent[1]))
    return jax.tree.map(jnp.add, found, more)


def _by_repetition(
    of: _Gradient, inputs: Sequence[jax.Array], floats: Sequence[int], cotangent: PyTree
) -> list[jax.Array]:
    """Cotangents of the float inputs, by reverse mode over the gradient, done again."""

    def again(chosen: Sequence[jax.Array]) -> PyTree:
        out = of.gradients(_put(inputs, floats, chosen), of.wanted)
        return _differentiable(out, cotangent)

    _, pull_back = jax.vjp(again, [inputs[p] for p in floats])
    return pull_back(_differentiable(cotangent, cotangent))[0]


def _instantiated(cotangent: PyTree) -> jax.Array:
    if isinstance(cotangent, SymbolicZero):
        aval: Any = cotangent.aval
        return jnp.zeros(aval.shape, aval.dtype)
    return cotangent


def _differentiable(tree: PyTree, cotangent: PyTree) -> list[jax.Array]:
    """The leaves that have derivatives, by the types of their cotangents."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(cotangent), strict=True)
    return [_instantiated(x) for x, ct in pairs if ct.dtype != jax.dtypes.float0]


# --------------------------------------------------------------------- true derivatives


def is_true_derivative(jaxpr: Jaxpr) -> bool:
    """Whether automatic differentiation of a jaxpr gives its mathematical derivative.

    False where something inside has a backward rule of its own, a forward rule from
    outside JAX, or `stop_gradient`, even if that happens to be harmless.
    """
    return not any(_is_surrogate(eqn) for eqn in _equations(jaxpr))


def _is_surrogate(eqn: JaxprEqn) -> bool:
    name = eqn.primitive.name
    if name == "custom_jvp_call":
        source = eqn.params["call_jaxpr"].jaxpr.debug_info.func_src_info or ""
        return _INSIDE_JAX not in source
    return name == "stop_gradient" or name.startswith("custom_vjp_call")


def _equations(jaxpr: Jaxpr) -> Iterator[PyTree]:
    """Every equation, also inside loops, branches and calls."""
    for eqn in jaxpr.eqns:
        yield eqn
        if not eqn.primitive.name.startswith("custom_"):
            for inner in jax.tree.leaves(list(eqn.params.values())):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


# ------------------------------------------------------------------------- many updates


def unroll(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: State,
    xs: PyTree,
    checkpoint: str | int | None = None,
    length: int | None = None,
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan`, with a choice of what its backward pass remembers.

    With T steps and a carry of size C, beside what one step needs:

    | checkpoint | kept                                          | computed again   |
    |------------|-----------------------------------------------|------------------|
    | None       | what every step needs for its backward pass   | nothing          |
    | "step"     | T carries                                     | every step       |
    | n          | T / n carries, and n steps of the row None    | every step       |
    | "sqrt"     | as n, with n the square root of T             | every step       |

    A step made of `mixed_mode_grad` needs little more than its carry, so with "sqrt"
    about `2 sqrt(T)` carries are kept (Griewank & Walther 2008, chapter 12).

    Args:
        step: `step(carry, x) -> (carry, y)`.
        carry: At the start.
        xs: A pytree with a leading axis T; None with `length`.
        checkpoint: See the table.
        length: T, where there are no xs.

    Returns:
        The last carry and the stacked ys.

    Raises:
        ValueError: Another `checkpoint`, or by JAX: lengths that differ.

    Example:
        >>> step = lambda x, t: (jnp.sin(x) + t, x)
        >>> end = lambda x: unroll(step, x, jnp.arange(5.0), "sqrt")[0]
        >>> print(f"{jax.grad(end)(0.5):.4f}")
        0.0842
    """
    _check_checkpoint(checkpoint)
    if checkpoint is None:
        return jax.lax.scan(step, carry, xs, length)
    if checkpoint == "step":
        step = jax.checkpoint(step, prevent_cse=False)
        return jax.lax.scan(step, carry, xs, length)
    count = jax.tree.leaves(xs)[0].shape[0] if length is None else length
    size = _root(count) if checkpoint == "sqrt" else int(checkpoint)
    return _in_segments(step, carry, xs, count, max(1, min(size, count)))


def _root(count: int) -> int:
    """About the square root; a divisor where one is near, which saves a copy of xs."""
    root = math.isqrt(count - 1) + 1
    near = range((root + 1) // 2, 2 * root)
    return min(near, key=lambda size: (count % size > 0, abs(size - root)))


def _check_checkpoint(checkpoint: PyTree) -> None:
    if checkpoint is None or checkpoint in ("step", "sqrt"):
        return
    is_int = isinstance(checkpoint, int) and not isinstance(checkpoint, bool)
    if not is_int or checkpoint < 1:
        raise ValueError(
            f"checkpoint={checkpoint!r}: expected None, 'step', 'sqrt' or a number of "
            "steps of at least 1"
        )


def _in_segments(
    step: Callable[[PyTree, PyTree], PyTree],
    carry: State,
    xs: PyTree,
    length: int,
    size: int,
) -> tuple[PyTree, PyTree]:
    """Scan over checkpointed segments of `size` steps, then over what is left."""

    def segment(carry: State, xs: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(step, carry, xs, size if xs is None else None)

    count, rest = divmod(length, size)
    whole = jax.tree.map(
        lambda x: x[: count * size].reshape(count, size, *x.shape[1:]), xs
    )
    forget = jax.checkpoint(segment, prevent_cse=False)
    carry, ys = jax.lax.scan(forget, carry, whole, count)
    ys = jax.tree.map(lambda y: y.reshape(count * size, *y.shape[2:]), ys)
    if not rest:
        return carry, ys
    last = jax.tree.map(lambda x: x[count * size :], xs)
    carry, more = jax.lax.scan(step, carry, last, rest)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, more)
