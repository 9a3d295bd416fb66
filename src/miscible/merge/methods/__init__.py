"""The merging methods, a file a family; importing this package registers them all."""

from __future__ import annotations

from miscible.merge.methods import dare, linear, slerp, task_arithmetic, ties

__all__ = ["dare", "linear", "slerp", "task_arithmetic", "ties"]
