"""What functions take and return, in the field's words. Imports no JAX.

Names for readers: JAX has no types for the structure of a pytree, so pyright takes most
of them as they come. Where a record, a class or a library's own type says it, that
stands in the signature instead.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

PyTree: TypeAlias = Any
"""Arrays in any nest of containers that JAX maps over; a single array is one."""

Params: TypeAlias = PyTree
"""Parameters of a network, or what has their structure: a gradient, an update."""

State: TypeAlias = PyTree
"""What an environment, an optimizer or an estimator carries on; opaque to others."""

Transitions: TypeAlias = PyTree
"""A batch of transitions `[B, ...]`, or what else one update learns from."""

Observation: TypeAlias = PyTree
"""What an environment shows of its state."""

Function: TypeAlias = Callable[..., Any]
"""A function of arrays whose arguments only its caller knows."""

LossFunction: TypeAlias = Callable[..., Any]
"""`loss_fn(params, *example) -> scalar`, of ONE example."""

Section: TypeAlias = Any
"""A config, or one section of it: any class that `config` made."""

Value: TypeAlias = Any
"""What a field of a config holds: a plain value, a tuple of them, a section, None."""

Json: TypeAlias = Any
"""What a JSON file can hold."""

Document: TypeAlias = dict[str, Json]
"""A JSON file's object."""


class Network(Protocol):
    """`init(key, obs) -> params` and `apply(params, obs) -> outputs`.

    Flax's modules are networks, and so is any record with these two functions.
    """

    @property
    def init(self) -> Callable[..., Params]:
        """Fresh parameters, from a key and an observation."""
        ...

    @property
    def apply(self) -> Callable[..., Any]:
        """What the network says of an observation."""
        ...
