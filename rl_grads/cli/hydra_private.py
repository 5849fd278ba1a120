"""What is used of Hydra's private modules, and why there is no public way.

- `Hydra`: to compose a command line without running it, as `hydra.main` will; the
  public `hydra.compose` knows neither `--config-dir` nor the modes RUN and MULTIRUN.
- `create_config_search_path`: where that looks for configs, in `hydra.main`'s order.
- `get_args_parser`: to tell options from overrides before Hydra prints and exits.
- `Completion`: Hydra's own completion, which it hands out as scripts of one command
  alone; its plugins have only a private method that answers.
- `BasicSweeper`: to split the values of a sweep as Hydra's own sweeper does.

Hydra 1.3 is pinned (`constraints.txt`); whoever raises it looks here first.
"""

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.plugins.completion_plugin import DefaultCompletionPlugin


class Completion(DefaultCompletionPlugin):
    """What may come next in a line of overrides."""

    def after(self, line: str) -> list[str]:
        """What the last word of a line may become."""
        return self._query("train", line)

    def install(self) -> None:
        """Of no use here, as the others."""

    def uninstall(self) -> None:
        """Nothing."""

    def query(self, config_name: str | None) -> None:
        """Nothing."""

    @staticmethod
    def provides() -> str:
        """No shell."""
        return ""

    @staticmethod
    def help(command: str) -> str:
        """Nothing."""
        return ""


__all__ = [
    "BasicSweeper",
    "Completion",
    "Hydra",
    "create_config_search_path",
    "get_args_parser",
]
