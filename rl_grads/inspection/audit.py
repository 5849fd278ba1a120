"""Gradient-flow audit: which parameters a loss moves, and by which of its terms."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_grads.autodiff.paths import along
from rl_grads.autodiff.reach import reaching
from rl_grads.config import nearest
from rl_grads.training.schema import Config
from rl_grads.typing import LossFunction, Params, PyTree, Transitions

# Term to the state that a path from the parameters to the loss meets first.
TERMS = {
    "prediction": "s_tm1",
    "bootstrap": "s_t",
    "second bootstrap": "s_t_alt",
    "no state": None,
}
_POINTS = 3  # Where a gradient that should be zero is computed.


# --------------------------------------------------------------------------- the audit


class Flow(NamedTuple):
    """The gradient that reaches a group of parameters.

    Attributes:
        norm: Its L2 norm.
        path: Whether any path with a derivative leads there. If not, the norm is zero
            at every point and not only at this one.
    """

    norm: float
    path: bool

    def __str__(self) -> str:
        return f"{self.norm:.3g}" if self.path else "-"


Table = dict[str, dict[str, Flow]]


class Audit(NamedTuple):
    """The gradient of one loss, by term and group; `"loss"` is all terms together.

    Attributes:
        update: In `params`, where an update differentiates.
        held: In `bootstrap_params`, which an update holds fixed.
    """

    update: Table
    held: Table

    @property
    def leaks(self) -> dict[str, Flow]:
        """What the update gets through a bootstrap, by group: nothing, if it is semi.

        This is where a target network shows that is not used, and a target that is not
        stopped.
        """
        return {
            group: flow
            for term, flows in self.update.items()
            for group, flow in flows.items()
            if term.endswith("bootstrap") and flow.norm != 0.0
        }


def audit(
    loss: LossFunction,
    params: Params,
    bootstrap_params: Params,
    batch: Transitions,
    config: Config,
) -> Audit:
    """Split the gradient of a batch's mean loss by term and by group of parameters.

    A term is the state that a path from the parameters meets first: `s_tm1` in the
    prediction, `s_t` in the bootstrap, `s_t_alt` in that of a second draw; the rest is
    called "no state". The terms add up to the gradient. A group is an entry at the top
    of the parameters.

    Args:
        loss: `loss(params, bootstrap_params, transition, config)` of ONE transition: a
            scalar, or a tuple that begins with it.
        params: The parameters that learn.
        bootstrap_params: Those that bootstrap; `params` again without a target network.
        batch: Transitions `[B, ...]`.
        config: Handed to the loss.

    Example:
        >>> from collections import namedtuple
        >>> def loss(params, bootstrap_params, transition, config):
        ...     target = bootstrap_params["w"] * transition.s_t
        ...     return 0.5 * (target - params["w"] * transition.s_tm1) ** 2
        >>> batch = namedtuple("Batch", "s_tm1 s_t")(jnp.ones(1), jnp.full(1, 2.0))
        >>> found = audit(loss, {"w": 1.0}, {"w": 3.0}, batch, None)
        >>> {term: str(flows["w"]) for term, flows in found.update.items()}
        {'prediction': '5', 'bootstrap': '-', 'loss': '5'}
        >>> {term: str(flows["w"]) for term, flows in found.held.items()}
        {'prediction': '-', 'bootstrap': '10', 'loss': '10'}
    """
    states = [s for s in TERMS.values() if s and getattr(batch, s, None) is not None]

    def mean(term: str, both: tuple[PyTree, PyTree]) -> jax.Array:
        def evaluate(each: PyTree) -> jax.Array:
            def fun(
                both: tuple[PyTree, PyTree], inputs: Mapping[str, PyTree]
            ) -> jax.Array:
                return _scalar(loss(*both, each._replace(**inputs), config))

            inputs = {state: getattr(each, state) for state in states}
            along_term = fun if term == "loss" else along(fun, TERMS[term])
            return along_term(both, inputs)

        return jnp.mean(jax.vmap(evaluate)(batch))

    found = Audit({}, {})
    for term in (*TERMS, "loss"):
        if TERMS.get(term) in (None, *states):
            _note(found, term, functools.partial(mean, term), params, bootstrap_params)
    return found


def _scalar(out: PyTree) -> jax.Array:
    """The loss itself, without what comes with it."""
    return out[0] if isinstance(out, tuple) else out


def _note(
    found: Audit, term: str, mean: Callable[[Params], jax.Array], *both: PyTree
) -> None:
    """Enter the flows of one term; a term that may be missing, only if it is there."""
    gradients = jax.jit(jax.grad(mean))(both)
    (paths,) = reaching(mean, both)
    if term == "no state" and not any(jax.tree.leaves(paths)):
        return
    for table, gradient, path in zip(found, gradients, paths, strict=True):
        pairs = zip(groups(gradient).items(), groups(path).values(), strict=True)
        table[term] = {
            name: Flow(float(optax.tree.norm(part)), any(jax.tree.leaves(is_path)))
            for (name, part), is_path in pairs
        }


def groups(params: Params) -> dict[str, PyTree]:
    """The groups at the top of parameters, below flax's `params`; or all as one.

    Example:
        >>> groups({"params": {"Dense_0": 1.0, "Dense_1": 2.0}})
        {'Dense_0': 1.0, 'Dense_1': 2.0}
        >>> groups(3.0)
        {'all': 3.0}
    """
    if isinstance(params, Mapping) and set(params) == {"params"}:
        return groups(params["params"])
    return dict(params) if isinstance(params, Mapping) and params else {"all": params}


# ------------------------------------------------------------------- for a user's tests


def assert_no_gradient(
    loss: LossFunction, group: str, params: Params, *args: PyTree
) -> None:
    """Assert that a loss has no gradient in a group of its parameters.

    A gradient of exactly zero is not enough, because it can be zero by chance: where a
    path with a derivative leads to the group, it must be zero at other parameters and
    inputs too, which are drawn at random.

    Args:
        loss: `loss(params, *args)`: a scalar, or a tuple that begins with it.
        group: Dotted path into `params`: `"target"`, `"online.params.Dense_0"`.
        params: Nested mappings, named tuples and sequences.
        *args: Further arguments of the loss.

    Raises:
        AssertionError: There is a gradient; the message has its norm, leaf by leaf.
        ValueError: There is no such group; the message names the nearest.

    Example:
        >>> def loss(params, s_tm1, s_t):
        ...     target = params["target"] * s_t  # Without a stop.
        ...     return 0.5 * (target - params["online"] * s_tm1) ** 2
        >>> assert_no_gradient(loss, "target", {"online": 1.0, "target": 3.0}, 1.0, 2.0)
        Traceback (most recent call last):
        ...
        AssertionError: target: expected no gradient, got one of norm 10 (target: 10)
    """

    def scalar(params: Params, *args: PyTree) -> jax.Array:
        return _scalar(loss(params, *args))

    (path, *_) = reaching(lambda params: scalar(params, *args), params)
    if not any(jax.tree.leaves(_inside(path, group))):
        return
    gradient = jax.jit(jax.grad(scalar))
    for point, given in enumerate(_points((params, args))):
        found = _inside(gradient(given[0], *given[1]), group)
        norms = _norms(group, found)
        if norms:
            total = float(optax.tree.norm(found))
            where = "" if point == 0 else " at random parameters and inputs"
            each = ", ".join(f"{name}: {norm:.3g}" for name, norm in norms.items())
            raise AssertionError(
                f"{group}: expected no gradient, got one of norm {total:.3g}{where} "
                f"({each})"
            )


def _inside(tree: PyTree, path: str) -> PyTree:
    """The part of a tree at a dotted path."""
    for part in path.split("."):
        children = _children(tree)
        if part not in children:
            raise ValueError(f"group={path!r}: no {part!r}{nearest(part, children)}")
        tree = children[part]
    return tree


def _children(tree: PyTree) -> dict[str, PyTree]:
    if isinstance(tree, Mapping):
        return {str(key): value for key, value in tree.items()}
    if hasattr(tree, "_asdict"):
        return tree._asdict()
    several = tree if isinstance(tree, list | tuple) else ()
    return {str(i): value for i, value in enumerate(several)}


def _norms(group: str, gradient: Params) -> dict[str, float]:
    """The norm of every leaf where it is not zero; nan counts."""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    norms = {
        group + jax.tree_util.keystr(path): float(optax.tree.norm(leaf))
        for path, leaf in leaves
    }
    return {name: norm for name, norm in norms.items() if norm != 0.0}


def _points(given: PyTree) -> Iterator[PyTree]:
    """The arguments as they are, then others with all floating arrays random."""
    yield given
    random = np.random.default_rng(0)

    def other(leaf: PyTree) -> PyTree:
        is_array = isinstance(leaf, jax.Array | np.ndarray | float)
        if not is_array or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        drawn = jnp.asarray(random.normal(size=jnp.shape(leaf)))
        return (leaf + (1 + jnp.abs(leaf)) * drawn).astype(jnp.result_type(leaf))

    for _ in range(1, _POINTS):
        yield jax.tree.map(other, given)
