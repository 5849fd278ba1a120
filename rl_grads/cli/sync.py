"""`rl-grads sync PATH`: upload every offline W&B run below a folder."""

import argparse
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_SECONDS = 10  # For the server to answer at all; `wandb sync` would try for ever.


class Offline(NamedTuple):
    """An offline run of W&B.

    Attributes:
        directory: `.../wandb/offline-run-<time>-<id>`.
        file: The file in it that is uploaded.
    """

    directory: pathlib.Path
    file: pathlib.Path

    @property
    def is_uploaded(self) -> bool:
        """Whether `wandb sync` has marked it as uploaded."""
        return self.file.with_name(f"{self.file.name}.synced").exists()


def main(argv: Sequence[str]) -> int:
    """Upload offline runs, one folder after the other, in order of their start.

    Args:
        argv: Arguments after `rl-grads sync`.

    Returns:
        The exit code: 0 if all are uploaded, 1 if some could not be.

    Raises:
        SystemExit: Code 2 and a message for a bad argument, where there are no
            credentials, or where the server does not answer.
    """
    parser = _parser()
    options = parser.parse_args(list(argv))
    folder = pathlib.Path(options.path)
    if not folder.is_dir():
        parser.error(f"{folder}: expected a folder with runs")
    found = list(offline_runs(folder))
    waiting = [run for run in found if not run.is_uploaded]
    print(
        f"{folder}: {_count(len(found))}, {len(found) - len(waiting)} uploaded before"
    )
    if options.dry_run or not waiting:
        for run in waiting:
            print(run.directory)
        return 0
    check_server(parser)
    return _upload(waiting)


def offline_runs(folder: pathlib.Path) -> Iterator[Offline]:
    """Every offline run of W&B below a folder, in order of their start.

    Args:
        folder: A run, a sweep, or what holds them.
    """
    pattern = "offline-run-*-*/run-*.wandb"
    files = (*folder.rglob(pattern), *folder.glob("run-*.wandb"))
    for file in sorted(set(files), key=lambda file: (file.parent.name, file)):
        yield Offline(file.parent, file)


def _upload(waiting: Sequence[Offline]) -> int:
    """Upload one after the other, and say what became of each."""
    uploaded = 0
    for run in waiting:
        failed = _synced(run)
        uploaded += not failed
        print(f"{run.directory}: {failed or 'uploaded'}", flush=True)
    print(f"{uploaded} of {_count(len(waiting))} uploaded")
    return 0 if uploaded == len(waiting) else 1


def _synced(run: Offline) -> str:
    """Call `wandb sync`; why it failed, empty where it did not."""
    command = [sys.executable, "-m", "wandb", "sync", str(run.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and run.is_uploaded:
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    told = [line for line in lines if "error" in line.lower()] or lines or [""]
    return f"not uploaded ({told[-1] or f'exit status {done.returncode}'})"


def check_server(parser: argparse.ArgumentParser) -> None:
    """Refuse what `wandb sync` would wait for without an end, or ask for."""
    from rl_grads.tracking.wandb import has_credentials

    if not has_credentials():
        parser.error("no credentials; run `wandb login` or set WANDB_API_KEY")
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        urllib.request.urlopen(url, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # It answers.
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        parser.error(f"{url}: expected W&B's server to answer ({reason})")


def _count(number: int) -> str:
    return f"{number} offline run" if number == 1 else f"{number} offline runs"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rl-grads sync", description="Upload every offline W&B run below a folder."
    )
    parser.add_argument("path", metavar="PATH", help="a run, a sweep, or their folder")
    parser.add_argument(
        "--dry-run", action="store_true", help="name what would be uploaded"
    )
    return parser
