"""95% intervals for shares and means."""

from __future__ import annotations

import math

from torch import Tensor

Z95 = 1.959964
"""The standard normal's 97.5% quantile."""

Interval = tuple[float, float, float]
"""(estimate, low, high)."""


def wilson_interval(successes: int, count: int) -> Interval:
    """A share and its 95% score interval (Wilson 1927); honest near 0 and 1 as well.

    Raises:
        ValueError: count is below 1, or successes lies outside 0 ... count.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} successes of {count} is no share")
    share = successes / count
    centre = share + Z95**2 / (2 * count)
    half = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    # min and max: rounding must not leave the share outside its own interval
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return share, min(share, low), max(share, high)


def mean_interval(values: Tensor) -> Interval:
    """A mean and its 95% interval by the normal approximation, from (N,) values.

    Raises:
        ValueError: there are fewer than two values.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"a mean's interval needs at least two values (N,): {values.shape}")
    values = values.double()
    mean = float(values.mean())
    half = Z95 * float(values.std()) / math.sqrt(len(values))
    return mean, mean - half, mean + half
