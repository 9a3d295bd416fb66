"""Conformance checks that run over everything registered, ours and third parties'."""

from __future__ import annotations

from miscible.testing.methods import check_method
from miscible.testing.metrics import check_metric

__all__ = ["check_method", "check_metric"]
