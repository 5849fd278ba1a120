"""Which runs the dashboard lists, and which of them it opens with: the newest.

Trackio's page asks once a second for the configs of all runs that are listed and for
the rows of all that are selected, at first all of them. From some hundreds on that is
more than a browser bears.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

LISTED = 200
_SELECTED = 64  # What the page asks for in one request.
_PAGES = ("/", "/metrics")
_CHOSEN = ("run_ids", "runs")


@contextlib.contextmanager
def listing(count: int) -> Iterator[None]:
    """Let Trackio know of the newest runs of a project alone.

    Args:
        count: How many.
    """
    from trackio.sqlite_storage import SQLiteStorage

    records, configs = SQLiteStorage.get_run_records, SQLiteStorage.get_all_run_configs

    def newest(project: str) -> list[dict[str, str | None]]:
        return records(project)[-count:]

    def their_configs(project: str) -> dict[str, dict]:
        known = {_key(run) for run in newest(project)}
        return {key: one for key, one in configs(project).items() if key in known}

    with mock.patch.multiple(
        SQLiteStorage,
        get_run_records=staticmethod(newest),
        get_all_run_configs=staticmethod(their_configs),
    ):
        yield


def newest_group(project: str) -> list[str]:
    """The ids of the newest run and of the others in its group, at most 64.

    Args:
        project: The project's name.

    Returns:
        None of them where the project has no others: the page selects all by itself.
    """
    from trackio.sqlite_storage import SQLiteStorage

    runs = [_key(run) for run in SQLiteStorage.get_run_records(project)]
    configs = SQLiteStorage.get_all_run_configs(project)
    groups = {run: (configs.get(run) or {}).get("_Group", run) for run in runs}
    alike = [run for run in runs if groups[run] == groups[runs[-1]]][-_SELECTED:]
    return [] if alike == runs else alike


def _key(run: dict[str, str | None]) -> str:
    """By what the page and the configs know a run."""
    return str(run["id"] or run["name"])


class OpensWithNewest:
    """Sends who asks for the page, and names no runs, to the address that names them.

    Args:
        app: What answers all other requests.
    """

    def __init__(self, app: "ASGIApp"):
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import RedirectResponse

        answer = self._app
        if scope["type"] == "http" and scope["path"] in _PAGES:
            request = Request(scope)
            if ids := await run_in_threadpool(_to_select, request):
                address = request.url.include_query_params(run_ids=",".join(ids))
                answer = RedirectResponse(address)
        await answer(scope, receive, send)


def _to_select(request: "Request") -> list[str]:
    """The runs with which the page is to open; none where that is not for us to say."""
    from trackio.sqlite_storage import SQLiteStorage

    asked = request.query_params
    if any(name in asked for name in _CHOSEN):
        return []
    projects = SQLiteStorage.get_projects()
    named = asked.get("project") or asked.get("selected_project")
    shown = named if named in projects else next(iter(projects), None)
    return newest_group(shown) if shown else []
