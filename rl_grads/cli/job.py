"""What a training job must know beside its config."""

import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rl_grads.training.provenance import Origin

COMMAND = "rl-grads train"


class Job(NamedTuple):
    """What a job must know beside its config.

    Attributes:
        command: The command line.
        plugins: Modules to import in the job's own process.
        config_dir: The user's own folder of configs, if one was given.
        tracebacks: Whether bad input shows one.
        table: `"short"` or `"full"`, the table at the end.
        planned: Whether a sweep is laid out only, and not trained.
        swept: Keys that differ between the points of a sweep.
        sweep: The folder of the sweep, if it is one.
        going_on: Whether points that the folder has are not run again.
        again: The command that goes on with its sweep.
    """

    command: tuple[str, ...]
    plugins: Sequence[str]
    config_dir: str | None
    tracebacks: bool
    table: str = "short"
    planned: bool = False
    swept: Sequence[str] = ()
    sweep: str | None = None
    going_on: bool = False
    again: str = ""

    def options(self) -> Iterator[str]:
        """The options with which the run was made, and has to be resumed."""
        for name in self.plugins:
            yield f"--plugin {shlex.quote(name)}"
        if self.config_dir is not None:
            yield f"--config-dir {shlex.quote(self.config_dir)}"

    def of_sweep(self, directory: pathlib.Path) -> "Job":
        """The job for runs of a sweep that go on; itself where the folder is none's.

        Raises:
            ConfigError: The folder says what no sweep of ours would.
        """
        from rl_grads.tracking import sweep as sweeps

        if not sweeps.is_sweep(directory):
            return self
        entries = sweeps.read(directory).entries
        keys = (text.partition("=")[0] for entry in entries for text in entry.overrides)
        return self._replace(sweep=str(directory), swept=tuple(dict.fromkeys(keys)))

    def origin(
        self, choices: Mapping[str, str], unresolved: Mapping[str, str]
    ) -> "Origin":
        """How the job's runs are made, for their `run.json`."""
        from rl_grads.training.provenance import Origin

        return Origin(
            command=self.command,
            plugins=tuple(self.plugins),
            config_dir=self.config_dir,
            choices=choices,
            unresolved=unresolved,
            sweep=self.sweep,
            swept=tuple(self.swept),
        )
