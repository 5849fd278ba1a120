"""Every metric that training reports: name, unit, meaning, good end. Imports no JAX.

Metrics of a stretch are means over its iterations, but for those marked as totals.
A user's loss adds `loss/NAME` for every entry of its `Signals.extra`.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Metric(NamedTuple):
    """One metric, a number per logged row and member.

    Attributes:
        name: As it is logged.
        unit: Its unit.
        meaning: What it says.
        higher_is_better: Which end is the good one; None: neither, by itself.
    """

    name: str
    unit: str
    meaning: str
    higher_is_better: bool | None = None


def _receipt(kind: str, what: str) -> tuple[Metric, ...]:
    """What a clip of one kind reports, where a config asks for it."""
    return (
        Metric(
            f"clip/{kind}/fraction",
            "-",
            f"part of the non-zero elements that the clip changed ({what}); a clip by "
            "norm changes all or none",
        ),
        Metric(f"clip/{kind}/norm_before", "-", "L2 norm before the clip, mean"),
        Metric(f"clip/{kind}/norm_after", "-", "L2 norm after the clip, mean"),
        Metric(f"clip/{kind}/angle", "degrees", "between before and after, mean"),
    )


_SCHEMES = {
    "td_error_0.6": "prioritised replay, |TD error| to the power of .6",
    "td_error": "|TD error|",
    "rank_0.7": "1 over the rank of |TD error|, to the power of .7",
    "loss_adjusted_0.4": "max(|TD error|, 1) to the power of .4",
    "gradient_norm_last_layer": "norm of the last layer's gradient",
    "gradient_norm": "norm of the gradient",
    "large_batch": "norm of the gradient among `replay.large_batch` batches",
    "own": "the run's own scheme, with fresh priorities",
    "stored": "the run's own scheme, with the priorities that its memory holds",
}


def _sampling_variance() -> tuple[Metric, ...]:
    """What `diagnostics.sampling_variance` reports, raw and preconditioned."""
    raw = "variance of the gradient over that of uniform sampling; drawn by"
    scaled = "the same of the gradient as the optimizer scales it; drawn by"
    of = (("sampling_variance", raw), ("sampling_variance/preconditioned", scaled))
    return tuple(
        Metric(f"{prefix}/{name}", "-", f"{what} {meaning}", higher_is_better=False)
        for prefix, what in of
        for name, meaning in _SCHEMES.items()
    )


# Where a name ends in capitals, there is one metric for each such thing.
_DIAGNOSTICS = (
    Metric(
        "diagnostics/noise_scale",
        "transitions",
        "simple noise scale (McCandlish et al. 2018): the batch size at which noise "
        "and gradient are equal; inf where no gradient is to be seen "
        "(`diagnostics.noise_scale`)",
    ),
    Metric(
        "diagnostics/gradient_norm/LAYER",
        "-",
        "L2 norm of the mean gradient in a layer (`diagnostics.layer_norms`)",
    ),
    Metric(
        "diagnostics/nonfinite_examples",
        "-",
        "part of the examples with a loss or gradient that is not finite; other "
        "metrics leave them out (`diagnostics.nonfinite_examples`)",
        higher_is_better=False,
    ),
    Metric(
        "diagnostics/interference/cosine",
        "-",
        "mean cosine between the gradients of two examples; nan without two that are "
        "not zero (`diagnostics.interference`)",
    ),
    Metric(
        "diagnostics/interference/negative",
        "-",
        "part of those pairs with a negative inner product",
    ),
    Metric(
        "diagnostics/interference/product",
        "-",
        "mean inner product of those pairs: what a step of unit size for one takes "
        "off the loss of the other",
    ),
    Metric(
        "diagnostics/update_ratio/LAYER",
        "-",
        "norm of an update's step over the norm of the weights, in a layer "
        "(`diagnostics.update_ratios`)",
    ),
    Metric(
        "diagnostics/dormant/PLACE",
        "-",
        "part of the units at a place in the network, or in `all`, that are dormant "
        "(Sokar et al. 2023; `diagnostics.dormant_threshold`)",
        higher_is_better=False,
    ),
    Metric(
        "diagnostics/effective_rank",
        "-",
        "singular values that hold all but a part of the sum, of what the last layer "
        "reads (Kumar et al. 2021); -1 where that is not finite "
        "(`diagnostics.rank_threshold`)",
        higher_is_better=True,
    ),
)

_META = (
    Metric(
        "learned/PATH", "-", "value of a learned number, as at the row (`meta.learn`)"
    ),
    Metric(
        "meta/loss",
        "reward²",
        "outer loss after the inner updates",
        higher_is_better=False,
    ),
    Metric("meta/gradient_norm", "-", "L2 norm of the meta-gradient, on the real line"),
    Metric(
        "meta/skipped",
        "-",
        "part of the outer updates skipped as not finite",
        higher_is_better=False,
    ),
    Metric(
        "meta/cosine",
        "-",
        "of the estimator's gradient and that of the full unroll (`meta.truth_meter`)",
        higher_is_better=True,
    ),
    Metric(
        "meta/bias",
        "-",
        "norm of their difference over that of the latter",
        higher_is_better=False,
    ),
)

METRICS = (
    Metric(
        "evaluation/return",
        "reward",
        "mean undiscounted return of greedy episodes with the current parameters, or "
        "their average where one is kept (control agents)",
        higher_is_better=True,
    ),
    Metric(
        "evaluation/return_iterate",
        "reward",
        "the same with the current parameters, where their average is judged",
        higher_is_better=True,
    ),
    Metric("evaluation/length", "steps", "mean length of those episodes"),
    Metric(
        "evaluation/rmsve",
        "reward",
        "root mean square error of the values over the on-policy distribution "
        "(prediction, where the exact values are known)",
        higher_is_better=False,
    ),
    Metric(
        "evaluation/rmsve_iterate",
        "reward",
        "the same of the current parameters, where their average is judged",
        higher_is_better=False,
    ),
    Metric(
        "evaluation/rmspbe",
        "reward",
        "root mean square of the projected Bellman error (likewise, up to a million "
        "states times parameters)",
        higher_is_better=False,
    ),
    Metric(
        "training/return",
        "reward",
        "mean undiscounted return of the episodes that ended since the last row; nan "
        "if none did",
        higher_is_better=True,
    ),
    Metric("training/length", "steps", "mean length of those episodes"),
    Metric("training/episodes", "episodes", "finished since the start, a total"),
    Metric(
        "training/diverged",
        "0 or 1",
        "whether a gradient of this member has been non-finite",
        higher_is_better=False,
    ),
    Metric(
        "replay/left_out",
        "-",
        "part of the stored transitions that are not drawn, as their final "
        "observation was written over: episodes are truncated sooner than the "
        "environment's `time_limit` says (1 is always right)",
        higher_is_better=False,
    ),
    Metric(
        "loss/td_error_abs",
        "reward",
        "mean absolute TD error of the batches",
        higher_is_better=False,
    ),
    Metric(
        "loss/td_error_square",
        "reward²",
        "mean squared TD error of the batches",
        higher_is_better=False,
    ),
    Metric("gradient/norm", "-", "L2 norm of the gradient, before any clip"),
    Metric(
        "gradient/semi_full_cosine",
        "-",
        "cosine between the semi-gradient of a batch and its full gradient, 0 where "
        "either is zero (prediction; `diagnostics.semi_full_cosine`)",
    ),
    *_META,
    *_sampling_variance(),
    *_DIAGNOSTICS,
    *_receipt("update", "`gradient.update`, of each update"),
    *_receipt("graph", "`gradient.clip`, of each example at each place"),
    *_receipt("per_example", "`gradient.per_example`, of each example's gradient"),
    Metric(
        "clip/per_example/bias",
        "-",
        "norm of what the clip of single examples takes off the mean gradient, over "
        "the norm of that; the angle above is between the mean gradients",
    ),
    Metric("loss/NAME", "yours", "mean of `Signals.extra[NAME]` of a loss", False),
)


_HEADLINES = ("evaluation/return", "evaluation/rmsve")


def headline(known: Sequence[str]) -> str:
    """The metric of some that a run is judged by: the evaluation of what it learned.

    Args:
        known: At least one name; the first where none of them evaluates.

    Example:
        >>> headline(["gradient/norm", "evaluation/return"]), headline(["mine"])
        ('evaluation/return', 'mine')
    """
    return next((name for name in _HEADLINES if name in known), known[0])


def axis_label(name: str) -> str:
    """A metric in words, with its unit, for the axis of a figure.

    Example:
        >>> axis_label("evaluation/return"), axis_label("loss/td_error_abs")
        ('evaluation return [reward]', 'loss: |TD error| [reward]')
        >>> axis_label("mine/own_number")
        'mine: own number'
    """
    unit = next(
        (m.unit for m in METRICS if name == m.name or _is_of(name, m.name)), "-"
    )
    group, _, rest = name.partition("/")
    words = _WORDS.get(name, f"{group}: {rest.replace('_', ' ').replace('/', ', ')}")
    words = words if rest else group.replace("_", " ")
    return words if unit == "-" else f"{words} [{unit}]"


_WORDS = {
    "evaluation/return": "evaluation return",
    "evaluation/return_iterate": "evaluation return of the last iterate",
    "evaluation/rmsve": "RMSVE",
    "evaluation/rmsve_iterate": "RMSVE of the last iterate",
    "evaluation/rmspbe": "RMSPBE",
    "training/return": "training return",
    "loss/td_error_abs": "loss: |TD error|",
    "gradient/norm": "norm of the gradient",
}


def higher_is_better(name: str) -> bool | None:
    """Which end of a metric is the good one; None where neither is, or it is unknown.

    Args:
        name: Its name, as it is logged.

    Example:
        >>> higher_is_better("evaluation/return"), higher_is_better("loss/entropy")
        (True, False)
    """
    exact = (m.higher_is_better for m in METRICS if m.name == name)
    family = (m.higher_is_better for m in METRICS if _is_of(name, m.name))
    return next(exact, next(family, None))


def _is_of(name: str, declared: str) -> bool:
    """Whether a declared name that ends in capitals stands for this one."""
    prefix = re.sub("[A-Z]+$", "", declared)
    return prefix != declared and name.startswith(prefix)
