"""What a merging method sees: one tensor of every model, in the space in which it works.

`Weights` are the tensors themselves, `Deltas` their differences from the base. Returning a weight
from deltas is a type error, so a base can neither be forgotten nor added twice.

The operations that have a streamed form (`gram`, `weighted_sum`, `sparsified`, `elected_sum`) are
methods of these classes: a method written in them alone runs on tensors in memory, on any device,
and, chunk by chunk without loading torch, on files (`miscible.merge.engine`). Any other method
works on `tensors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from miscible.merge.ops.random import ElementRandom
    from miscible.merge.ops.sparsify import Sparsifier
    from miscible.models.delta import LowRank


@dataclass(frozen=True, slots=True)
class Site:
    """Where in the model a tensor stands, told from its name.

    Attributes:
        tensor: name of the output tensor.
        layer: number of its layer, None outside of all layers.
        layers: number of layers of its stack, 0 outside.
        depth: 0 for the first layer and all before it, 1 for the last and all behind it.
        role: ``embedding``, ``attention``, ``mlp``, ``norm``, ``head`` or ``other``.
    """

    tensor: str
    layer: int | None = None
    layers: int = 0
    depth: float = 0.0
    role: str = "other"


class Weights:
    """One tensor of each model, all of the same shape, float32 or float64."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = tuple(tensors)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.tensors)

    def gram(self) -> np.ndarray:
        """Return the inner products of the flattened tensors, [models, models], float64."""
        return gram_of(self.tensors)

    def weighted_sum(self, weights: Sequence[float]) -> Weight:
        """Return sum w_i x_i."""
        return Weight(weighted_sum_of(self.tensors, weights))


class Deltas:
    """One tensor's differences from the base, a model each, all of the same shape.

    Args:
        tensors: the differences; may be left out where *factors* are given.
        factors: the exact factors of every difference, where all of them come from adapters.
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor] | None = None,
        *,
        factors: Sequence[LowRank] | None = None,
    ) -> None:
        if tensors is not None:
            self.__dict__["tensors"] = tuple(tensors)
        self.factors = None if factors is None else tuple(factors)
        self._count = len(tensors if tensors is not None else factors or ())

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        assert self.factors is not None
        return tuple(factor.dense() for factor in self.factors)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.tensors)

    def gram(self) -> np.ndarray:
        """Return the inner products of the flattened differences, [models, models], float64."""
        return gram_of(self.tensors)

    def weighted_sum(self, weights: Sequence[float]) -> Delta:
        """Return sum w_i d_i."""
        return Delta(weighted_sum_of(self.tensors, weights))

    def sparsified(
        self,
        sparsifiers: Sequence[Sparsifier],
        random: Sequence[ElementRandom] = (),
        *,
        rescale: bool = False,
    ) -> Deltas:
        """Return the differences with only the elements that each model's sparsifier keeps.

        Args:
            sparsifiers: one a model.
            random: a generator a model, for sparsifiers that draw.
            rescale: whether each is scaled back to the L1 norm that it had.
        """
        from miscible.merge.ops.rescale import restore_l1

        draws = random or (None,) * len(self)
        kept = []
        for delta, sparsifier, draw in zip(self.tensors, sparsifiers, draws, strict=True):
            sparse = sparsifier(delta, draw)
            kept.append(restore_l1(sparse, delta) if rescale else sparse)
        return Deltas(kept)

    def elected_sum(self, weights: Sequence[float], *, normalize: bool) -> Delta:
        """Return the sum of the weighted differences that agree with the elected sign.

        See `miscible.merge.ops.consensus.elect_signs`.
        """
        from miscible.merge.ops.consensus import elect_signs

        return Delta(elect_signs(self.tensors, weights, normalize=normalize))


class Weight:
    """A merged tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Delta:
    """A merged difference, to be added to the base by the engine."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def scaled(self, factor: float) -> Delta:
        """Return the difference times *factor*."""
        return self if factor == 1.0 else Delta(self.tensor * factor)


def weighted_sum_of(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return sum w_i t_i, added up in the order of the models."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def gram_of(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Return the inner products of the flattened tensors in float64."""
    import numpy as np
    import torch

    chunk = 1 << 18
    flat = [tensor.flatten() for tensor in tensors]
    total = np.zeros((len(flat), len(flat)))
    for start in range(0, flat[0].numel(), chunk):
        rows = torch.stack([row[start : start + chunk] for row in flat]).double()
        total += (rows @ rows.T).cpu().numpy()
    return total
