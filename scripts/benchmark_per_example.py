"""Per-example gradients against one batch gradient, in one process.

    python scripts/benchmark_per_example.py [--rounds 40]

Every side is one jitted call on the same batch; the sides take turns. A ratio is the
median, over rounds, of the time of a side over that of the batch gradient in the same
round; memory is the temporary memory that the compiler reserves, likewise as a ratio. A
row that misses an aim says so.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, Convolution
from rl_grads.autodiff import per_example
from rl_grads.training import devices

ACTIONS = 6


class Case(NamedTuple):
    """A loss of one example, and parameters and a batch (for each of many members)."""

    name: str
    size: int
    members: int
    loss: Callable[..., jax.Array]
    params: Any
    batch: tuple[jax.Array, ...]
    most: float  # Aim for gradient and norms, and for the clipped gradient.


def case(
    name: str,
    network: Any,
    obs: tuple[int, ...],
    size: int,
    most: float = 1.1,
    members: int = 1,
) -> Case:
    """Regression of the value of one action."""

    def loss(params: Any, obs: jax.Array, action: jax.Array, target: jax.Array) -> Any:
        return 0.5 * jnp.square(network.apply(params, obs)[action] - target)

    keys = jax.random.split(jax.random.key(0), 4)
    batch = (
        jax.random.normal(keys[0], (size, *obs)),
        jax.random.randint(keys[1], (size,), 0, ACTIONS),
        jax.random.normal(keys[2], (size,)),
    )
    params = network.init(keys[3], batch[0][0])
    if members > 1:
        params, batch = jax.tree.map(
            lambda x: jnp.stack([x] * members), (params, batch)
        )
    return Case(name, size, members, loss, params, batch, most)


class Attention(nn.Module):
    """One self-attention block over 16 tokens, and a linear output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(256)(x)
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=4)(x))
        return nn.Dense(ACTIONS)(nn.relu(nn.Dense(512)(x)).mean(0))


class Recurrent(nn.Module):
    """A GRU over 16 steps, and a linear output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(ACTIONS)(nn.RNN(nn.GRUCell(128))(x)[-1])


def _mlp(width: int) -> Any:
    return networks.mlp(MLP((width, width)), ACTIONS)


def cases() -> list[Case]:
    """What is measured; the aims are those of fully connected and MinAtar networks."""
    dense = [
        case(f"MLP 2x{width}", _mlp(width), (64,), size)
        for width in (256, 512)
        for size in (256, 1024)
    ]
    minatar = (networks.convolution(Convolution(), ACTIONS), (10, 10, 4))
    return [
        *dense,
        case("MLP 2x256, 5 members", _mlp(256), (64,), 256, members=5),
        case("MLP 2x512, 5 members", _mlp(512), (64,), 1024, members=5),
        *(case("MinAtar conv", *minatar, size, 0.5) for size in (32, 256)),
        case("MinAtar conv, 5 members", *minatar, 32, 0.5, members=5),
        case("MinAtar conv, 5 members", *minatar, 256, 0.5, members=5),
        case("attention, 16 tokens", Attention(), (16, 32), 64, float("inf")),
        case("GRU, 16 steps", Recurrent(), (16, 32), 64, float("inf")),
    ]


def programs(case: Case) -> dict[str, Any]:
    """The sides, compiled; `batch` is the floor."""

    def total(params: Any, *batch: Any) -> jax.Array:
        axes = (None, *(0,) * len(batch))
        return jnp.mean(jax.vmap(case.loss, axes)(params, *batch))

    def both(params: Any, *batch: Any) -> Any:
        return per_example.gradient_with_norms(case.loss)(params, None, *batch)

    def clipped(params: Any, *batch: Any) -> Any:
        return per_example.clipped_gradient(case.loss, 1.0)(params, None, *batch)

    axes = (None, *(0,) * len(case.batch))
    sides: dict[str, Callable[..., Any]] = {
        "batch": jax.grad(total),
        "norms": per_example.per_example_norms(case.loss),
        "gradient + norms": both,
        "clipped": clipped,
        "vmap(grad)": jax.vmap(jax.grad(case.loss), axes),
    }
    given = (case.params, *case.batch)
    if case.members > 1:
        sides = {name: jax.vmap(side) for name, side in sides.items()}
    return {n: jax.jit(side).lower(*given).compile() for n, side in sides.items()}


class Row(NamedTuple):
    """Median time of the batch gradient in us; ratios of every side to it."""

    floor: float
    times: dict[str, float]
    memory: dict[str, float]


def measure(case: Case, rounds: int) -> Row:
    """Time calls of every side in turn; the slow side every eighth time."""
    sides = programs(case)
    ratios: dict[str, list[float]] = {name: [] for name in sides}
    floors = []
    for turn in range(-2, rounds):  # Two turns to warm up.
        floor = _seconds(sides["batch"], case)
        floors += [floor] if turn >= 0 else []
        for name, side in sides.items():
            if turn >= 0 and (name != "vmap(grad)" or turn % 8 == 0):
                ratios[name].append(_seconds(side, case) / floor)
    memory = {n: s.memory_analysis().temp_size_in_bytes for n, s in sides.items()}
    return Row(
        floor=1e6 * statistics.median(floors),
        times={n: statistics.median(r) for n, r in ratios.items()},
        memory={n: b / memory["batch"] for n, b in memory.items()},
    )


def _seconds(side: Any, case: Case) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(side(case.params, *case.batch))
    return time.perf_counter() - begun


COLUMNS = (
    *("network", "B", "batch gradient, us", "norms", "gradient + norms", "clipped"),
    *("vmap(grad)", "memory: gradient + norms", "memory: clipped", "misses"),
)


def line(case: Case, row: Row) -> tuple[str, ...]:
    """One line of the table."""
    sums = ("gradient + norms", "clipped")
    most = min(case.most, row.times["vmap(grad)"] / 2)
    misses = [n for n in sums if row.times[n] > most]
    misses += [f"memory of {n}" for n in sums if row.memory[n] > 1.35]
    misses += ["norms"] if row.times["norms"] > 0.75 else []
    return (
        case.name,
        str(case.size),
        f"{row.floor:.0f}",
        *(f"{row.times[n]:.2f}" for n in ("norms", *sums)),
        f"{row.times['vmap(grad)']:.1f}",
        *(f"{row.memory[n]:.2f}" for n in sums),
        ", ".join(misses) or "-",
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    print(f"{devices.describe()}, jax {jax.__version__}\n")
    for row in (COLUMNS, ("---",) * len(COLUMNS)):
        print("| " + " | ".join(row) + " |")
    for each in cases():
        print(
            "| " + " | ".join(line(each, measure(each, arguments.rounds))) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
