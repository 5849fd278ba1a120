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
    if {"-m", "--multirun"} & set(argv):
        raise ConfigError(f"resume={asked[-1]}: expected without -m, for one run")
    run = _newest() if asked[-1] == "auto" else pathlib.Path(asked[-1])
    saved = run / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        expected = "expected a run directory (with .hydra/overrides.yaml) or auto"
        raise ConfigError(f"resume={asked[-1]}: {expected}")
    rest = [a for a in argv if not a.startswith("resume=")]
    overrides = [
        o for o in yaml.safe_load(saved.read_text()) if not o.startswith("resume=")
    ]
    home = _quoted(str(run))
    return [*overrides, *rest, f"resume={home}", f"hydra.run.dir={home}"]


def _quoted(text: str) -> str:
    """Text as Hydra's override grammar takes it, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


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
