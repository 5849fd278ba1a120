"""How results are written: never a value without its interval and its n."""

import numpy as np

from rl_grads.analysis.tasks import Estimate

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def number(value: float) -> str:
    """Four digits; `-` where there is no value.

    Example:
        >>> [number(x) for x in (412.04, 0.00012345, float("nan"), float("inf"))]
        ['412', '0.0001234', '-', 'inf']
    """
    return "-" if np.isnan(value) else f"{value:.4g}"


def value(found: Estimate) -> str:
    """A value with its interval.

    Example:
        >>> value(Estimate(412.0, 398.25, 426.0, 10))
        '412 (398.2 to 426)'
        >>> value(Estimate(7.0, None, None, 2))
        '7'
    """
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def shown(found: Estimate) -> str:
    """A value with its interval and the number of runs.

    Example:
        >>> shown(Estimate(412.0, 398.25, 426.0, 10))
        '412 (398.2 to 426), n = 10'
    """
    return f"{value(found)}, n = {found.n}"


def probability(found: float) -> str:
    """A probability with two digits, without the zero before its point.

    Example:
        >>> [probability(x) for x in (0.834, 0.004, 0.0001, 1.0, 0.0, 0.999)]
        ['.83', '.004', '.0001', '1', '0', '.999']
    """
    digits = f"{found:.2f}" if 0.005 < found < 0.995 else f"{found:.1g}"
    digits = f"{found:.3f}" if 0.995 <= found < 0.9995 else digits
    return digits.removeprefix("0").rstrip(".") or "0"


def duration(seconds: float) -> str:
    """A length of time in its two largest units.

    Example:
        >>> [duration(s) for s in (0, 8, 90, 3700, 200_000)]
        ['0 s', '8 s', '1 min 30 s', '1 h 1 min', '2 d 7 h']
    """
    whole, parts = max(round(seconds), 0), []
    for name, size in _UNITS:
        count, whole = divmod(whole, size)
        parts.append(f"{count} {name}" if count else "")
    first = next((k for k, part in enumerate(parts) if part), 3)
    return " ".join(filter(None, parts[first : first + 2])) or "0 s"
