"""SCE: select what varies, calculate weights from its size, erase what disagrees in sign."""

from __future__ import annotations

from miscible.merge.contract import merge_method, shared
from miscible.merge.ops.consensus import elect_signs
from miscible.merge.ops.sparsify import most_varying
from miscible.merge.spaces import Delta, Deltas, gram_of


@merge_method("sce", paper="2408.07990", ignored=("int8_mask",))
def sce(deltas: Deltas, *, select_topk: float = shared(1.0, low=0.0, high=1.0)) -> Delta:
    """Average the task vectors that agree in sign, each weighted by its mean square.

    With *select_topk* below 1, only the positions that vary most over the models take part.
    """
    tensors = deltas.tensors
    if select_topk < 1.0:
        mask = most_varying(tensors, select_topk)
        tensors = tuple(delta * mask for delta in tensors)
    squares = [float(gram_of([delta])[0, 0]) for delta in tensors]
    # No smallest sum: the mean squares of fine-tunes are so small that one would weigh all alike.
    total = sum(squares)
    if total == 0.0:
        return Delta(tensors[0])
    weights = [square / total for square in squares]
    return Delta(elect_signs(tensors, weights, normalize=True, votes=[1.0] * len(tensors)))
