"""`rl-grads anatomy`: the batch of one update of a run, example by example."""

import argparse
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import errors, plugins
from rl_grads.config import ConfigError
from rl_grads.training.schema import Config
from rl_grads.typing import Document, Observation

if TYPE_CHECKING:
    from rl_grads.inspection.anatomy import Anatomy, Which
    from rl_grads.training.recorded import Recorded

COMMAND = "rl-grads anatomy"
_SHOWN = 8  # Numbers of an observation that fit into a line.
_DIRECTIONS = ("gtd2", "tdc", "tdrc", "qrc")
_ABOUT = """\
Name the examples with the largest gradients in the batch of one update of a run, and
draw them. The run is repeated up to that update, from its newest checkpoint before it
or from its start, and must come out as it was recorded."""


def main(argv: Sequence[str]) -> int:
    """Print a table of the largest gradients and draw the batch.

    Args:
        argv: Arguments after `rl-grads anatomy`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    return errors.guard(COMMAND, argv, lambda _: _main(argv))


def _main(argv: Sequence[str]) -> None:
    names, rest = plugins.split(argv)
    options = _parser().parse_args(rest)
    if options.top < 1:
        raise ConfigError(f"--top={options.top}: expected an integer in [1, inf)")
    plugins.load(names)
    from rl_grads.training import backend, recorded

    run = recorded.read(options.run)
    _check_asks(run)
    config = run.config
    backend.start(config)
    from rl_grads.inspection.anatomy import Which, anatomy

    which = Which(options.step, options.member, options.update)
    found = anatomy(recorded.population(run), options.run, which)
    top = found.top(options.top)
    lines = [*_head(found, which, config), "", *_table(found, top), ""]
    print("\n".join(lines))
    print("\n".join(str(path) for path in _write(found, which, options, top)))


def _check_asks(run: "Recorded") -> None:
    """Refuse a run whose program depends on what the environment said."""
    for key, text in run.asks.items():
        if not key.startswith(("tracking.", "run.")):
            raise ConfigError(
                f"{run.directory}: {key}={text}: expected a value; it reads the "
                "environment, and what a folder says never does"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description=_ABOUT,
        epilog="--plugin MODULE imports a module that the run was trained with.",
    )
    parser.add_argument(
        "run", type=pathlib.Path, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--step",
        type=int,
        required=True,
        metavar="N",
        help="environment step of a member; its iteration's update is taken apart",
    )
    parser.add_argument(
        "--member", type=int, default=0, metavar="K", help="default: 0, the first"
    )
    parser.add_argument(
        "--update",
        type=int,
        metavar="U",
        help="which of the iteration's updates, from 1 (default: the last)",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="COUNT", help="default: 5"
    )
    parser.add_argument(
        "--to",
        type=pathlib.Path,
        metavar="STEM",
        help="write STEM.png, STEM.pdf and STEM.json (default: into RUN)",
    )
    return parser


# ------------------------------------------------------------------------ what it says


def _head(found: "Anatomy", which: "Which", config: Config) -> Iterable[str]:
    """Which update, how it was had again, and what its batch is."""
    updates, size = config.training.updates_per_iteration, len(found.norms)
    yield (
        f"Update {found.update} of {updates} at step {found.step:,} of member "
        f"{which.member} (seed {found.seed}): a batch of {size}."
    )
    yield (
        f"Repeated from step {found.begun_at:,}; what was recorded from there to "
        f"beyond the update ({_count(found.rows, 'row')}) came out the same, bit for "
        "bit."
    )
    if config.replay is not None and size > config.training.batch_size:
        drawn = config.training.batch_size
        yield f"Out of these the update drew {drawn} by their norms."
    name = getattr(config.agent, "td_gradient", "semi")
    if name in _DIRECTIONS:
        yield f"The update itself is the direction of agent.td_gradient={name}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _table(found: "Anatomy", top: Sequence[int]) -> Iterable[str]:
    """A line per example."""
    total = float((found.norms**2).sum())
    weights = found.weights
    head = ["example", "norm", "of batch", "TD error", "reward", "action"]
    rows = [
        [
            *head,
            *(["weight"] if weights is not None else []),
            *found.shares,
            "observation",
        ]
    ]
    for i in top:
        cells = [f"#{i}", f"{found.norms[i]:.4g}", _part(found.norms[i] ** 2 / total)]
        cells += [f"{found.td_error[i]:.4g}", f"{found.batch.r_t[i]:g}"]
        cells += [str(found.batch.a_tm1[i])]
        cells += [] if weights is None else [f"{weights[i]:.3g}"]
        cells += [_part(share[i]) for share in found.shares.values()]
        rows.append([*cells, _observation(found.batch.s_tm1[i])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, last in rows:
        told = [cell.rjust(w) for cell, w in zip(cells, widths, strict=False)]
        yield "  ".join([*told, last])


def _part(value: float) -> str:
    return f"{value:.1%}" if value == value else "-"


def _observation(obs: Observation) -> str:
    """All numbers of a small one, else its shape and how many are not zero."""
    if obs.size <= _SHOWN:
        return "[" + ", ".join(f"{x:.3g}" for x in obs.ravel()) + "]"
    shape = " x ".join(map(str, obs.shape))
    return f"{shape}, {int((obs != 0).sum())} not zero"


# --------------------------------------------------------------------- what it writes


def _write(
    found: "Anatomy", which: "Which", options: argparse.Namespace, top: Sequence[int]
) -> list[pathlib.Path]:
    """The picture, and the numbers of the examples in full."""
    from rl_grads.analysis import examples, plots
    from rl_grads.tracking.files import write_json

    title = name_update(found.step, which.member, found.update, len(found.norms))
    given = examples.Gradients(found.norms, found.td_error, found.shares, found.cosines)
    stem = options.to or options.run / _name(found, which)
    json = stem.with_name(f"{stem.name}.json")
    try:
        written = plots.save(examples.figure(given, top, title), stem)
        write_json(json, _document(found, which, top))
    except OSError as error:
        expected = f"expected a path that can be written ({error.strerror})"
        raise ConfigError(f"--to={stem}: {expected}") from error
    return [*written, json]


def name_update(step: int, member: int, update: int, size: int) -> str:
    """What stands above the picture.

    Example:
        >>> name_update(5750, 1, 10, 64)
        'step 5,750, member 1, update 10: n = 64 examples'
    """
    return f"step {step:,}, member {member}, update {update}: n = {size} examples"


def _name(found: "Anatomy", which: "Which") -> str:
    return f"anatomy_{found.step}_member_{which.member}_update_{found.update}"


def _document(found: "Anatomy", which: "Which", top: Sequence[int]) -> Document:
    batch = {k: v for k, v in found.batch._asdict().items() if v is not None}
    chosen = [
        {"example": int(i), "gradient_norm": found.norms[i]}
        | {"td_error": found.td_error[i]}
        | ({} if found.weights is None else {"weight": found.weights[i]})
        | {"shares": {name: share[i] for name, share in found.shares.items()}}
        | {name: values[i] for name, values in batch.items()}
        for i in top
    ]
    return {
        "step": found.step,
        "member": which.member,
        "seed": found.seed,
        "update": found.update,
        "repeated_from_step": found.begun_at,
        "rows_repeated": found.rows,
        "metrics_differ_by": found.drift,
        "top": chosen,
        "gradient_norms": found.norms,
        "td_errors": found.td_error,
        "cosines": found.cosines,
    }
