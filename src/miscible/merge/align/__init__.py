"""Alignment before merging: a model is rewritten, without changing its function, to fit another.

Units of a hidden layer have no order: permuting them along every axis that they index gives other
weights and the same function. Git Re-Basin (2209.04836) permutes one model's units so that its
weights come as near to another's as they can.
"""

from __future__ import annotations

from miscible.merge.align.permutation_spec import Group, Member, PermutationSpec, chain
from miscible.merge.align.permuted import PermutedCheckpoint, aligned_to
from miscible.merge.align.units import infer_spec

__all__ = [
    "Group", "Member", "PermutationSpec", "PermutedCheckpoint", "aligned_to", "chain", "infer_spec",
]  # fmt: skip
