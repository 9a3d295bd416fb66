"""RAM: keep whole what one model alone changed, average what several did."""

from __future__ import annotations

from miscible.merge.contract import Laws, merge_method, shared
from miscible.merge.ops.consensus import sum_of_unique
from miscible.merge.ops.masks import sum_of
from miscible.merge.spaces import Delta, Deltas

# Changes of at most epsilon count as none, so that one model comes back without them.
_EXEMPT = (Laws.ONE_MODEL,)


@merge_method("ram", paper="2601.13572", ignored=("int8_mask",), elementwise=True, exempt=_EXEMPT)
def ram(deltas: Deltas, *, epsilon: float = shared(1e-5, low=0.0)) -> Delta:
    """Add the changes that one model alone made, and the mean of those that several made."""
    changed = [delta.abs() > epsilon for delta in deltas]
    total = sum_of([delta * mask for delta, mask in zip(deltas, changed, strict=True)])
    return Delta(total / sum_of([mask.float() for mask in changed]).clamp(min=1.0))


@merge_method("ramplus_tl", paper="2601.13572", ignored=("int8_mask",), exempt=_EXEMPT)
def ramplus_tl(
    deltas: Deltas,
    *,
    epsilon: float = shared(1e-5, low=0.0),
    r: float = shared(0.1),
    alpha: float = shared(0.2, low=0.0),
) -> Delta:
    """Do as RAM, and enlarge a model's own changes by how many it shares with others.

    A model's own changes in the tensor are multiplied by 1 + r min(shared / own, alpha), of the
    numbers of changes that it shares and that it alone made.
    """
    changed = [delta.abs() > epsilon for delta in deltas]
    count = sum(mask.int() for mask in changed)
    gains = []
    for mask in changed:
        total, own = int(mask.sum()), int((mask & (count == 1)).sum())
        gains.append(1.0 + r * min((total - own) / own, alpha) if own else 1.0)
    return Delta(sum_of_unique(deltas.tensors, changed, gains))
