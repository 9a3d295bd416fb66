"""What methods on whole tensors take, as measured: memory at the peak, and time.

Measured on matrices of 8192 x 2048, 4096 x 4096 and 49152 x 448 with 2 and 4 models
(`benchmarks/merge/estimates.py` holds estimates against measurements). A method that is not listed
is taken to be like the listed ones that look at single elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Footprint(NamedTuple):
    """What a method on whole tensors takes, as measured, for a tensor [r, c] of N models.

    Attributes:
        held: float32 tensors of that size at the peak, apart from the models' own.
        held_each: the same, a model.
        held_square: matrices of the shorter side squared.
        wide: whether it is the side of the inputs, c, that is squared.
        ns, ns_each: nanoseconds an element, and an element and model, on the reference machine.
        products: products r x c x (the side squared above) that its time amounts to.
        products_each: the same, a model.
    """

    held: float = 6.0
    held_each: float = 3.0
    held_square: float = 0.0
    wide: bool = False
    ns: float = 20.0
    ns_each: float = 15.0
    products: float = 0.0
    products_each: float = 0.0


_UNKNOWN = Footprint()
_MEASURED: Mapping[str, Footprint] = {}


def footprint_of(name: str) -> Footprint:
    """Return what a method, or a wrapper, takes."""
    return _MEASURED.get(name, _UNKNOWN)
