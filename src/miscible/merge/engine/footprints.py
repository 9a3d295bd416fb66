"""What methods on whole tensors take, as measured: memory at the peak, and time.

Measured on matrices of 8192 x 2048, 4096 x 4096 and 49152 x 448 with 2 and 4 models
(`benchmarks/merge/estimates.py` holds estimates against measurements). A method that is not listed
is taken to be about the mean of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from miscible.merge.engine.rates import Rates


class Footprint(NamedTuple):
    """What a method takes for a matrix [r, c] of N models (without the base), in float32.

    Attributes:
        held, held_each: matrices of that size at the peak, the inputs among them; more a model.
        held_square: squares of the shorter side at the peak.
        ns, ns_each: nanoseconds an element, more a model, on the reference machine.
        products, products_each: its time as products of all elements with the shorter side, where
            that is at most half the longer one; more a model.
        products_square: the same where the matrix is nearly square.
        linear_layers: whether embeddings are averaged.
    """

    held: float
    held_each: float
    held_square: float = 0.0
    ns: float = 0.0
    ns_each: float = 0.0
    products: float = 0.0
    products_each: float = 0.0
    products_square: float = 0.0
    linear_layers: bool = False

    def peak(self, shape: Sequence[int], models: int) -> float:
        """Return the number of elements held at the peak, for a tensor of this shape."""
        square = min(shape) ** 2 if len(shape) == 2 else 0
        return (self.held + self.held_each * models) * prod(shape) + self.held_square * square

    def seconds(self, shape: Sequence[int], models: int, speed: Rates) -> float:
        """Return the time in one thread."""
        elements, products = prod(shape), 0.0
        single = 1e-9 * (self.ns + self.ns_each * models) * elements * speed.slowness
        if len(shape) == 2 and elements:
            oblong = 2 * min(shape) <= max(shape)
            products = self.products if oblong else self.products_square or self.products
            products += self.products_each * models
            products *= 2.0 * elements * min(shape) * speed.product
        return single + products


_AVERAGED = Footprint(3.0, 1.5, ns=10, ns_each=8)
"""What is no matrix, or no linear layer, under methods for matrices."""
_UNKNOWN = Footprint(6.0, 3.0, ns=20, ns_each=15)
_MEASURED: Mapping[str, Footprint] = {
    # Whole tensors.
    "arcee_fusion": Footprint(4.9, 0, ns=54),
    "composed": Footprint(4.0, 3.1, ns=29, ns_each=3),
    "composed median": Footprint(3.0, 1.4, ns=0, ns_each=12),
    "emr": Footprint(5.4, 2.9, ns=25, ns_each=10),
    "model_stock": Footprint(4.3, 0.9, ns=8, ns_each=8),
    "nuslerp": Footprint(3.9, 0, ns=26),
    "pcb": Footprint(9.6, 0.9, ns_each=48),
    "ramplus_tl": Footprint(3.3, 4.5, ns=20, ns_each=25),
    "sce": Footprint(7.4, 3.1, ns=41, ns_each=14),
    # Matrices.
    "iso_c": Footprint(4.2, 1.1, 9.4, 20, 10, 2.5, 0, 11),
    "iso_cts": Footprint(6.2, 1.5, 15, 20, 10, 8, 3, 38),
    "star": Footprint(1.8, 2.6, 8, 10, 10, 1, 1.8, 24),
    "tsv": Footprint(4.3, 1.4, 16, 20, 10, 4.5, 2.1, 31),
    "wudi": Footprint(10.2, 3.6, 1, 120, 15, 2.5, 4.7, 50, linear_layers=True),
    "subspace_boosting": Footprint(5.0, 1.0, 0, 10, 5, 3),
    "knots": Footprint(6.0, 2.0, 10, 10, 10, 0, 14.5),
    "core_space": Footprint(6.0, 2.0, 13, 10, 10, 0, 16.5),
}


def footprint_of(name: str, shape: Sequence[int], consensus: str = "", role: str = "") -> Footprint:
    """Return what a method, or a wrapper, takes.

    Args:
        name: of it.
        shape: of the tensor.
        consensus: the parameter of that name, if there is one.
        role: of the tensor, see `miscible.merge.spaces.Site`.
    """
    found = _MEASURED.get(f"{name} {consensus}", _MEASURED.get(name, _UNKNOWN))
    matrix = len(shape) == 2 and not (found.linear_layers and role == "embedding")
    return found if matrix or not (found.products or found.products_each) else _AVERAGED
