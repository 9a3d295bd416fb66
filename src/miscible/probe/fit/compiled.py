"""How loops of fits become machine code: once a machine, and free of the interpreter."""

from __future__ import annotations

from typing import Any

from numba import njit


def reordered(function: Any) -> Any:
    """Compile a function whose sums may be taken in the order that fills a processor's lanes."""
    allowed = {"reassoc", "contract", "arcp", "nsz"}
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=allowed)(function)


def in_order(function: Any) -> Any:
    """Compile a function whose sums are taken as they are written."""
    allowed = {"contract", "nsz"}
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=allowed)(function)
