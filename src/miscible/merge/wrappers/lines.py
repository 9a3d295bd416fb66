"""LiNeS: deeper layers keep more of the merged task vector."""

from __future__ import annotations

from collections.abc import Callable

from miscible.merge.contract import REQUIRED, shared, wrapper
from miscible.merge.spaces import Delta, Deltas, Site


@wrapper("lines", paper="2410.17146", streams=True)
def lines(
    deltas: Deltas,
    merge: Callable[[Deltas], Delta],
    *,
    site: Site,
    alpha: float = shared(REQUIRED),
    beta: float = shared(REQUIRED),
) -> Delta:
    """Scale the merged task vector linearly with the depth of the layer.

    The factor is alpha + beta (l - 1) / (L - 1) in layer l of L (2410.17146). Tensors before the
    first layer count as the first, those behind the last (final norm, head) as the last.
    """
    return merge(deltas).scaled(alpha + beta * site.depth)
