"""`check_rule` catches broken rules, each by the check that is meant for it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero, linear_call
from jax.experimental import io_callback

from rl_grads.autodiff.check_rule import RuleError, check_rule
from rl_grads.autodiff.clip import clip_gradient
from rl_grads.autodiff.numerics import log1pexp, root_ratio, safe_norm
from rl_grads.autodiff.rule_checks import CHECKS
from rl_grads.autodiff.surrogates import straight_through

X = jnp.array([0.5, -1.25, 2.0])
NO_FORWARD = "forward mode cannot pass a custom_vjp"


def with_backward(fun, forward, backward, **options):
    """`fun` with a `custom_vjp` rule."""
    made = jax.custom_vjp(fun, **options)
    made.defvjp(forward, backward)
    return made


def with_slope(fun, slope):
    """A function by element with a `custom_jvp` rule, from its slope."""
    made = jax.custom_jvp(fun)
    made.defjvp(lambda primals, tangents: (made(*primals), slope(*primals, *tangents)))
    return made


# ---------------------------------------------------------------------------- broken


def another_value():
    """The forward pass forgets the offset."""
    return with_backward(
        lambda x: x**2 + 1.0, lambda x: (x**2, x), lambda x, c: (2 * x * c,)
    )


def branches_on_a_number():
    """The backward pass asks whether a number is positive."""
    return with_backward(
        jnp.abs, lambda x: (jnp.abs(x), x), lambda x, c: (c if x.sum() > 0 else -c,)
    )


def wrong_transpose():
    """Forward mode multiplies by 2, and the transpose of that by 3."""

    def double(t):
        return linear_call(lambda _, t: 2.0 * t, lambda _, c: 3.0 * c, (), t)

    return with_slope(lambda x: 2.0 * x, lambda x, t: double(t))


def missing_factor():
    """The slope of a cube without its 3."""
    return with_slope(lambda x: x**3, lambda x, t: x**2 * t)


def squares_the_cotangent():
    """Right for the cotangents 0 and 1, and not linear."""
    return with_backward(
        jnp.sin, lambda x: (jnp.sin(x), x), lambda x, c: (jnp.cos(x) * c**2,)
    )


def nan_for_no_cotangent():
    """Keeps the direction of the cotangent, and divides by its length."""

    def backward(x, c):
        length = jnp.sqrt(jnp.sum(c**2))
        return (2.0 * x * (c / length) * length,)

    return with_backward(jnp.square, lambda x: (x**2, x), backward)


def constant_slope():
    """The slope is held constant: the second derivative is lost."""
    return with_slope(jnp.sin, lambda x, t: jax.lax.stop_gradient(jnp.cos(x)) * t)


def forgets_the_second_argument():
    """Where the first argument is constant, nothing is passed on."""

    @jax.custom_jvp
    def product(x, y):
        return x * y

    @functools.partial(product.defjvp, symbolic_zeros=True)
    def _(primals, tangents):
        (x, y), (x_dot, y_dot) = primals, tangents
        if isinstance(x_dot, SymbolicZero):
            return x * y, jnp.zeros_like(x * y)
        rest = 0.0 if isinstance(y_dot, SymbolicZero) else x * y_dot
        return x * y, x_dot * y + rest

    return product


def index_by_value():
    """The index is declared static, so it cannot be traced."""

    def forward(x, index):
        return x[index] ** 2, x

    def backward(index, x, c):
        return (jnp.zeros_like(x).at[int(index)].set(2.0 * x[index] * c),)

    made = jax.custom_vjp(lambda x, index: x[index] ** 2, nondiff_argnums=(1,))
    made.defvjp(forward, backward)
    return made


def guesses_what_it_cannot_see():
    """Where the number is not known, the slope is that at 0."""

    def backward(x, c):
        try:
            float(x.sum())
        except jax.errors.ConcretizationTypeError:
            return (c,)
        return (jnp.cos(x) * c,)

    return with_backward(jnp.sin, lambda x: (jnp.sin(x), x), backward)


def mixes_the_batch():
    """The batched product is a mean over the batch."""

    @jax.custom_batching.custom_vmap
    def product(x, c):
        return 2.0 * x * c

    @product.def_vmap
    def _(size, batched, x, c):
        return jnp.broadcast_to(jnp.mean(2.0 * x * c, 0), c.shape), True

    return with_backward(jnp.square, lambda x: (x**2, x), lambda x, c: (product(x, c),))


def keeps_a_residual_aside():
    """The residual waits in a list outside of the program."""
    aside = []

    def forward(x):
        aside.append(x)
        return x**2, None

    return with_backward(jnp.square, forward, lambda _, c: (2.0 * aside.pop() * c,))


def asks_the_host():
    """The forward pass has an effect, which may happen once or twice."""

    def forward(x):
        return x**2, io_callback(np.asarray, x, x)

    return with_backward(jnp.square, forward, lambda x, c: (2.0 * x * c,))


def float32_constant():
    """A constant with a dtype of its own makes the tangent wider than the value."""
    return with_slope(
        lambda x: x**2, lambda x, t: jnp.full_like(x, 2.0, "float32") * x * t
    )


BROKEN = [
    (another_value, "value", (X,)),
    (branches_on_a_number, "control_flow", (X,)),
    (wrong_transpose, "forward_reverse", (X,)),
    (missing_factor, "finite_differences", (X,)),
    (squares_the_cotangent, "dot_product", (X,)),
    (nan_for_no_cotangent, "dot_product", (X,)),
    (constant_slope, "second_order", (X,)),
    (forgets_the_second_argument, "pytrees", (X, 2.0 * X)),
    (index_by_value, "nondifferentiable", (X, np.array(1))),
    (guesses_what_it_cannot_see, "jit", (X,)),
    (mixes_the_batch, "vmap", (X,)),
    (keeps_a_residual_aside, "scan", (X,)),
    (asks_the_host, "remat", (X,)),
    (float32_constant, "bfloat16", (X,)),
]


@pytest.mark.parametrize(("make", "check", "args"), BROKEN)
def test_a_broken_rule_is_caught_by_the_check_meant_for_it(make, check, args):
    with pytest.raises(RuleError, match=f"^{check}: ") as caught:
        check_rule(make(), *args)
    assert caught.value.check == check


def test_every_check_catches_something():
    assert {check for _, check, _ in BROKEN} == set(CHECKS)


def test_the_message_has_the_place_and_both_numbers():
    rule = with_slope(lambda x: x**3, lambda x, t: x**2 * t)
    with pytest.raises(RuleError) as caught:
        check_rule(lambda a, b: {"y": jnp.stack([a, rule(b["x"])])}, 1.0, {"x": 2.0})
    assert str(caught.value) == (
        "finite_differences: d output['y'][1] / d args[1]['x']: rule 4, central "
        "differences 12"
    )


def test_a_check_can_be_left_out():
    report = check_rule(constant_slope(), X, skip=["second_order"])
    assert report.not_applicable["second_order"] == "left out by `skip`"
    with pytest.raises(RuleError, match=r"^second_order"):
        check_rule(constant_slope(), X, skip=["jit", "value"])


# ------------------------------------------------------------------------------- good


def soft_plus():
    """The rule of a softplus, whose slope is the sigmoid."""
    return with_slope(
        lambda x: jnp.logaddexp(x, 0.0), lambda x, t: jax.nn.sigmoid(x) * t
    )


def row():
    """A rule with an integer input, for which it has no gradient."""

    def backward(kept, c):
        x, index = kept
        return jnp.zeros_like(x).at[index].set(2.0 * x[index] * c), None

    return with_backward(
        lambda x, index: x[index] ** 2,
        lambda x, index: (x[index] ** 2, (x, index)),
        backward,
    )


def by_name():
    """A rule that branches on a setting, with pytrees in and out."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def fun(tree, name):
        return {name: tree["a"] * tree["b"], "none": None}

    def forward(tree, name):
        return fun(tree, name), tree

    def backward(name, tree, c):
        if name == "product":
            a, b = (tree[other] * c[name] for other in "ba")
            return ({"a": a, "b": b, "none": None},)
        raise AssertionError(name)

    fun.defvjp(forward, backward)
    return fun


