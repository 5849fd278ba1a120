"""What is used of Hydra's private modules, and why there is no public way.

- `Hydra`: to compose a command line without running it, as `hydra.main` will; the
  public `hydra.compose` knows neither `--config-dir` nor the modes RUN and MULTIRUN.
- `create_config_search_path`: where that looks for configs, in `hydra.main`'s order.
- `get_args_parser`: to tell options from overrides before Hydra prints and exits.
- `BasicSweeper`: to split the values of a sweep as Hydra's own sweeper does.

Hydra 1.3 is pinned (`constraints.txt`); whoever raises it looks here first.
"""

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser

__all__ = ["BasicSweeper", "Hydra", "create_config_search_path", "get_args_parser"]
