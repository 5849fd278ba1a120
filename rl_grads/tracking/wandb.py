"""Weights & Biases: the runs of a point in one group."""

from __future__ import annotations

import netrc
import os
import pathlib
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rl_grads.tracking.background import IMPORTING
from rl_grads.tracking.files import Row
from rl_grads.tracking.run import Run, run_ids
from rl_grads.tracking.schema import WandB
from rl_grads.tracking.shown import Shown, config, final_values, shown, values
from rl_grads.typing import Document, Json

STEP = "env_steps"


def has_credentials() -> bool:
    """Whether W&B can log in without asking: an API key, or an entry in `.netrc`."""
    keys = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    if any(os.environ.get(key) for key in keys):
        return True
    url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    host = urllib.parse.urlsplit(url).hostname or url
    return any(host in _netrc_hosts(file) for file in files if file)


def _netrc_hosts(file: str) -> Iterable[str]:
    try:
        return netrc.netrc(os.path.expanduser(file)).hosts
    except (OSError, netrc.NetrcParseError):
        return ()


def resolve_mode(settings: WandB) -> str:
    """`online`, `offline` or `disabled`: what `auto` means here and now.

    `auto` follows `WANDB_MODE` where it is set, else it is online if there are
    credentials. Nothing is asked and nothing is contacted.
    """
    if settings.mode != "auto":
        return settings.mode
    wished = os.environ.get("WANDB_MODE")
    if wished in ("online", "offline", "disabled"):
        return wished
    return "online" if has_credentials() else "offline"


def default_entity() -> str | None:
    """The account's own team or user, as W&B's server says it; None: it says none."""
    import wandb

    return wandb.Api().default_entity


class WandBMirror:
    """Sends every row to the W&B run of its member, or of its point.

    The axis is `env_steps`. Files lie in `<run directory>/wandb`. Resuming goes on
    under the same ids: online, W&B says from which step; offline, the part written
    before is replaced, unless it has been synchronised already.

    Args:
        run: The run.
        mode: `online` or `offline`.
        resume: Go on with the run whose ids stand in the directory.

    Raises:
        RuntimeError: Online without credentials (W&B itself would ask for them).
    """

    def __init__(self, run: Run, mode: str, resume: bool):
        if mode == "online" and not has_credentials():
            raise RuntimeError("no credentials; run `wandb login` or set WANDB_API_KEY")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._run, self._shown = run, shown(run)
        ids = run_ids(run, "wandb", len(self._shown), resume)
        if mode == "offline" and resume:
            _remove_unsynced(run.directory, ids.before)
        self._runs: dict[Shown, Any] = {}

        def start(mirrored: Shown, id: str) -> None:
            self._runs[mirrored] = _start(run, mode, id, mirrored, resume)

        _in_parallel(start, zip(self._shown, ids.now, strict=True))

    def log(self, rows: Sequence[Row]) -> None:
        """Send what is shown of the rows of one step."""
        step = rows[0]["step"]
        for mirrored in self._shown:
            # A resumed run knows its earlier steps.
            if step >= self._runs[mirrored].starting_step:
                row = {STEP: step, **values(self._run, mirrored, rows)}
                self._runs[mirrored].log(row, step=step)

    def finish(self, summary: Mapping[str, Json]) -> None:
        """Send the final values and wait for the uploads."""

        def end(mirrored: Shown) -> None:
            self._runs[mirrored].summary.update(final_values(summary, mirrored.member))
            self._runs[mirrored].finish(exit_code=0 if summary else 1)

        _in_parallel(end, ((mirrored,) for mirrored in self._shown))


def _start(run: Run, mode: str, id: str, mirrored: Shown, resume: bool) -> Json:
    """Start one W&B run beside those that are active already."""
    with IMPORTING:
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # Logging in speaks before `init`.
    settings, labels = run.settings.wandb, _labels(run)
    handle = wandb.init(
        entity=settings.entity,
        project=settings.project,
        group=labels["group"] or run.group or run.name,
        job_type=run.job_type,
        name=mirrored.name,
        tags=list(dict.fromkeys((*run.tags, *labels["tags"]))),
        id=id,
        resume="allow" if resume and mode == "online" else None,
        dir=run.directory,
        config=config(run, mirrored),
        mode="online" if mode == "online" else "offline",
        reinit="create_new",
        settings=wandb.Settings(**_QUIET),
    )
    handle.define_metric(STEP)
    handle.define_metric("*", step_metric=STEP)
    return handle


def _labels(run: Run) -> Document:
    """Group and tags as the config shows them: what the environment said is not sent.

    (The project and its owner are where it is sent.)
    """
    shown = run.configs[0].get("tracking", {}).get("wandb", {})
    tags, settings = shown.get("tags"), run.settings.wandb
    return {
        "group": shown.get("group", settings.group),
        "tags": [tags] if isinstance(tags, str) else tags or settings.tags,
    }


# No console capture; ten runs would measure one machine and list its packages ten
# times; a server that does not answer is given up.
_QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "init_timeout": 30.0,
    "finish_timeout": 120.0,
}


def _remove_unsynced(directory: pathlib.Path, ids: Sequence[str]) -> None:
    for id in ids:
        for part in directory.glob(f"wandb/offline-run-*-{id}"):
            if not any(part.glob("*.wandb.synced")):
                shutil.rmtree(part)


def _in_parallel(call: Callable[..., None], arguments: Iterable[tuple]) -> None:
    """Call once per tuple, at the same time; the first error is raised at the end.

    Plain threads: executors refuse work once the main thread has ended.
    """
    errors: list[Exception] = []

    def guarded(*values: Json) -> None:
        try:
            call(*values)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=values) for values in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
