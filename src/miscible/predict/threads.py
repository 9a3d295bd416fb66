"""Threads of linear algebra: matrices of a few hundred rows are faster without them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Let BLAS use one thread inside the block: on small matrices threads mostly wait."""
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limited
