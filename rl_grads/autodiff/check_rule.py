"""`check_rule`: whether a custom derivative rule keeps its promises.

JAX believes whatever `custom_jvp` and `custom_vjp` are given. This kit asks whether the
rule is the derivative, whether both modes say the same, and whether it survives every
transformation, all in float64; and whether it respects small dtypes, in bfloat16.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from rl_grads.autodiff import arguments, rule_checks
from rl_grads.autodiff.rule_subject import Subject, subject
from rl_grads.typing import Function, PyTree


class RuleError(AssertionError):
    """A rule fails a check.

    Attributes:
        check: Name of the check.
    """

    def __init__(self, check: str, message: str):
        super().__init__(f"{check}: {message}")
        self.check = check


class Report(NamedTuple):
    """What was asked of a rule that passed.

    Attributes:
        errors: Check to the largest relative difference that it found.
        not_applicable: Check, or a part of one, to the reason why it was not made.
    """

    errors: dict[str, float]
    not_applicable: dict[str, str]

    def __str__(self) -> str:
        passed = [f"{name}: passed, {e:.0e}" for name, e in self.errors.items()]
        rest = [f"{n}: not applicable, {why}" for n, why in self.not_applicable.items()]
        return "\n".join([*passed, *rest])


def check_rule(
    fun: Function,
    *args: PyTree,
    tolerance: float = 1e-6,
    skip: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Check the derivatives of a function with a custom rule, at one point.

    Floating leaves of the arguments, Python floats among them, are differentiated.
    Arrays of integers and booleans are nondifferentiable inputs. Everything else
    (Python integers and booleans, text, functions) is a static setting, on which a rule
    may branch. Choose a point where the function is smooth; the copies for vmap and
    scan lie up to 3 % closer to 0.

    | check | holds if |
    |---|---|
    | `value` | differentiating does not change the value |
    | `control_flow` | it can be traced: no Python `if` on a number |
    | `forward_reverse` | both modes give the same Jacobian |
    | `finite_differences` | it is that of central differences |
    | `dot_product` | `<c, J t> = <J' c, t>`, any c, 0 too: backward is linear in c |
    | `second_order` | derivatives of the derivative are those of central differences |
    | `pytrees` | one argument alone, for one output alone, gives its block |
    | `nondifferentiable` | integer inputs may be traced, and have no gradient |
    | `jit`, `vmap`, `scan`, `remat` | the numbers stay what they are |
    | `bfloat16` | value and derivative keep that dtype, and the digits that it has |

    Forward mode cannot pass a `custom_vjp`. What needs it is reported as not
    applicable; `dot_product` then takes `J t` from central differences.

    Args:
        fun: `fun(*args)`, an array or a pytree with at least one floating leaf.
        *args: The point.
        tolerance: Largest relative difference of what is computed in float64; results
            that `fun` gives in a smaller dtype are held to that dtype.
        skip: Names of checks to leave out.
        seed: Of the random directions.

    Returns:
        The differences found, and what did not apply and why.

    Raises:
        RuleError: A check fails. The message names it, the place and both numbers.
        TypeError: `fun` is no function, or there is nothing to differentiate.
        ValueError: `skip` has a name that is no check, or `tolerance` is not positive.

    Example:
        >>> @jax.custom_vjp
        ... def cube(x):
        ...     return x**3
        >>> cube.defvjp(lambda x: (x**3, x), lambda x, c: (x**2 * c,))
        >>> try:
        ...     check_rule(cube, 2.0)
        ... except RuleError as error:
        ...     print(error)
        finite_differences: d output / d args[0]: rule 4, central differences 12
    """
    _check_arguments(fun, tolerance, skip)
    report = Report({}, dict.fromkeys(skip, "left out by `skip`"))
    with jax.enable_x64(True):
        tested = subject(fun, args, tolerance, seed)
        for name in rule_checks.CHECKS:
            if name not in skip:
                _make(name, tested, report)
    return report


def _check_arguments(fun: PyTree, tolerance: float, skip: Sequence[str]) -> None:
    if not callable(fun):
        raise TypeError(f"fun={fun!r}: expected a function")
    arguments.number("tolerance", tolerance)
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance}: expected a number > 0")
    for name in skip:
        arguments.one_of("skip", name, rule_checks.CHECKS)


def _make(name: str, tested: Subject, report: Report) -> None:
    """Make one check, and note in the report how it went."""
    try:
        found = rule_checks.CHECKS[name](tested)
    except rule_checks.NotApplicableError as reason:
        report.not_applicable[name] = str(reason)
        return
    except rule_checks.MismatchError as mismatch:
        raise RuleError(name, str(mismatch)) from None
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise RuleError(name, f"{type(error).__name__}: {text}") from error
    report.errors[name] = found.error
    for part, reason in found.left_out.items():
        report.not_applicable[f"{name} ({part})"] = reason
