"""A figure of a batch: whose gradients are large, in which layers, and who agrees."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rl_grads.analysis.plots import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (12.0, 4.2)  # Inches.
_TOP = "#D55E00"
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")


class Gradients(NamedTuple):
    """What is known of the gradients of a batch, arrays `[B]`.

    Attributes:
        norms: Their L2 norms.
        td_errors: TD errors.
        shares: Layer to its part of the squared norm.
        cosines: Between them, `[B, B]`; nan where one is zero.
    """

    norms: np.ndarray
    td_errors: np.ndarray
    shares: Mapping[str, np.ndarray]
    cosines: np.ndarray


def figure(given: Gradients, top: Sequence[int], title: str | None = None) -> "Figure":
    """Three panels: the largest gradients by layer, all against |TD error|, cosines.

    Args:
        given: The batch.
        top: Places of the examples that are shown by name, largest first.
        title: Stands above.

    Raises:
        ValueError: There is no example to show.

    Example:
        >>> ones = np.ones(2)
        >>> page = figure(Gradients(ones, ones, {"all": ones}, np.eye(2)), [1])
        >>> [axes.get_xlabel() for axes in page.axes[:2]]
        ['gradient norm, by layer', '|TD error| [reward]']
    """
    from matplotlib.figure import Figure

    if not len(top):
        raise ValueError("top: expected at least one place")
    page = Figure(figsize=_SIZE, layout="constrained")
    first, second, third = page.subplots(1, 3)
    _layers(first, given, top)
    _norms(second, given, top)
    _cosines(third, given)
    if title:
        page.suptitle(title, fontsize="medium")
    return page


def _layers(axes: "Axes", given: Gradients, top: Sequence[int]) -> None:
    """A bar for each example; its parts are as long as the layers' shares of it."""
    names = [f"#{place}" for place in top]
    norms = np.nan_to_num(given.norms[list(top)], nan=0.0, posinf=0.0)
    left = np.zeros(len(top))
    for number, (layer, shares) in enumerate(given.shares.items()):
        width = norms * np.nan_to_num(shares[list(top)])
        at = number % len(COLORS)
        axes.barh(
            names,
            width,
            left=left,
            label=layer,
            color=COLORS[at],
            hatch=_HATCHES[at],
            edgecolor="white",
        )
        left = left + width
    axes.invert_yaxis()
    axes.set_xlabel("gradient norm, by layer")
    axes.set_ylabel("example")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def _norms(axes: "Axes", given: Gradients, top: Sequence[int]) -> None:
    size = np.abs(given.td_errors)
    axes.scatter(size, given.norms, s=14, color="0.6")
    axes.scatter(size[list(top)], given.norms[list(top)], s=20, color=_TOP)
    for place in top:
        at = (size[place], given.norms[place])
        if np.isfinite(at).all():
            axes.annotate(f" #{place}", at, fontsize="small", color=_TOP)
    axes.set_xlabel("|TD error| [reward]")
    axes.set_ylabel("gradient norm")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _cosines(axes: "Axes", given: Gradients) -> None:
    """The cosine matrix, largest norms first; grey where there is no angle."""
    order = np.argsort(-np.nan_to_num(given.norms, nan=np.inf), kind="stable")
    axes.set_facecolor("0.85")
    shown = axes.imshow(
        given.cosines[np.ix_(order, order)], vmin=-1, vmax=1, cmap="RdBu_r"
    )
    axes.set_xlabel("example, largest gradient first")
    axes.figure.colorbar(shown, ax=axes, label="cosine between gradients", shrink=0.8)
