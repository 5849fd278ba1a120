"""`rl-grads dashboard`: Trackio's web page, for this machine alone.

The page is served on the loopback address, and answers only requests that name it: a
foreign page whose name is made to lead here (DNS rebinding) would read every config.
"""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from unittest import mock

from rl_grads.cli import dashboard_runs
from rl_grads.config import nearest
from rl_grads.tracking.labels import FIRST

_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost")


def main(argv: list[str]) -> int:
    """Serve the dashboard until Ctrl-C.

    Args:
        argv: Arguments after `rl-grads dashboard`.

    Returns:
        The exit code; 1 if Trackio does not let its page be guarded.

    Raises:
        SystemExit: Code 2 and a message for a bad argument or an unknown project.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    # Trackio would read these, and this page is for this machine alone.
    for name in ("GRADIO_SHARE", "TRACKIO_BUCKET_ID", "TRACKIO_SPACE_ID"):
        os.environ.pop(name, None)
    os.environ.setdefault("TRACKIO_PLOT_ORDER", ",".join(FIRST))
    with _whole_projects() as projects:
        if options.project and options.project not in projects:
            parser.error(_unknown(options.project, projects))
        with dashboard_runs.listing(options.last):
            return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    """Serve the page; Trackio's server is not started without the guard."""
    import trackio

    try:
        with _only_for(_NAMES, trackio):
            trackio.show(
                project=options.project,
                server_port=options.port,
                open_browser=not options.no_browser,
                share=False,
                host=_HOST,
                mcp_server=False,
            )
    except (AttributeError, OSError, RuntimeError) as error:
        _tell(f"Trackio cannot show its page: {error}")
        return 1
    return 0


def _tell(message: str) -> None:
    print(f"rl-grads dashboard: {message}", file=sys.stderr)


# ------------------------------------------------------------------------- who may ask


@contextlib.contextmanager
def _only_for(names: tuple[str, ...], trackio: ModuleType) -> Iterator[None]:
    """Let Trackio's application answer only where a request's `Host` is one of these.

    Trackio has no setting for it. It starts no other application than the one made
    here: a version that makes it in another way finds no server to start.
    """
    build, launch = trackio.build_starlette_app_only, trackio.launch_trackio_dashboard
    guarded: list[object] = []
    with (
        mock.patch.object(
            trackio,
            "build_starlette_app_only",
            functools.partial(_built, build, names, guarded),
        ),
        mock.patch.object(
            trackio,
            "launch_trackio_dashboard",
            functools.partial(_launched, launch, guarded),
        ),
    ):
        yield


def _built(
    build: Callable,
    names: tuple[str, ...],
    guarded: list[object],
    *args: object,
    **kw: object,
) -> tuple:
    """Trackio's application, behind the check of the host."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    application, *rest = build(*args, **kw)
    application.add_middleware(dashboard_runs.OpensWithNewest)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=list(names))
    guarded.append(application)
    return application, *rest


def _launched(
    launch: Callable, guarded: list[object], application: object, **kw: object
) -> tuple:
    """Start the application, which has to be one behind the check."""
    if not any(application is known for known in guarded):
        raise RuntimeError("its application is not the one whose hosts are checked")
    return launch(application, **kw)


# --------------------------------------------------------------------- what there is


@contextlib.contextmanager
def _whole_projects() -> Iterator[list[str]]:
    """The projects that can be shown; each that cannot is said, and left out."""
    from trackio.sqlite_storage import SQLiteStorage

    listed, damaged = SQLiteStorage.get_projects, set()
    for project in listed():
        try:
            SQLiteStorage.init_db(project)
        except Exception as error:  # Of SQLite, of the file system or of Trackio.
            damaged.add(project)
            path = SQLiteStorage.get_project_db_path(project)
            _tell(f"{path}: left out, as it cannot be read ({error})")

    def whole() -> list[str]:
        return [project for project in listed() if project not in damaged]

    with mock.patch.object(SQLiteStorage, "get_projects", staticmethod(whole)):
        yield whole()


def _unknown(project: str, projects: list[str]) -> str:
    known = ", ".join(projects) or "none has been logged yet"
    hint = nearest(project, projects)
    return f"--project={project}: expected a project with runs ({known}){hint}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rl-grads dashboard", description="Show runs in Trackio's local web page."
    )
    parser.add_argument("--project", help="project to open; default: choose there")
    parser.add_argument("--port", type=int, help="port; default: the first free one")
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open a browser window"
    )
    parser.add_argument(
        "--last",
        type=_count,
        default=dashboard_runs.LISTED,
        metavar="COUNT",
        help="how many runs of a project are listed, the newest "
        f"(default: {dashboard_runs.LISTED})",
    )
    return parser


def _count(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer in [1, inf), got {text}")
    return int(text)
