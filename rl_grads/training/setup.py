"""What a run with files is made of."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from rl_grads.training.engine import Given
from rl_grads.training.places import Group
from rl_grads.training.population import Member
from rl_grads.training.provenance import Origin
from rl_grads.training.run import Callback


class Job(NamedTuple):
    """All that a process trains, of any structures.

    Attributes:
        members: How many.
        varied: Keys in which the points differ, of its own and of its sweep.
    """

    members: int
    varied: tuple[str, ...] = ()


class Setup(NamedTuple):
    """What a run with files is made of.

    Attributes:
        given: Agent and environment, where they do not come from the config.
        members: The members, of one structure.
        group: Their folders, which nobody else works in.
        origin: How the run was started.
        job: What these members are of.
        source: The folder whose state it continues, None for a run from the start.
        callback: Called with the step and the metrics `[members]` of each row, once it
            is written; None calls nobody.
    """

    given: Given
    members: Sequence[Member]
    group: Group
    origin: Origin
    job: Job
    source: pathlib.Path | None = None
    callback: Callback | None = None

    @property
    def home(self) -> pathlib.Path:
        """The population's folder."""
        assert self.group.home is not None
        return self.group.home

    @property
    def in_place(self) -> bool:
        """Whether the run goes on in its own folder."""
        return self.source is not None and self.source.resolve() == self.home.resolve()
