"""What a metric declares."""

import pytest

from rl_grads.tracking.metrics import higher_is_better


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evaluation/return", True),
        ("training/return", True),
        ("evaluation/rmsve", False),
        ("loss/td_error_abs", False),
        ("loss/entropy", False),  # Of a user's loss: `loss/NAME`.
        ("sampling_variance/preconditioned/own", False),
        ("diagnostics/dormant/torso/Dense_0", False),  # `diagnostics/dormant/PLACE`
        ("meta/cosine", True),
        ("diagnostics/effective_rank", True),
        ("learned/agent.discount", None),
        ("gradient/norm", None),
        ("evaluation/length", None),
        ("mine", None),
    ],
)
def test_which_end_of_a_metric_is_the_good_one(name, expected):
    assert higher_is_better(name) is expected
