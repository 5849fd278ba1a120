"""`rl-grads train`: one population per point, its files and its trackers."""

import pathlib
from collections.abc import Sequence
from typing import Any

from rl_grads import register
from rl_grads.cli import compose, errors, plugins, resume

COMMAND = "rl-grads train"


def main(argv: Sequence[str]) -> int:
    """Train what the arguments say; returns the exit status."""
    return errors.guard(COMMAND, lambda: _main(argv))


def _main(argv: Sequence[str]) -> None:
    register.load_plugins()
    arguments = resume.expand(plugins.load(argv))
    compose.run(_task, arguments, COMMAND)


def _task(composed: Any) -> None:
    from hydra.core.hydra_config import HydraConfig

    config = compose.to_config(composed)
    directory = pathlib.Path(HydraConfig.get().runtime.output_dir)
    _train(config, directory)


def _train(config: Any, directory: pathlib.Path) -> None:
    """Start JAX as the config says, train, and show the result."""
    from rl_grads.training import backend

    backend.start(config)
    import rich.console

    from rl_grads.tracking.progress import result_table
    from rl_grads.training import devices
    from rl_grads.training.population import population
    from rl_grads.training.run import train

    console = rich.console.Console(stderr=True)
    console.print(f"Device: {devices.describe()}")
    result = train(members=population(config), run_dir=directory)
    rich.console.Console().print(result_table(result.summary(), _written(directory)))


def _written(directory: pathlib.Path) -> list[pathlib.Path]:
    names = ("metrics.jsonl", "summary.json", "checkpoints", "wandb")
    paths = [directory / name for name in names]
    return [path for path in paths if path.exists()]
