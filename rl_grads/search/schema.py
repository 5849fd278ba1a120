"""Config of how a sweep chooses its points, and cuts them into jobs. Imports no JAX."""

from rl_grads.config import at_least, between, config, setting


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


@config("sweep/random")
class Random(Grid):
    """Points drawn at random: each value by itself (Bergstra & Bengio 2012)."""

    points: int = setting(16, "how many points are drawn", at_least(1))
    seed: int = setting(0, "of the drawing", between(0, 2**32 - 1))


@config("sweep/sobol")
class Sobol(Grid):
    """Points of a scrambled Sobol sequence: they leave no gaps (Owen 1998)."""

    points: int = setting(16, "how many points; best a power of two", at_least(1))
    seed: int = setting(0, "of the scrambling", between(0, 2**32 - 1))
