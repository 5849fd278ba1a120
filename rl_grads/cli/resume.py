"""`resume=RUN`: the arguments that continue a run in its own directory."""

import pathlib
from collections.abc import Sequence

import yaml

from rl_grads.config import ConfigError


def expand(argv: Sequence[str]) -> list[str]:
    """Replace `resume=RUN` by the run's saved overrides and its directory.

    Arguments beside it come last and win, so a run can be continued for longer.

    Raises:
        ConfigError: There is no such run, or none to continue for `resume=auto`.
    """
    asked = [a.partition("=")[2] for a in argv if a.startswith("resume=")]
    if not asked or asked[-1] in ("null", ""):
        return list(argv)
    run = _newest() if asked[-1] == "auto" else pathlib.Path(asked[-1])
    saved = run / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        raise ConfigError(f"resume={asked[-1]}: expected a run directory")
    rest = [a for a in argv if not a.startswith("resume=")]
    overrides = [o for o in yaml.safe_load(saved.read_text()) if "resume=" not in o]
    return [*overrides, *rest, f"resume={run}", f"hydra.run.dir={run}"]


def _newest() -> pathlib.Path:
    """The newest run below `runs/` that has checkpoints and no summary."""
    found = [
        path.parent
        for path in pathlib.Path("runs").glob("**/checkpoints")
        if not (path.parent / "summary.json").exists()
    ]
    if not found:
        raise ConfigError("resume=auto: expected an unfinished run with checkpoints")
    return max(found, key=lambda run: run.stat().st_mtime)