def test_a_rule_with_both_modes_passes_whatever_applies():
    report = check_rule(soft_plus(), X)
    assert set(report.not_applicable) == {"pytrees", "nondifferentiable"}
    assert list(report.errors) == [c for c in CHECKS if c not in report.not_applicable]
    assert max(e for c, e in report.errors.items() if c != "bfloat16") < 1e-8
    assert re.search(r"^vmap: passed, \de", str(report), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [log1pexp, safe_norm, root_ratio])
def test_rules_of_this_library_pass(rule):
    report = check_rule(rule, jnp.abs(X))
    assert set(report.not_applicable) == {"pytrees", "nondifferentiable"}


def test_a_surrogate_gradient_is_no_derivative():
    with pytest.raises(RuleError, match=r"^finite_differences"):
        check_rule(straight_through(jnp.round), X)


@pytest.mark.slow
def test_what_a_custom_vjp_cannot_do_is_reported():
    report = check_rule(lambda x: clip_gradient(x, max_abs=1e3, max_norm=1e3), X)
    assert {k for k, why in report.not_applicable.items() if why == NO_FORWARD} == {
        "value (forward)",
        "forward_reverse",
        "dot_product (forward)",
    }
    assert "second_order" in report.errors
    assert f"forward_reverse: not applicable, {NO_FORWARD}" in str(report)


