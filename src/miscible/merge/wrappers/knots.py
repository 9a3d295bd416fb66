"""KnOTS: merge in coordinates that align the task matrices."""

from __future__ import annotations

from collections.abc import Callable

from miscible.merge.contract import wrapper
from miscible.merge.ops.bases import column_basis, has_two_sides, merge_within
from miscible.merge.spaces import Delta, Deltas


@wrapper("knots", paper="2410.19735")
def knots(deltas: Deltas, merge: Callable[[Deltas], Delta]) -> Delta:
    """Merge the parts S V_i^T of [d_1 | d_2 | ...] = U S [V_1^T | V_2^T | ...], then apply U.

    (2410.19735, section 4.) Methods that are linear in the differences are not changed by it.
    Adapters are never multiplied out. What is no matrix is merged as it is.
    """
    if not has_two_sides(deltas):
        return merge(deltas)
    basis = column_basis(deltas)
    if basis.shape[1] == 0:
        return merge(deltas)
    return merge_within(deltas, merge, basis)
