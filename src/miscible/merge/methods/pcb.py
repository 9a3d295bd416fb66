"""PCB-Merging: balance the competition of the tasks for each element."""

from __future__ import annotations

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.competition import balance, strongest
from miscible.merge.spaces import Delta, Deltas


@merge_method("pcb", paper="2410.02396")
def pcb(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    density: PerModel[float] = per_model(REQUIRED, low=0.0, high=1.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Average task vectors element by element, by importance within and agreement across tasks.

    tau = sum_i b_i w_i t_i / sum_i b_i, where b_i are the largest share *density* of the balancing
    scores of task i (2410.02396, whose mask ratio r is small, such as 0.2). An element
    whose scores are all dropped keeps the base's value.

    The paper normalises and selects over all parameters of a model at once; here both are done in
    each tensor.
    """
    import torch

    merged = torch.zeros_like(deltas.tensors[0])
    divisor = torch.zeros_like(merged)
    for index, (delta, value, share) in enumerate(zip(deltas, weight, density, strict=True)):
        scores = strongest(balance(deltas.tensors, index), share)
        merged += (scores * delta).mul_(value)
        divisor += scores
    return Delta(merged.div_(divisor.masked_fill_(divisor == 0, 1.0))).scaled(lambda_)
