"""Which numbers are learned: names to values of a config, and what is refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax

from rl_grads import config as configs
from rl_grads import register
from rl_grads.config import ConfigError, Domain, nearest
from rl_grads.meta.bijectors import bijector, edges, interior
from rl_grads.typing import PyTree, Section

INITIAL = "initial_parameters"

Learned = dict[str, Any]  # A name to its value, or to its image on the real line.


class Sampled(NamedTuple):
    """What a number does that acts by what is drawn, and the form that reaches it."""

    act: str
    form: str


# Where a number acts; the first prefix that fits counts.
_SAMPLING = {
    "agent.behaviour_policy": Sampled("chooses actions", "behaviour_matching"),
    "replay.exponent": Sampled("chooses what is replayed", "soft_weights"),
}
_UPDATE = ("optimizer", "gradient.update")
_DRAWING = ("priority", "sampler")  # Components that act only by what is drawn.


def where_it_acts(name: str) -> str:
    """`initial_parameters`, `update` (after the gradient), `loss` or `sampling`.

    Example:
        >>> where_it_acts("agent.discount"), where_it_acts("optimizer.learning_rate")
        ('loss', 'update')
        >>> where_it_acts("replay.exponent")
        'sampling'
    """
    if name == INITIAL:
        return INITIAL
    kind = _kind(name)
    if _below(name, _SAMPLING) or kind in _DRAWING:
        return "sampling"
    return "update" if _below(name, _UPDATE) or kind == "clip" else "loss"


def _kind(name: str) -> str | None:
    """The kind of the registered component whose number this is, if it is one's."""
    section, _, rest = name.partition(".")
    component = rest.partition(".")[0]
    return register.kind_of_numbers(component) if section == "own" else None


def _below(name: str, prefixes: Iterable[str]) -> str | None:
    return next((p for p in prefixes if name == p or name.startswith(f"{p}.")), None)


# --------------------------------------------------------------------------- refusals


def expand(config: Section, names: Iterable[str]) -> tuple[str, ...]:
    """Names of collections replaced by the names of the numbers in them.

    Example:
        >>> from rl_grads.agents.schema import Linear
        >>> expand(Linear(initial_weights=(1.0, 2.0)), ["initial_weights"])
        ('initial_weights.0', 'initial_weights.1')
    """
    leaves = configs.leaf_paths(config)
    return tuple(
        inner
        for name in names
        for inner in [p for p in leaves if _is_inside(config, name, p)] or [name]
    )


def _is_inside(config: Section, name: str, path: str) -> bool:
    """Whether a path leads to an entry of the collection at another."""
    if path.rpartition(".")[0] != name:
        return False
    return isinstance(configs.get(config, name), Mapping | tuple)


def check(config: Section, names: Sequence[str], forms: Iterable[str] = ()) -> None:
    """Refuse names that cannot be learned from this config.

    Args:
        config: The config, with Python numbers.
        names: Dotted paths of numbers, or `initial_parameters`.
        forms: Values of `meta.sampling` that weights have.

    Raises:
        ConfigError: A name is repeated or unknown, static or null, or it acts by what
            is drawn and none of the forms reaches it.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> check(Config(), ["agent.discont"])
        Traceback (most recent call last):
        ...
        rl_grads.config.ConfigError: meta.learn=agent.discont: expected a number of \
the config or initial_parameters; did you mean 'agent.discount'?
    """
    if not names:
        raise ConfigError("meta.learn=[]: expected at least one name")
    for name in names:
        if list(names).count(name) > 1:
            _refuse(name, "a name once")
        if name != INITIAL:
            _check_path(config, name)
            _check_sampled(name, forms)


def _refuse(name: str, expected: str) -> NoReturn:
    raise ConfigError(f"meta.learn={name}: expected {expected}")


def _check_path(config: Section, name: str) -> None:
    if name not in configs.leaf_paths(config):
        _refuse_path(config, name)
    if _below(name, ("meta",)):
        _refuse(name, "a number outside meta, which holds the outer loss fixed")


