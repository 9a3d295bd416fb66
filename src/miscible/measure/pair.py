"""What is known of two models together: numbers and small matrices, no files, no models.

A metric is a function of a `Pair`. Every part is computed once for all N models, and a pair is a
view of it; parts that were not asked for are None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.measure.gram import Gram

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signs:
    """How the signs of two task vectors agree, element by element.

    Attributes:
        both: number of elements in which both are non-zero.
        conflicts: number of elements in which their signs differ.
        mass: sum of |a_e b_e| over all elements e.
    """

    both: float
    conflicts: float
    mass: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """How two k-dimensional subspaces A and B of one space overlap (orthonormal columns).

    Attributes:
        squared: |A^T B|_F^2, the sum of the squared cosines of the principal angles, in [0, k].
        k: dimension; 0 if one of the matrices has no such subspace.
        width: dimension of the space.
        noise: how much of |A^T B|_F / sqrt(k) the rounding of the stored weights alone may have
            made, in [0, 1]: Wedin's bound with the gap behind the k-th singular value.
    """

    squared: float
    k: int
    width: int
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Spectra:
    """The singular value decompositions of one matrix of both task vectors, compared.

    Attributes:
        rank_a, rank_b: numerical ranks.
        spectrum_cosine: cosine of the first 100 singular values; 0 if one matrix is zero.
        left_top, right_top: of the first 10 left and right singular vectors.
        right_bottom: of the last 10 right singular vectors of the thin decomposition; None if one
            of the matrices has not full rank, so that these are arbitrary.
    """

    rank_a: int
    rank_b: int
    spectrum_cosine: float
    left_top: Overlap
    right_top: Overlap
    right_bottom: Overlap | None


@dataclass(frozen=True, slots=True)
class TensorPair:
    """One tensor of both task vectors.

    Attributes:
        name: of the tensor.
        shape: its shape.
        gram: inner products of the two differences from the base.
        signs: None if not asked for.
        spectra: None if not asked for, and of tensors that are not 2-D.
    """

    name: str
    shape: tuple[int, ...]
    gram: Gram
    signs: Signs | None = None
    spectra: Spectra | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ActivationPair:
    """Mean hidden states of both models on one calibration set.

    Attributes:
        mean_state: [2, width] float64, mean over tokens and samples of the last block's output.
        samples, tokens: over how many it is taken.
        more: further small matrices by name, for metrics beyond those of the paper.
    """

    mean_state: Array
    samples: int
    tokens: int = 0
    more: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def gram(self) -> Gram:
        """Inner products of the two mean states."""
        first, second = self.mean_state.tolist()
        return Gram.of(first, second)


@dataclass(frozen=True)
class GradientPair:
    """Gradients of both models' losses.

    Attributes:
        grams: inner products by what they are of: ``encoder/union`` (all shared parameters),
            ``input/union`` (the input, embeddings for language models), and the same with ``own``
            (each model on its own data) and ``partner`` (each on the other's).
        samples: over how many the losses are means.
        coverage: share of the parameters that entered.
        more: further small matrices by name.
    """

    grams: Mapping[str, Gram]
    samples: int
    coverage: float = 1.0
    more: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MidpointPair:
    """What two models lose at the mean of their weights, in nats a prediction.

    Attributes:
        half_a, half_b: what each loses on its data; negative where the midpoint is better. NaN if
            the midpoint could not be run.
        reason: why not, as a sentence.
    """

    half_a: float
    half_b: float
    reason: str = ""

    @property
    def barrier(self) -> float:
        """Mean of both halves."""
        return (self.half_a + self.half_b) / 2

    @property
    def swapped(self) -> MidpointPair:
        """The same of b and a."""
        return MidpointPair(self.half_b, self.half_a, self.reason)


@dataclass(frozen=True)
class Pair:
    """Two models, a and b.

    Attributes:
        a, b: their names.
        tensors: those that both models share with the base, in the base's order.
        parameters: number of floating-point elements of the base.
        activations, gradients, midpoints: None where they were not measured.
        compat: whether metrics follow the paper's code where that differs from its definitions.
        broken: why a model could not be run, so that these are None; empty if they were not
            asked for.
    """

    a: str
    b: str
    tensors: tuple[TensorPair, ...] = ()
    parameters: int = 0
    activations: ActivationPair | None = None
    gradients: GradientPair | None = None
    midpoints: MidpointPair | None = None
    compat: bool = False
    broken: str = ""

    @cached_property
    def gram(self) -> Gram:
        """Inner products of the two task vectors over all shared tensors."""
        return Gram.total(tensor.gram for tensor in self.tensors)

    @cached_property
    def shared(self) -> int:
        """Number of elements of the shared tensors."""
        return sum(tensor.size for tensor in self.tensors)

    def coverage(self, elements: int | None = None) -> float:
        """Return the share of the base's elements; of those that both models have if None."""
        entered = self.shared if elements is None else elements
        return entered / self.parameters if self.parameters else 0.0

    def of(
        self,
        tensors: tuple[TensorPair, ...],
        parameters: int,
        activations: ActivationPair | None = None,
        gradients: GradientPair | None = None,
    ) -> Pair:
        """Return the same pair reduced to a layer, or a role."""
        return replace(
            self, tensors=tensors, parameters=parameters, activations=activations,
            gradients=gradients, midpoints=None,
        )  # fmt: skip
