"""Linear CKA of every layer of one model with every layer of another, debiased, with intervals.

CKA (Kornblith et al., arXiv 1905.00414, equation 4) is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of
the Gram matrices of two layers' states of the same reads. HSIC is estimated without bias (as in
Nguyen et al., arXiv 2010.15327, equation 3): the plain estimate nears 1 for unrelated layers that
are wider than the sample is large.

Intervals come from leaving each group of reads out (the jackknife, for groups of unequal size:
Busing et al., Statistics and Computing 9, 1999), exactly and at about the price of the estimate.
A bootstrap would not do: a read drawn twice enters the off-diagonal as its own twin, which is the
very bias that the estimator removes.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.similarity.estimate import Array, Estimate, Groups
from miscible.similarity.hsic import (
    CentredLayers,
    Hsic,
    States,
    Sums,
    through_features,
    through_grams,
)

Route: TypeAlias = Literal["cheaper", "grams", "features"]

_DEGENERATE = 1e-12


def linear_cka(
    first: States,
    second: States,
    groups: npt.ArrayLike | None = None,
    *,
    route: Route = "cheaper",
) -> Estimate:
    """Return the debiased linear CKA of all layers of *first* with all layers of *second*.

    It is at most 1, is 1 for states that differ by rotation, scale and offset, and is about 0 on
    average for unrelated ones, so it can be a little negative. A layer whose states are not finite
    or are the same for all reads gives NaN and a reason, as do fewer than four reads.

    Args:
        first, second: states of the same reads, [reads, layers, width]; layers and widths may
            differ.
        groups: label of each read; those of one document or minimal pair share it, and are left
            out together. None for independent reads; all in one group for values alone.
        route: through products of reads (about ``reads² · (sum of all widths)`` operations and
            `hsic.BLOCK_BYTES` of memory beside the input) or through products of features
            (``reads · width² · layers²``, and four copies of the input); they agree to rounding.
            By default the cheaper.

    Returns:
        Estimates [layers of *first*, layers of *second*] on the scale "atanh". Two of them from
        the same reads and groups are compared by `Estimate.minus`.

    Raises:
        ValueError: arrays without three axes or of different numbers of reads, or labels that are
            not one a read.
    """
    if first.shape[:1] != second.shape[:1]:
        raise ValueError(f"{first.shape[:1]} and {second.shape[:1]} reads")
    parts = Groups.of(groups, len(first))
    left, right = CentredLayers.of(first, parts), CentredLayers.of(second, parts)
    reason = np.where(left.flaws[:, None] == "", right.flaws, left.flaws[:, None])
    value = np.full(reason.shape, np.nan)
    influence = np.full((len(parts.sizes), *reason.shape), np.nan)
    if len(left.kept) and len(right.kept):
        if route == "cheaper":
            route = _cheaper(left, right)
        through = through_grams if route == "grams" else through_features
        rows, columns = np.ix_(left.kept, right.kept)
        value[rows, columns], influence[:, rows, columns] = _cka(through(left, right, parts), parts)
        lone = np.isnan(value) & (reason == "")
        reason = np.where(lone, "all reads but one or two are the same", reason)
    return Estimate(value, influence, "atanh", reason)


def _cheaper(left: CentredLayers, right: CentredLayers) -> Route:
    reads = len(left.order)
    sizes = [(len(each.kept), each.means.shape[1]) for each in (left, right)]
    (first, wide), (second, broad) = sizes
    grams = reads * (first * wide + second * broad + first * second)
    features = 2 * (first * second * wide * broad + first * wide**2 + second * broad**2)
    return "grams" if grams <= features else "features"


def _cka(hsic: Hsic, groups: Groups) -> tuple[Array, Array]:
    """Return values, [layers, layers], and influences, [groups, layers, layers]."""
    whole = [part.sum(axis=0) for part in hsic.part]
    rest = [total - taken for total, taken in zip(whole, hsic.taken, strict=True)]
    # States are scaled so that the trace of a Gram matrix is the number of reads.
    floor = _DEGENERATE * len(groups.order) ** 2
    value, without = _ratio(Sums(*whole), floor), _ratio(Sums(*rest), floor)
    share = (groups.sizes / len(groups.order))[:, None, None]
    return value, (1 - share) * (value - without)


def _ratio(sums: Sums, floor: float) -> Array:
    first, second = (np.where(each > floor, each, np.nan) for each in (sums.first, sums.second))
    ratio: Array = sums.cross / np.sqrt(first[..., :, None] * second[..., None, :])
    return np.clip(ratio, -1, 1)
