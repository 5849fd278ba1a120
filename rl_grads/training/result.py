"""What a run gives back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_grads.analysis.statistics import summarise
from rl_grads.envs.faults import EnvironmentFailed
from rl_grads.training.places import differing, points_of
from rl_grads.training.population import Member
from rl_grads.typing import Document, Json


class Timing(NamedTuple):
    """What training took; a resumed run counts from where it was resumed.

    Attributes:
        wall_s: Wall-clock seconds.
        compile_s: Seconds of backend compilation, of all threads together.
        steps: Environment steps of all members together, without warming up.
    """

    wall_s: float
    compile_s: float
    steps: int


class Result(NamedTuple):
    """The outcome of training.

    Attributes:
        members: The members, in the order they were given.
        steps: Environment steps at each logged row, `[time]`.
        metrics: Metric to values `[members, time]`; nan where it was not measured.
        params: Final parameters of each member, or their average where one is kept.
        diverged_at: Environment step of each member's first non-finite gradient, -1
            if there was none.
        timing: Where the time went.
        device: The device in words.
        halted_at: Environment step per member at which it was asked to stop; None
            where it came to its end.
        unusable: Of each member, the environment step of the first `"reward"` and of
            the first `"observation"` that was not finite, where there was one.
        failure: What an environment on the host has raised; None if nothing. Rows and
            parameters are then those before it.
    """

    members: tuple[Member, ...]
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    params: tuple[Any, ...]
    diverged_at: tuple[int, ...]
    timing: Timing
    device: str
    halted_at: int | None = None
    unusable: tuple[Mapping[str, int], ...] = ()
    failure: EnvironmentFailed | None = None

    @property
    def status(self) -> str:
        """`failed`, `interrupted`, `diverged` (a member is) or `finished`."""
        if self.failure is not None:
            return "failed"
        if self.halted_at is not None:
            return "interrupted"
        return "diverged" if any(at >= 0 for at in self.diverged_at) else "finished"

    def select(self, members: Sequence[int]) -> "Result":
        """The result of some members alone; what it took is that of all."""
        index = list(members)
        return self._replace(
            members=tuple(self.members[i] for i in index),
            metrics={name: values[index] for name, values in self.metrics.items()},
            params=tuple(self.params[i] for i in index),
            diverged_at=tuple(self.diverged_at[i] for i in index),
            unusable=tuple(self.unusable[i] for i in index if self.unusable),
        )

    def points(self) -> tuple["Result", ...]:
        """A result for each config: its members differ in their seeds alone."""
        return tuple(self.select(index) for index in points_of(self.members))

    def final(self) -> dict[str, np.ndarray]:
        """The last measured value of every metric, `[members]`."""
        return {name: _last(values) for name, values in self.metrics.items()}

    def summary(self) -> Document:
        """Final metrics with their statistics over members, and how the run went.

        Raises:
            ValueError: Members differ in more than their seeds; nothing is averaged
                over such (see `points`).
        """
        if len(points_of(self.members)) > 1:
            raise ValueError(
                "summary: expected members that share a config; points() has a result "
                "for each config"
            )
        env_steps = int(self.steps[-1]) if len(self.steps) else 0
        diverged = {m: at for m, at in enumerate(self.diverged_at) if at >= 0}
        running = max(self.timing.wall_s - self.timing.compile_s, 1e-9)
        return {
            **{name: summarise(values) for name, values in self.final().items()},
            "status": self.status,
            "diverged": {str(m): at for m, at in diverged.items()},
            "notes": self.notes(),
            "seeds": [m.seed for m in self.members],
            "env_steps": env_steps,
            "wall_s": self.timing.wall_s,
            "compile_s": self.timing.compile_s,
            "steps_per_s": self.timing.steps / running,
            "device": self.device,
        }

    def notes(self) -> list[str]:
        """What one should know before using the numbers, a line each."""
        return [*self._not_finite(), *self._left_out()]

    def _not_finite(self) -> Iterator[str]:
        """Who met something that was not finite, what, and when."""
        kinds = {
            kind: [found.get(kind, -1) for found in self.unusable]
            for kind in ("observation", "reward")
        }
        kinds["gradient"] = [*self.diverged_at]
        for kind, steps in kinds.items():
            met = {m: at for m, at in enumerate(steps) if at >= 0}
            if met:
                who = ", ".join(
                    f"{self.members[m].seed} (step {at:,})" for m, at in met.items()
                )
                end = ", and learning stopped there" if kind == "gradient" else ""
                plural = "s" if len(met) > 1 else ""
                yield f"a {kind} was not finite{end}: seed{plural} {who}"

    def _left_out(self) -> list[str]:
        left_out = self.metrics.get("replay/left_out", np.zeros(1))
        most = np.nanmax(left_out, initial=0.0)
        if not most > 0:
            return []
        return [
            f"replay/left_out: up to {most:.2%} of the stored transitions were never "
            "drawn, as their final observations were written over: the environment "
            "truncates episodes sooner than its time_limit says (1 is always right)"
        ]

    def frame(self) -> Json:
        """All rows as a pandas DataFrame: `step, member, seed`, then the metrics.

        Where configs differ, every key in which they do is a column before the metrics.
        """
        import pandas

        shape = (len(self.members), len(self.steps))
        seeds = np.array([m.seed for m in self.members])
        columns = {
            "step": np.broadcast_to(self.steps, shape),
            "member": np.broadcast_to(np.arange(shape[0])[:, None], shape),
            "seed": np.broadcast_to(seeds[:, None], shape),
            **{
                key: np.broadcast_to(np.array(values)[:, None], shape)
                for key, values in differing(self.members).items()
            },
            **self.metrics,
        }
        return pandas.DataFrame({k: np.ravel(v) for k, v in columns.items()})


def _last(values: np.ndarray) -> np.ndarray:
    """Each member's last measured value; nan where it never was measured."""
    back = np.argmax(~np.isnan(values[:, ::-1]), axis=1)
    return values[np.arange(len(values)), values.shape[1] - 1 - back]


def join(results: list[Result], order: list[int]) -> Result:
    """One result of several populations; `order` gives each member's place."""
    steps = np.unique(np.concatenate([r.steps for r in results]))
    names = list(dict.fromkeys(name for r in results for name in r.metrics))
    place = np.argsort(order)
    metrics = {
        name: np.concatenate([_aligned(r, name, steps) for r in results])[place]
        for name in names
    }
    return Result(
        members=_ordered([m for r in results for m in r.members], place),
        steps=steps,
        metrics=metrics,
        params=_ordered([p for r in results for p in r.params], place),
        diverged_at=_ordered([d for r in results for d in r.diverged_at], place),
        timing=Timing(*map(sum, zip(*(r.timing for r in results), strict=True))),
        device=results[0].device,
        halted_at=results[-1].halted_at,
        unusable=_ordered([u for r in results for u in r.unusable], place),
        failure=next((r.failure for r in results if r.failure), None),
    )


def _ordered(values: list[Json], place: np.ndarray) -> tuple[Json, ...]:
    return tuple(values[i] for i in place)


def _aligned(result: Result, name: str, steps: np.ndarray) -> np.ndarray:
    values = np.full((len(result.members), len(steps)), np.nan)
    if name in result.metrics:
        values[:, np.searchsorted(steps, result.steps)] = result.metrics[name]
    return values
