"""The modules that register miscible's own metrics; importing this one imports them."""

from __future__ import annotations

from importlib import import_module

for _module in (
    "task_vector", "effective_rank", "subspace", "conflict", "norm", "activation", "gradient",
    "loss_barrier",
):  # fmt: skip
    import_module(f"miscible.measure.{_module}")
