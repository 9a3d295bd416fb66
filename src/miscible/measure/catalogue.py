"""The registered metrics as tables: ``python -m miscible.measure.catalogue`` prints them."""

from __future__ import annotations

import math

from miscible.measure.contract import METRICS, Metric

_CATEGORIES = (
    "task_vector", "effective_rank", "subspace", "conflict", "norm", "activation", "gradient",
    "loss",
)  # fmt: skip


def markdown() -> str:
    """Return one table a category: name, range, and what the metric is."""
    tables = []
    for category in _CATEGORIES:
        held = [metric for metric in METRICS if metric.category == category]
        rows = [
            _row(metric) for metric in held if metric.function.__module__.startswith("miscible.")
        ]
        head = [f"### `{category}`", "", "| metric | range | what it is |", "|---|---|---|"]
        tables.append("\n".join([*head, *rows, ""]))
    return "\n".join(tables)


def _row(metric: Metric) -> str:
    said = metric.summary.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
    return f"| `{metric.name}` | {_range(metric)} | {said} |"


def _range(metric: Metric) -> str:
    low, high = (f"{end:g}" if math.isfinite(end) else "" for end in (metric.low, metric.high))
    if low and high:
        return f"{low} to {high}"
    if low or high:
        return f"{low} or more" if low else f"{high} or less"
    return "any"


if __name__ == "__main__":
    print(markdown(), end="")
