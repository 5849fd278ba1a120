"""A small state of a population, as tests of checkpoints save it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads.config import ConfigError

SEEDS = (4, 5)


class Members(NamedTuple):
    """A state with names out of alphabetical order."""

    zeta: Any
    alpha: Any
    key: Any
    frames: Any
    flag: Any


def members(scale=1.0, width=3, dtype: Any = np.float32):
    """Floats, integers, keys, bytes, flags and an empty part."""
    return Members(
        zeta={"w": (np.arange(2 * width) * scale).reshape(2, width).astype(dtype)},
        alpha=(np.array([1, 2], np.int32), None),
        key=jax.vmap(jax.random.key)(jnp.arange(2) + int(scale)),
        frames=np.arange(2000, dtype=np.uint8).reshape(2, 1000),
        flag=np.array([True, False]),
    )


def draws(keys):
    return jax.vmap(jax.random.bits)(keys).tolist()


def refusal(checkpoints, like, seeds=SEEDS):
    with pytest.raises(ConfigError) as caught:
        checkpoints.restore(like, seeds)
    text = str(caught.value)
    assert text.startswith("resume=")
    assert "\n" not in text
    return text
