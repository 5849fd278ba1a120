"""What the modules of `experiments/` share: an experiment's config becomes figures."""

import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import compose, errors
from rl_grads.training.schema import Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Config], Mapping[str, "Figure"]]
_FOLDER = pathlib.Path("figures")


def main(
    experiment: str, usage: str | None, draw: Draw, argv: Sequence[str] | None = None
) -> int:
    """Draw the figures of an experiment into `figures/`.

    Args:
        experiment: A name of `configs/experiment/`.
        usage: What `--help` prints.
        draw: Makes figures by name from the experiment's config.
        argv: `KEY=VALUE` arguments that change the config; by default the process's.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        print(usage)
        return 0
    call = functools.partial(_draw, experiment, draw, arguments)
    return errors.guard(f"python -m experiments.{experiment}", arguments, call)


def _draw(experiment: str, draw: Draw, argv: Sequence[str], tracebacks: bool) -> None:
    from rl_grads.training import backend

    config = configure(experiment, argv)
    backend.start(config)
    from rl_grads.analysis import plots

    for name, figure in draw(config).items():
        print("\n".join(map(str, plots.save(figure, _FOLDER / name))))


def configure(experiment: str, argv: Sequence[str] = ()) -> Config:
    """The config of an experiment, as `rl-grads train experiment=NAME` would have it.

    Args:
        experiment: A name of `configs/experiment/`.
        argv: `KEY=VALUE` arguments.

    Raises:
        ConfigError: And what Hydra raises; see `errors.explain`.
    """
    compose.store_schemas()
    arguments = [f"experiment={experiment}", *map(compose.spell, argv)]
    request = compose.read(arguments)
    with compose.composer(request) as composed:
        whole = composed(request.flags.overrides, False)
    return compose.to_config(compose.without_hydra(whole))
