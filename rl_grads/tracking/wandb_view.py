"""A view of a W&B project: its sections in the order in which they are read.

The page of a project has no order of its own but the alphabet. A view has one, and the
package `wandb-workspaces` makes it.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from rl_grads.tracking.labels import sections
from rl_grads.tracking.wandb import STEP

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

_OPEN = 4  # Sections whose plots are shown at once.
_MOST_LINES = 100


class Project(NamedTuple):
    """A project of W&B, and the team or user whose it is."""

    entity: str
    name: str


def view(project: Project, title: str, metrics: Iterable[str]) -> Workspace:
    """A view with a plot for every metric; nothing is contacted.

    Args:
        project: Where it will be.
        title: What it is called there.
        metrics: Their names. What else the project has gets its plots from W&B.

    Raises:
        ModuleNotFoundError: `wandb-workspaces` is not installed.
    """
    with warnings.catch_warnings():  # It declares its classes in an old way of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports.v2 import LinePlot
    groups = [
        workspaces.Section(
            name=section,
            panels=[LinePlot(x=STEP, y=[name]) for name in names],
            is_open=place < _OPEN,
        )
        for place, (section, names) in enumerate(sections(metrics).items())
    ]
    settings = workspaces.WorkspaceSettings(
        x_axis=STEP, group_by_prefix="first", max_runs=_MOST_LINES
    )
    return workspaces.Workspace(
        entity=project.entity,
        project=project.name,
        name=title,
        sections=groups,
        settings=settings,
        auto_generate_panels=True,
    )


def save(workspace: Workspace) -> str:
    """Save a view with W&B's server; its address."""
    with contextlib.redirect_stderr(io.StringIO()):  # It tells its address as well.
        return workspace.save().url
