"""Arcee Fusion: take over only the changes that stand out."""

from __future__ import annotations

from miscible.merge.contract import Base, merge_method
from miscible.merge.ops.importance import fusion_importance, order_statistics
from miscible.merge.spaces import Weight, Weights


@merge_method(
    "arcee_fusion",
    paper="https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-"
    "multi-gpu-acceleration",
    base=Base.FIRST,
    least=2,
    most=2,
    ignored=("int8_mask",),
    averages=True,
)
def arcee_fusion(weights: Weights) -> Weight:
    """Take the other model's elements whose importance is at least median + 1.5 IQR.

    See `miscible.merge.ops.importance.fusion_importance`. The quantiles are elements of the tensor,
    the lower of the two where one falls in between, and exact at every size.
    """
    base, other = weights.tensors
    importance = fusion_importance(base, other)
    low, median, high = order_statistics(importance, (0.25, 0.5, 0.75))
    return Weight(other.where(importance >= median + 1.5 * (high - low), base))
