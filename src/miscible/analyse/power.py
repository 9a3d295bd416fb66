"""How many items a comparison needs, and what a number of items can show."""

from __future__ import annotations

import math

from scipy import stats


def items_needed(
    difference: float, standard_deviation: float, *, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Return how many items show a true *difference* with probability *power*.

    Args:
        difference: true mean difference of two models, in the unit of the metric.
        standard_deviation: of the paired differences of items. Where items come in clusters,
            multiply by the square root of the design effect.
        power: probability to find it.
        alpha: error rate of the two-sided test.

    Raises:
        ValueError: if the difference is 0: no number of items would show it.
    """
    if difference == 0:
        raise ValueError("no number of items shows a difference of 0.")
    return math.ceil((_factor(power, alpha) * standard_deviation / difference) ** 2)


def detectable_difference(
    standard_error: float, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the true difference that a test with this *standard_error* finds with *power*.

    It is 2.8 standard errors for the usual 80 % and 5 %.
    """
    return _factor(power, alpha) * standard_error


def _factor(power: float, alpha: float) -> float:
    return float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
