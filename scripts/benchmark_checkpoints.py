"""What saving a run costs, at three sizes of replay: a table.

    python scripts/benchmark_checkpoints.py [--rounds 5]

Ten members; their memories are filled by the run's own policy first. `waits` is what
the training thread spends on a save, `processor` what the whole process spends on it,
`share` the part of the time that this takes at one save a minute, two cores. `saved`
is a checkpoint as it is; `raw` and `all packed` pack no array and every one; `a tenth`
writes a tenth of the memory's rows: less than saving only what is new could cost.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax

import rl_grads as rg
from rl_grads.agents.schema import Convolution
from rl_grads.training import devices, run, state_files
from rl_grads.training.checkpoint import Checkpoints, Saved
from rl_grads.training.engine import Given

MEMBERS = 10
_MINUTE = 60.0
SIZES = {
    "CartPole, 10,000 transitions": ("gymnax/CartPole-v1", 10_000),
    "CartPole, 100,000 transitions": ("gymnax/CartPole-v1", 100_000),
    "MinAtar Breakout, 100,000 transitions": ("gymnax/Breakout-MinAtar", 100_000),
}


class Cost(NamedTuple):
    """Of one save: seconds of the training thread, of all threads, and bytes."""

    waits_s: float
    processor_s: float
    size: int


def state(environment: str, capacity: int) -> tuple[run.Plan, run.Snapshot]:
    """A population whose memories are full."""
    steps = capacity + 1000
    config = rg.replace(
        rg.Config(),
        {
            "env.id": environment,
            "agent.loss": "double_q_learning",
            "replay.capacity": capacity,
            "training.num_envs": 10,
            "training.warmup_steps": capacity,
            "training.total_steps": steps,
        },
    )
    if "MinAtar" in environment:
        config = rg.replace(config, {"network": Convolution()})
    plan = run.plan_for(Given(None, None), rg.population(config, seeds=range(MEMBERS)))
    return plan, run.start(plan)


def measure(members: Any) -> Cost:
    """Save once."""
    jax.block_until_ready(members)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        processor, began = time.process_time(), time.perf_counter()
        checkpoints.save(Saved(1, 0, tuple(range(MEMBERS)), members))
        waits = time.perf_counter() - began
        checkpoints.wait()
        processor = time.process_time() - processor
        checkpoints.close()
        files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()]
        return Cost(waits, processor, sum(p.stat().st_size for p in files))


def packed(kind: int) -> Callable[[Any], Cost]:
    """Save with every array packed, or none."""

    def save(members: Any) -> Cost:
        with mock.patch.object(state_files, "_packing", return_value=kind):
            return measure(members)

    return save


def tenth(members: Any) -> Cost:
    """Save a tenth of the memory's rows."""

    def first(leaf: jax.Array) -> jax.Array:
        large = leaf.ndim > 2 and leaf.shape[1] > 100
        return leaf[:, : leaf.shape[1] // 10] if large else leaf

    memory = jax.tree.map(first, members.memory)
    return measure(members._replace(memory=memory))


WAYS: dict[str, Callable[[Any], Cost]] = {
    "saved": measure,
    "raw": packed(zipfile.ZIP_STORED),
    "all packed": packed(zipfile.ZIP_DEFLATED),
    "a tenth": tenth,
}


def row(name: str, way: str, costs: list[Cost], memory: int) -> str:
    """A line of the table: medians."""
    waits = statistics.median(c.waits_s for c in costs)
    processor = statistics.median(c.processor_s for c in costs)
    cells = (
        name,
        way,
        f"{memory / 2**20:,.1f} MiB",
        f"{costs[0].size / 2**20:,.1f} MiB",
        f"{1000 * waits:,.0f} ms",
        f"{processor:.2f} s",
        f"{processor / 2 / _MINUTE:.2%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    devices.use_cores(devices.available_cores())
    print("| replay | way | state | on disk | waits | processor | share |")
    print("|---|---|---|---|---|---|---|")
    for name, (environment, capacity) in SIZES.items():
        members = run.state(*state(environment, capacity))
        for way, save in WAYS.items():
            costs = [save(members) for _ in range(rounds)]
            print(row(name, way, costs, _bytes(members)), flush=True)


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    main()
