"""Devices, and how many members each one trains.

A CPU is a mesh of cores: each available core becomes a device, because XLA runs the
small products of one member on one core.
"""

import math
import os
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from rl_grads.training.schema import Config
from rl_grads.typing import PyTree


def available_cores() -> int:
    """Cores that this process may use: affinity and cgroup limits count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = cores or os.cpu_count() or 1
    limit = _cgroup_limit(pathlib.Path("/sys/fs/cgroup/cpu.max"))
    return max(1, math.floor(min(cores, limit)))


def _cgroup_limit(path: pathlib.Path) -> float:
    """Cores that cgroup v2 grants, infinite where it sets no limit."""
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota == "max" else float(quota) / float(period)


def use_cores(cores: int) -> None:
    """Make `cores` CPU devices, before JAX's backend starts; later it has no effect."""
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        return


def device_limit(config: Config) -> int | None:
    """How many devices a population may use: one where the environment is a host's."""
    return 1 if config.env.id.startswith("gymnasium/") else None


class Layout(NamedTuple):
    """Where members live.

    Attributes:
        mesh: The devices in use, one axis named `members`.
        members: How many there are.
        padded: The same rounded up to what the devices hold together.
    """

    mesh: jax.sharding.Mesh
    members: int
    padded: int


def layout(members: int, devices: int | None = None) -> Layout:
    """Spread members evenly over the local devices, `ceil(members / devices)` each.

    Args:
        members: How many members.
        devices: Use at most so many devices; all local ones if None.
    """
    local = jax.local_devices()
    count = min(len(local), devices or len(local))
    each = math.ceil(members / count)
    used = math.ceil(members / each)
    mesh = jax.sharding.Mesh(np.array(local[:used]), ("members",))
    return Layout(mesh, members, each * used)


def put(layout: Layout, tree: PyTree) -> PyTree:
    """Pad a tree with leaves `[members, ...]` and place it on the devices."""
    index = np.minimum(np.arange(layout.padded), layout.members - 1)
    sharding = jax.sharding.NamedSharding(
        layout.mesh, jax.sharding.PartitionSpec("members")
    )
    return jax.tree.map(lambda leaf: jax.device_put(leaf[index], sharding), tree)


def memory() -> float:
    """Bytes of the first device, or of the machine where devices are its cores."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    limit = _memory_limit(pathlib.Path("/sys/fs/cgroup/memory.max"))
    if not hasattr(os, "sysconf"):
        return limit
    return min(limit, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def memories() -> int:
    """How many devices have one of their own; cores share that of the machine.

    Example:
        >>> memories() >= 1
        True
    """
    return 1 if jax.local_devices()[0].platform == "cpu" else jax.local_device_count()


def _memory_limit(path: pathlib.Path) -> float:
    """Bytes that cgroup v2 grants, infinite where it sets no limit."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # `max`, or no cgroup.
        return math.inf


def describe() -> str:
    """Which device is used and why, in a sentence for people."""
    device = jax.local_devices()[0]
    count = jax.local_device_count()
    if device.platform != "cpu":
        return f"{count} x {device.device_kind} ({device.platform})"
    return f"CPU, {count} of its cores as devices (no accelerator found by JAX)"
