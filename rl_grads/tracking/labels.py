"""What the mirrors call a run, and under what it is found there."""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rl_grads.config import shorten
from rl_grads.typing import Json

# The metrics that a reader looks for first; a dashboard shows their sections in this
# order, and the others behind them.
FIRST = (
    "evaluation/return",
    "evaluation/rmsve",
    "training/return",
    "loss/td_error_abs",
    "gradient/norm",
)
_TOPS = ("runs", "sweeps", "")
_LONGEST_TAG = 64  # W&B refuses a run with a longer one.
_LONGEST_NAME = 120
_SEPARATOR = " \u00b7 "


class Names(NamedTuple):
    """Of a run or of a point.

    Attributes:
        name: Such as `"cartpole/2026-11-22_05-30-00"`, with a point's number behind.
        group: The same of the sweep or run to which it belongs.
    """

    name: str
    group: str


def names(directory: pathlib.Path, home: pathlib.Path) -> Names:
    """The names of what writes to a folder.

    Args:
        directory: The point's folder.
        home: The folder of its sweep or of its population; of a run of one point the
            same.

    Example:
        >>> sweep = pathlib.Path("sweeps/cartpole/2026-11-22")
        >>> names(sweep / "7", sweep)
        Names(name='cartpole/2026-11-22/7', group='cartpole/2026-11-22')
        >>> names(pathlib.Path("runs/paper"), pathlib.Path("runs/paper")).name
        'paper'
    """
    directory, home = directory.absolute(), home.absolute()
    above = home.parent.name
    group = home.name if above in _TOPS else f"{above}/{home.name}"
    inside = directory.relative_to(home) if directory != home else pathlib.Path()
    return Names("/".join((group, *inside.parts)), group)


def tags(**values: str | None) -> tuple[str, ...]:
    """`KIND:VALUE` for each value that there is.

    Example:
        >>> tags(experiment="baird", agent="prediction", env=None)
        ('experiment:baird', 'agent:prediction')
    """
    given = ((kind, value) for kind, value in values.items() if value)
    return tuple(f"{kind}:{value}"[:_LONGEST_TAG] for kind, value in given)


def sections(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Metrics by what stands before their slash, in the order in which they are shown.

    Example:
        >>> made = sections(["clip/angle", "evaluation/length", "evaluation/return"])
        >>> list(made), made["evaluation"]
        (['evaluation', 'clip'], ['evaluation/return', 'evaluation/length'])
    """
    tops = [_section(name) for name in FIRST]
    found: dict[str, list[str]] = {}
    for name in sorted(metrics, key=lambda name: (_place(name, FIRST), name)):
        found.setdefault(_section(name), []).append(name)
    order = sorted(found, key=lambda section: (_place(section, tops), section))
    return {section: found[section] for section in order}


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _section(metric: str) -> str:
    return metric.partition("/")[0]


# ----------------------------------------------------------------------- what differs

# How the field writes them.
_SHORT = {
    "batch_size": "batch",
    "learning_rate": "lr",
    "num_envs": "envs",
    "total_steps": "steps",
}
_LONGEST_VALUE = 32


def differences(values: Mapping[str, Json], keys: Sequence[str]) -> dict[str, str]:
    """What of a config differs from others, each key in short with its value.

    Args:
        values: Dotted key to plain value; keys that the config does not have are left
            out.
        keys: All keys in which it and the others differ.

    Example:
        >>> values = {"optimizer.learning_rate": 0.0003, "replay": "per"}
        >>> differences(values, ("optimizer.learning_rate", "replay", "env.id"))
        {'optimizer.learning_rate': 'lr=3e-4', 'replay': 'replay=per'}
    """
    names = short_names(keys)
    return {k: f"{names[k]}={compact(values[k])}" for k in keys if k in values}


def short(overrides: Sequence[str]) -> str:
    """Values that tell a point of a sweep from the others.

    Example:
        >>> short(["optimizer.learning_rate=0.001", "agent.discount=0.9"])
        'lr=0.001 discount=0.9'
    """
    pairs = [override.partition("=") for override in overrides]
    names = short_names([key for key, _, _ in pairs])
    return " ".join(f"{names[key]}={value}" for key, _, value in pairs)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The ends of dotted keys, as short as they can be told apart.

    Example:
        >>> keys = ["gradient.clip.max_norm", "gradient.update.max_norm"]
        >>> list(short_names(keys).values())
        ['clip.max_norm', 'update.max_norm']
    """
    ends = {key: list(_ends(key)) for key in keys}
    return {key: _first_of_its_own(key, ends) for key in ends}


def _first_of_its_own(key: str, ends: Mapping[str, Sequence[str]]) -> str:
    """The first end of a key that is none of another key's."""
    others = {end for other in ends if other != key for end in ends[other]}
    return next((end for end in ends[key] if end not in others), ends[key][-1])


def _ends(key: str) -> Iterator[str]:
    """A key's last part, in short, then with more and more sections before it."""
    parts = key.rpartition("@")[2].removesuffix(".id").split(".")
    parts[-1] = _SHORT.get(parts[-1], parts[-1])
    for start in reversed(range(len(parts))):
        if not parts[start].isdigit():  # A place in a list says nothing by itself.
            yield ".".join(parts[start:])


def compact(value: Json) -> str:
    """A value in a name: a number with at most four digits, and never a long text.

    Example:
        >>> [compact(x) for x in (0.0003, 0.99, 100_000, 1000, 1 / 3, True, None)]
        ['3e-4', '0.99', '1e5', '1000', '0.3333', 'true', 'null']
    """
    if isinstance(value, str):
        return shorten(value, _LONGEST_VALUE)
    if isinstance(value, float):
        return _number(value)
    text = json.dumps(value, separators=(",", ":"))
    first, zeros = text[:1], len(text) - 1
    if type(value) is int and zeros > 3 and text == f"{first}{'0' * zeros}":
        return f"{first}e{zeros}"
    return shorten(text, _LONGEST_VALUE)


def _number(value: float) -> str:
    """A number, with an exponent where that is shorter."""
    plain = f"{value:.4g}"
    digits, _, exponent = f"{value:.3e}".partition("e")
    if not exponent or value == 0 or 0.01 <= abs(value) < 10_000:
        return plain
    power = f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return min(plain, power, key=len)


def joined(*parts: str) -> str:
    """Parts of a name, in one line that trackers accept.

    Example:
        >>> joined("lr=3e-4", "seed 2")
        'lr=3e-4 · seed 2'
    """
    return shorten(_SEPARATOR.join(parts), _LONGEST_NAME)
