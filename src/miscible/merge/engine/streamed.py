"""What a method sees of tensors that are streamed: the same operations, on files.

A statistic that a method asks for (`gram`) costs a pass at once; what it builds from weighted sums,
sparsifiers and consensus is only written down, as a `Formula`, and carried out in one last pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from miscible.errors import MiscibleError
from miscible.merge.ops.sparsify import KeepAll
from miscible.merge.spaces import Delta, Deltas, Weight, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch

    from miscible.merge.engine.passes import Passes
    from miscible.merge.ops.random import ElementRandom
    from miscible.merge.ops.sparsify import Sparsifier


@dataclass(frozen=True, slots=True)
class Formula:
    """What the last pass computes.

    Attributes:
        weights: of the inputs.
        scale: of the sum, on differences.
        sparsifiers: one an input, None where all keep everything.
        random: generators of the sparsifiers that draw.
        rescale: whether kept elements are scaled to the L1 norm of all.
        elected: whether only those that agree with the elected sign are summed.
        normalize: with *elected*: whether the sum is divided by the weights that agree.
    """

    weights: tuple[float, ...]
    scale: float = 1.0
    sparsifiers: tuple[Sparsifier, ...] | None = None
    random: tuple[ElementRandom, ...] = field(default=())
    rescale: bool = False
    elected: bool = False
    normalize: bool = False


class StreamedWeight(Weight):
    """A merged tensor that is still a formula."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula


class StreamedDelta(Delta):
    """A merged difference that is still a formula."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula

    def scaled(self, factor: float) -> StreamedDelta:
        """Return the difference times *factor*."""
        return StreamedDelta(replace(self.formula, scale=self.formula.scale * factor))


class StreamedWeights(Weights):
    """One tensor of each model, in files."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        _not_streamed()

    def __len__(self) -> int:
        return self._passes.models

    def gram(self) -> np.ndarray:
        """Return the inner products; costs a pass."""
        return self._passes.gram()

    def weighted_sum(self, weights: Sequence[float]) -> StreamedWeight:
        """Return sum w_i x_i."""
        return StreamedWeight(Formula(tuple(weights)))


class StreamedDeltas(Deltas):
    """One tensor's differences from the base, in files."""

    def __init__(
        self,
        passes: Passes,
        sparsifiers: Sequence[Sparsifier] | None = None,
        random: Sequence[ElementRandom] = (),
        *,
        rescale: bool = False,
    ) -> None:
        self._passes = passes
        self._sparsifiers = None if sparsifiers is None else tuple(sparsifiers)
        self._random, self._rescale = tuple(random), rescale
        self.factors = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        _not_streamed()

    def __len__(self) -> int:
        return self._passes.models - 1

    def gram(self) -> np.ndarray:
        """Return the inner products; costs a pass."""
        if self._sparsifiers is not None:
            _not_streamed()
        return self._passes.gram()

    def weighted_sum(self, weights: Sequence[float]) -> StreamedDelta:
        """Return sum w_i d_i."""
        return StreamedDelta(self._formula(weights))

    def sparsified(
        self,
        sparsifiers: Sequence[Sparsifier],
        random: Sequence[ElementRandom] = (),
        *,
        rescale: bool = False,
    ) -> StreamedDeltas:
        """Return the differences with only the elements that each model's sparsifier keeps."""
        if self._sparsifiers is not None:
            _not_streamed()
        if all(isinstance(sparsifier, KeepAll) for sparsifier in sparsifiers):
            return self
        return StreamedDeltas(self._passes, sparsifiers, random, rescale=rescale)

    def elected_sum(self, weights: Sequence[float], *, normalize: bool) -> StreamedDelta:
        """Return the sum of the weighted differences that agree with the elected sign."""
        return StreamedDelta(replace(self._formula(weights), elected=True, normalize=normalize))

    def _formula(self, weights: Sequence[float]) -> Formula:
        return Formula(
            tuple(weights),
            sparsifiers=self._sparsifiers,
            random=self._random,
            rescale=self._rescale,
        )


def _not_streamed() -> NoReturn:
    raise MiscibleError(
        "the method is declared with 'streams' and uses what has no streamed form.",
        fix="Leave 'streams' out of its declaration.",
    )