def _check_sampled(name: str, forms: Iterable[str]) -> None:
    if _kind(name) in _DRAWING:
        known = ", ".join(f"{p} ({s.form})" for p, s in _SAMPLING.items())
        _refuse(
            name,
            "a number that acts through the update; it chooses what is replayed, and "
            f"what is drawn has a derivative only in the forms of {known}",
        )
    prefix = _below(name, _SAMPLING)
    if prefix is not None and _SAMPLING[prefix].form not in forms:
        act, form = _SAMPLING[prefix]
        _refuse(
            name,
            f"a number that acts through the update; it {act}, and what is drawn has "
            f"no derivative without meta.sampling=[{form}] (in the library: weigh)",
        )


def _refuse_path(config: Section, name: str) -> NoReturn:
    """Say why a name is none of the numbers."""
    known = {path: (field, value) for path, field, value in configs.walk(config)}
    hint = nearest(name, [*configs.leaf_paths(config), INITIAL])
    if name not in known:
        _refuse(name, f"a number of the config or {INITIAL}{hint}")
    field, value = known[name]
    if field.is_leaf:
        found = "null" if value is None else "empty"
        _refuse(name, f"a number to start from; it is {found}")
    kind = "a section" if field.is_group else "static"
    _refuse(name, f"a number; it is {kind}{hint}")


def check_edges(config: Section, names: Iterable[str]) -> None:
    """Refuse numbers that stand on an edge of their domain, where none can leave it.

    Raises:
        ConfigError: Names the nearest value inside.
    """
    for name in names:
        domain = _domain(config, name)
        value = None if name == INITIAL else configs.get(config, name)
        if value in edges(domain):
            raise ConfigError(
                f"{name}={value:g}: expected a start inside {domain} to learn it, off "
                f"its edges; the nearest is {interior(domain, value):g}"
            )


# ------------------------------------------------------------------ values and the line


def values(config: Section, names: Iterable[str]) -> Learned:
    """The named numbers of a config; `initial_parameters` stand in no config."""
    return {name: configs.get(config, name) for name in names if name != INITIAL}


def insert(config: Section, learned: Mapping[str, PyTree]) -> PyTree:
    """The config with learned values in their places."""
    paths = {name: value for name, value in learned.items() if name != INITIAL}
    return configs.replace(config, paths)


def current(config: Section, progress: PyTree, real: Learned | None) -> PyTree:
    """The config at this moment of training, with learned numbers in it.

    The whole way of a learned number into an update: from the real line to its domain,
    to its place in the config, and only then through the schedules, so that a learned
    learning rate multiplies its schedule.

    Args:
        config: As it was given.
        progress: Part of training that has passed.
        real: Learned numbers on the real line, by dotted path; None where there are
            none.

    Example:
        >>> from rl_grads.training.schema import Config
        >>> config = Config()
        >>> real = to_real(config, values(config, ["agent.discount"]))
        >>> round(float(current(config, 0.0, real).agent.discount), 4)
        0.99
    """
    if real is not None:
        config = insert(config, to_domain(config, real))
    return configs.anneal(config, progress)


def to_real(config: Section, learned: Mapping[str, PyTree]) -> Learned:
    """Values to the real line, each by the bijector of its domain."""
    return {
        name: jax.tree.map(bijector(_domain(config, name)).to_real, value)
        for name, value in learned.items()
    }


def to_domain(config: Section, real: Mapping[str, PyTree]) -> Learned:
    """The inverse of `to_real`."""
    return {
        name: jax.tree.map(bijector(_domain(config, name)).to_domain, value)
        for name, value in real.items()
    }


def _domain(config: Section, name: str) -> Domain:
    """The domain of a name; parameters of a network live on the real line."""
    known = {path: field.domain for path, field, _ in configs.walk(config)}
    return known.get(name, known.get(name.rpartition(".")[0], configs.anything))