def test_a_clip_that_clips_is_no_derivative():
    with pytest.raises(RuleError, match=r"^finite_differences"):
        check_rule(lambda x: clip_gradient(x, max_abs=0.5), X)


@pytest.mark.slow
def test_a_plain_function_passes_everything():
    def fun(tree, index, scale):
        return {
            "y": scale * jnp.tanh(tree["w"] @ tree["x"])[index],
            "z": tree["x"].sum(),
        }

    tree = {"w": np.arange(6.0).reshape(2, 3) / 10, "x": X}
    report = check_rule(fun, tree, jnp.array([1, 0]), 0.5)
    assert report.not_applicable == {}
    assert list(report.errors) == list(CHECKS)


@pytest.mark.slow
def test_integers_and_settings_are_no_problem():
    assert "nondifferentiable" in check_rule(row(), X, jnp.array(2)).errors
    tree = {"a": X, "b": 2.0 * X, "none": None}
    report = check_rule(by_name(), tree, "product")
    assert "pytrees" in report.errors


@pytest.mark.slow
def test_a_function_in_a_small_dtype_is_held_to_that_dtype():
    report = check_rule(lambda x: jnp.sin(x.astype("float32")), X)
    assert 1e-9 < report.errors["finite_differences"] < 3e-4
    wrong = with_slope(jnp.sin, lambda x, t: 1.01 * jnp.cos(x) * t)
    with pytest.raises(RuleError, match=r"^finite_differences"):
        check_rule(lambda x: wrong(x.astype("float32")), X)


def test_the_precision_of_the_process_is_left_alone():
    seen = []

    def fun(x):
        seen.append(x.dtype.name)
        return x**2

    check_rule(fun, X)
    assert set(seen) == {"float64", "bfloat16"}
    assert not jax.config.jax_enable_x64
    assert jnp.sin(X).dtype == "float32"


def test_a_tolerance_decides():
    nearly = with_slope(jnp.sin, lambda x, t: (1 + 1e-4) * jnp.cos(x) * t)
    with pytest.raises(RuleError, match=r"^finite_differences"):
        check_rule(nearly, X)
    assert check_rule(nearly, X, tolerance=1e-3).errors["finite_differences"] > 5e-5


# -------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("error", "args", "options", "message"),
    [
        (TypeError, (3.0, X), {}, r"fun=3.0: expected a function"),
        (TypeError, (jnp.sin, 3), {}, r"args: expected a leaf of floating dtype"),
        (TypeError, (jnp.sin, X + 1j), {}, r"args: expected real numbers, got complex"),
        (TypeError, (jnp.argmax, X), {}, r"output of fun: expected a leaf of floating"),
        (ValueError, (jnp.sin, X), {"tolerance": 0.0}, r"tolerance=0.0: expected a nu"),
        (ValueError, (jnp.sin, X), {"skip": ["jot"]}, r"skip='jot': expected one of"),
    ],
)
def test_bad_input(error, args, options, message):
    with pytest.raises(error, match=message):
        check_rule(*args, **options)
