"""`rl-grads dashboard`: Trackio's web page on this machine."""

import argparse
import os

from rl_grads.config import nearest


def main(argv: list[str]) -> int:
    """Serve the dashboard until Ctrl-C.

    Args:
        argv: Arguments after `rl-grads dashboard`.

    Returns:
        The exit code.

    Raises:
        SystemExit: Code 2 and a message for a bad argument or an unknown project.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    # Trackio would read these, and this page is for this machine alone.
    for name in ("GRADIO_SHARE", "TRACKIO_BUCKET_ID", "TRACKIO_SPACE_ID"):
        os.environ.pop(name, None)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    projects = SQLiteStorage.get_projects()
    if options.project and options.project not in projects:
        parser.error(_unknown(options.project, projects))
    trackio.show(
        project=options.project,
        server_port=options.port,
        open_browser=not options.no_browser,
        share=False,
    )
    return 0


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
    return parser
