"""`rl-grads wandb view RUN`: a view of a W&B project, in the order of reading."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rl_grads.cli import sync
from rl_grads.config import ConfigError
from rl_grads.tracking import folder
from rl_grads.tracking.files import LABELS, read_rows
from rl_grads.tracking.schema import WandB


def main(argv: Sequence[str]) -> int:
    """Save a view with W&B's server, and print its address.

    Args:
        argv: Arguments after `rl-grads wandb`.

    Returns:
        The exit code: 0 if it is saved, 1 if it could not be.

    Raises:
        SystemExit: Code 2 and a message for a bad argument, where there are no
            credentials, or where the server does not answer.
    """
    parser = _parser()
    options = parser.parse_args(list(argv))
    try:
        metrics = logged(pathlib.Path(options.path))
    except ConfigError as error:
        parser.error(str(error))
    sync.check_server(parser)
    try:
        print(_saved(options, metrics))
    except Exception as error:  # Of W&B, of its package or of the network.
        print(f"{parser.prog}: not saved ({_reason(error)})", file=sys.stderr)
        return 1
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "expected its package: pip install wandb-workspaces"
    return " ".join(str(error).split()) or type(error).__name__


def _saved(options: argparse.Namespace, metrics: Sequence[str]) -> str:
    from rl_grads.tracking import wandb, wandb_view

    entity = options.entity or wandb.default_entity()
    if entity is None:
        raise ConfigError("--entity: expected a team or user, the account names none")
    project = wandb_view.Project(entity, options.project)
    return wandb_view.save(wandb_view.view(project, options.title, metrics))


def logged(path: pathlib.Path) -> list[str]:
    """The metrics of a run, or of the first point of a sweep.

    Raises:
        ConfigError: There are none.
    """
    files = [path / folder.ROWS, *sorted(path.glob(f"*/{folder.ROWS}"))]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ConfigError(f"{path}: expected the folder of a run or of a sweep")
    names = (name for rows in read_rows(found) for name in rows[0])
    return [name for name in dict.fromkeys(names) if name not in LABELS]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rl-grads wandb",
        description="Save a view of a W&B project: evaluation, training, loss, "
        "gradient, then the other sections, with a plot for each metric of a run.",
    )
    default = WandB()
    parser.add_argument("what", choices=["view"], help="what to make")
    parser.add_argument("path", metavar="RUN", help="a run or a sweep of the project")
    parser.add_argument("--project", default=default.project, help="the W&B project")
    parser.add_argument("--entity", help="team or user; default: the account's own")
    parser.add_argument("--title", default="rl_grads", help="what the view is called")
    return parser
