"""Config of how a sweep chooses its points, and cuts them into jobs. Imports no JAX."""

from rl_grads.config import at_least, config, setting


@config("sweep/grid")
class Grid:
    """Every combination of the values that the command line names."""

    members_per_job: int | None = setting(
        None,
        "most members that a job of a sweep trains at once; null: all that fit into "
        "one program",
        at_least(1),
    )
    population: int | None = setting(
        None, "train this population of the sweep alone, from 0 on", at_least(0)
    )
