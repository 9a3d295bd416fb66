"""How much each element of a fine-tuned tensor matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 20
"""Elements that are widened to float64 at a time."""


def fusion_importance(base: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return |x - b| times the divergence KL(softmax x || softmax b) of the element's row.

    Rows run along the last dimension. The divergence of two nearly equal rows is the small rest of
    terms that cancel, so it is taken in float64.

    Returns:
        importances of the shape of *base*, in its dtype.
    """
    import torch

    if base.dim() == 0 or base.numel() == 0:
        return torch.zeros_like(base)  # a row of one element has one softmax
    left, right = base.reshape(-1, base.shape[-1]), other.reshape(-1, base.shape[-1])
    rows = (right - left).abs_()
    step = max(1, _BLOCK // left.shape[1])
    for block in (slice(i, i + step) for i in range(0, len(left), step)):
        reference = left[block].double().log_softmax(dim=1)
        chances = right[block].double().log_softmax(dim=1)
        divergence = (chances.exp() * (chances - reference)).sum(dim=1, keepdim=True)
        rows[block] *= divergence.clamp_(min=0.0)
    return rows.reshape(base.shape)


def order_statistics(values: torch.Tensor, shares: Sequence[float]) -> list[float]:
    """Return the elements at int(share * (n - 1)) of the n values in ascending order."""
    import numpy as np
    import torch

    flat = values.flatten()
    places = [int(share * (flat.numel() - 1)) for share in shares]
    if flat.device.type == "cpu":
        found = np.partition(flat.numpy(), places)[places]  # selects in linear time
        return [float(value) for value in found]
    ordered = torch.sort(flat).values
    return [float(ordered[place]) for place in places]
