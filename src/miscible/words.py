"""Numbers and names as a reader wants them in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable

_METRICS = {
    "acc": "accuracy",
    "acc_norm": "normalised accuracy",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "preference": "minimal-pair preference",
    "probe_pearson": "probe Pearson r",
    "cka": "CKA",
    "lens_kl": "logit-lens KL",
}


def metric_name(metric: str) -> str:
    """Return a metric's name in words."""
    return _METRICS.get(metric, metric.replace("_", " "))


def number(value: float, width: float = math.nan, *, signed: bool = False) -> str:
    """Return a number with the digits that an interval of *width* supports; a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{_decimals(value, width)}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def with_interval(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Return ``value [low, high]``; the value alone if it has no interval."""
    width = high - low
    if not math.isfinite(width):
        return number(value, signed=signed)
    places = max(_decimals(v, width) for v in (value, low, high)) if width else 2
    ends = ", ".join(_fixed(v, places) for v in (low, high))
    return f"{_fixed(value, places, '+' if signed else '')} [{ends}]"


def percent(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a share as per cent: ``87 % [80, 94]``."""
    if not math.isfinite(value):
        return "–"
    ends = f" [{100 * low:.0f}, {100 * high:.0f}]" if math.isfinite(high - low) else ""
    return f"{100 * value:.0f} %{ends}"


def p_value(p: float) -> str:
    """Return a p value, never as 0."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def listed(names: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    held = list(names)
    return " and ".join([", ".join(held[:-1]), held[-1]]) if len(held) > 1 else "".join(held)


def counted(n: int, noun: str) -> str:
    """Return ``1 merge`` or ``3 merges``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def spans(layers: Iterable[int]) -> str:
    """Return layers as ``0, 4–7``; a dash for none."""
    runs: list[list[int]] = []
    for layer in sorted(int(layer) for layer in layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs) or "–"


def _decimals(value: float, width: float) -> int:
    fewest = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    if not (math.isfinite(width) and width > 0):
        return fewest
    return min(max(fewest, -math.floor(math.log10(width))), 4)


def _fixed(value: float, places: int, sign: str = "") -> str:
    text = f"{value:{sign}.{places}f}"
    return text.lstrip("+-") if float(text) == 0 else text
