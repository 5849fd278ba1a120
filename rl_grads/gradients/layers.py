"""The layers of a network, by name: what stands side by side in its parameters."""

from typing import Any

import jax

from rl_grads.typing import Params, PyTree


def layers(tree: PyTree) -> dict[str, list[Params]]:
    """The leaves of a tree of parameters by layer.

    A layer is what stands side by side in the tree: the kernel and the bias of a module
    are one. Leaves at the top are the layer `all`.

    Args:
        tree: Parameters, or anything of their structure; flax's `params` is left out of
            the names.

    Example:
        >>> params = {"params": {"Dense_0": {"kernel": 1.0, "bias": 2.0}}}
        >>> layers(params)
        {'Dense_0': [2.0, 1.0]}
        >>> layers({"w": 3.0})
        {'all': [3.0]}
    """
    found: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found.setdefault(layer(path), []).append(leaf)
    return found


def layer(path: tuple[PyTree, ...]) -> str:
    """The name of the layer of a leaf with this key path, see `layers`."""
    parts = [jax.tree_util.keystr((key,), simple=True) for key in path[:-1]]
    return ".".join(parts[1:] if parts[:1] == ["params"] else parts) or "all"
