"""Core Space: merge adapters in the small space that their factors span."""

from __future__ import annotations

from collections.abc import Callable

from miscible.merge.contract import wrapper
from miscible.merge.ops.bases import factor_bases, has_two_sides, merge_within
from miscible.merge.spaces import Delta, Deltas


@wrapper("core_space", paper="2509.17786")
def core_space(deltas: Deltas, merge: Callable[[Deltas], Delta]) -> Delta:
    """Merge the core matrices U_B^T d_i V_A and map the result back.

    U_B and V_A are the singular bases of the stacked factors of all adapters (2509.17786, section
    3), so nothing is lost, and the matrices merged are no larger than the ranks together. Dense
    differences take the singular bases of the differences themselves. What is no matrix is merged
    as it is.
    """
    if not has_two_sides(deltas):
        return merge(deltas)
    columns, rows = factor_bases(deltas)
    if 0 in (columns.shape[1], rows.shape[1]):
        return merge(deltas)
    return merge_within(deltas, merge, columns, rows)
