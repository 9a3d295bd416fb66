"""Conformance checks that run over everything registered, ours and third parties'."""

from __future__ import annotations

from miscible.testing.methods import check_method

__all__ = ["check_method"]
