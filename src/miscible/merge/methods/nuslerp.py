"""Spherical interpolation of two models, or of their task vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import REQUIRED, Base, PerModel, merge_method, per_model, shared
from miscible.merge.ops.means import PARALLEL, slerp_coefficients, slerp_coefficients_each
from miscible.merge.ops.vectors import combine_along, gram_along
from miscible.merge.spaces import Delta, Deltas, Weight, Weights


def _is_flat(values: Mapping[str, Any]) -> bool:
    return bool(values["nuslerp_flatten"])


@merge_method(
    "nuslerp",
    paper="Shoemake 1985",
    base=Base.OPTIONAL,
    least=2,
    most=2,
    ignored=("int8_mask",),
    averages=True,
    streams=_is_flat,
)
def nuslerp(
    inputs: Weights | Deltas,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    nuslerp_flatten: bool = shared(True),
    nuslerp_row_wise: bool = shared(False),
) -> Weight | Delta:
    """Walk the second model's share of the weights along the great circle from the first.

    With a base, it is the task vectors that are interpolated. Only vectors that are parallel in
    double precision are interpolated on the line. Without *nuslerp_flatten* each vector along the
    last dimension is one point, with *nuslerp_row_wise* each along the first: recipes in the wild
    mean it so, whatever the name says.
    """
    total = sum(weight)
    t = weight[1] / total if abs(total) >= 1e-6 else 0.5
    if nuslerp_flatten:
        return inputs.weighted_sum(slerp_coefficients(inputs.gram(), t, colinear=PARALLEL))
    dim = 0 if nuslerp_row_wise else -1
    each = slerp_coefficients_each(gram_along(inputs.tensors, dim), t, colinear=PARALLEL)
    merged = combine_along(inputs.tensors, each, dim)
    return Weight(merged) if isinstance(inputs, Weights) else Delta(merged)
