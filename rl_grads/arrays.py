"""What arrays are in signatures, with jaxtyping; imports JAX, as `typing` does not.

A shape is that of ONE example: under `vmap` an array shows no batch. While tests run
they are checked (`tests/array_checks.py`); elsewhere they are words for readers.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Real

AnyArray: TypeAlias = Array | np.ndarray
"""Of JAX or of NumPy, for a dtype and a shape: `Float[AnyArray, "B"]`."""

Number: TypeAlias = Real[AnyArray | np.number | float | int, ""]
"""A scalar: a plain number, one of a config, or an array without axes."""

Index: TypeAlias = Int[AnyArray | np.number | int, ""]
"""A scalar that counts or chooses, such as an action."""

Flag: TypeAlias = Bool[AnyArray | np.bool_ | bool, ""]
"""True or false."""

Numbers: TypeAlias = Real[AnyArray | np.number | float | int, "*#batch"]
"""What an elementwise function takes: a scalar or a batch, all broadcast to one."""

Flags: TypeAlias = Bool[AnyArray | np.bool_ | bool, "*#batch"]
"""True or false, for an elementwise function."""

Floats: TypeAlias = Float[AnyArray | np.floating | float, "*shape"]
"""Floating numbers of any shape, which an elementwise function keeps."""

Scalar: TypeAlias = Real[Array, ""]
"""What JAX returns for a number."""

PRNGKey: TypeAlias = Key[Array, ""]
"""A key of `jax.random`; several have axes, `Key[Array, "N"]`."""
