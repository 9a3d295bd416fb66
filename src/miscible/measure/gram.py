"""Inner products of two vectors: the one source of every cosine, distance and rank of a pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gram:
    """The inner products of two vectors a and b, accumulated in float64.

    What is derived from one Gram is consistent by construction: distance, cosine and dot product
    of one pair can never disagree.

    Attributes:
        aa, bb: squared norms.
        ab: <a, b>.
    """

    aa: float
    bb: float
    ab: float

    @classmethod
    def of(cls, a: Sequence[float], b: Sequence[float]) -> Gram:
        """Return the Gram of two vectors (sequences or arrays of floats), exactly rounded."""
        return cls(
            math.fsum(x * x for x in a),
            math.fsum(y * y for y in b),
            math.fsum(x * y for x, y in zip(a, b, strict=True)),
        )

    @classmethod
    def total(cls, grams: Iterable[Gram]) -> Gram:
        """Return the Gram of vectors that consist of pieces."""
        held = list(grams)
        return cls(
            math.fsum(g.aa for g in held), math.fsum(g.bb for g in held),
            math.fsum(g.ab for g in held),
        )  # fmt: skip

    @property
    def swapped(self) -> Gram:
        """The Gram of b and a."""
        return Gram(self.bb, self.aa, self.ab)

    @property
    def norm_a(self) -> float:
        """|a|."""
        return math.sqrt(max(self.aa, 0.0))

    @property
    def norm_b(self) -> float:
        """|b|."""
        return math.sqrt(max(self.bb, 0.0))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between a and b, within [-1, 1]; NaN if either is zero."""
        product = self.norm_a * self.norm_b
        return max(-1.0, min(1.0, self.ab / product)) if product > 0 else math.nan

    @property
    def distance(self) -> float:
        """|a - b|."""
        return math.sqrt(max(self.aa + self.bb - 2 * self.ab, 0.0))

    @property
    def ratio(self) -> float:
        """Smaller over larger norm; 0 when either is below 1e-8 (2601.22285)."""
        small, large = sorted((self.norm_a, self.norm_b))
        return small / large if small >= 1e-8 else 0.0

    @property
    def singular_values(self) -> tuple[float, float]:
        """Singular values s1 >= s2 of the stack [a; b], from the 2 x 2 Gram in closed form."""
        spread = math.hypot(self.aa - self.bb, 2 * self.ab)
        largest = (self.aa + self.bb + spread) / 2
        if largest <= 0:
            return 0.0, 0.0
        product = self.norm_a * self.norm_b  # of the determinant: two factors lose less than one
        determinant = max((product - self.ab) * (product + self.ab), 0.0)
        return math.sqrt(largest), min(math.sqrt(determinant / largest), math.sqrt(largest))
