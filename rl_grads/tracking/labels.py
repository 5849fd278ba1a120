"""What the mirrors call a run, and under what it is found there."""

import pathlib
from typing import NamedTuple

_TOPS = ("runs", "sweeps", "")
_LONGEST_TAG = 64  # W&B refuses a run with a longer one.


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
