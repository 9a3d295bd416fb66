"""Nearswap: take over another model's weights where they are near."""

from __future__ import annotations

from miscible.merge.contract import REQUIRED, Laws, merge_method, shared
from miscible.merge.spaces import Delta, Deltas

_SMALLEST = 1e-6
"""Differences below it count as it."""


@merge_method(
    "nearswap",
    paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    most=1,
    ignored=("int8_mask",),
    elementwise=True,
    exempt=(Laws.ONE_MODEL,),  # differences beyond t are cut to t
)
def nearswap(deltas: Deltas, *, t: float = shared(REQUIRED)) -> Delta:
    """Add min(1, t / |d|) of each difference d, so that none moves the base by more than t."""
    delta = deltas.tensors[0]
    share = (t / delta.abs().clamp(min=_SMALLEST)).clamp(0.0, 1.0)
    return Delta(share * delta)
