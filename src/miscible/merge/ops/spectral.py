"""Singular value decompositions of task matrices, without a full SVD of a large one.

Directions whose singular value is below `NULL` times the largest are numerically null: what stands
there is the rounding of float32 checkpoints, so they are left out. A full SVD puts an arbitrary
orthonormal basis there instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miscible.merge.ops.eigen import leading_eigen
from miscible.merge.ops.products import gram, holds, multiply

if TYPE_CHECKING:
    import torch

    from miscible.merge.spaces import Deltas
    from miscible.models.delta import LowRank

NULL = 2e-6
"""Share of the largest singular value below which a direction is numerically null."""
SMALL = 96
"""Smaller side up to which LAPACK's SVD in float64 is as fast as anything else."""
_CLEAR = 1e-3
"""Share of the largest eigenvalue above which a float32 Gram matrix tells directions apart."""


_NEAR_CUT = 48
"""Directions on either side of a cut that are decomposed again."""


@dataclass(frozen=True, slots=True, eq=False)
class Singular:
    """The leading singular triplets of a matrix ``u @ diag(s) @ v.T``, the largest first.

    Attributes:
        u: [rows, count], orthonormal.
        s: [count], float64, positive.
        v: [columns, count], orthonormal.
    """

    u: torch.Tensor
    s: torch.Tensor
    v: torch.Tensor

    def __len__(self) -> int:
        return self.s.shape[0]

    def leading(self, count: int) -> Singular:
        """Return the *count* largest, or all if there are fewer."""
        return Singular(self.u[:, :count], self.s[:count], self.v[:, :count])

    def above(self, floor: float) -> Singular:
        """Return those with a singular value above *floor*."""
        return self.leading(int((self.s > floor).sum()))

    def dense(self) -> torch.Tensor:
        """Return the matrix multiplied out."""
        return multiply(self.u * self.s.to(self.u.dtype), self.v.T)


def is_matrix(tensor: torch.Tensor) -> bool:
    """Return whether spectral methods treat *tensor* as a matrix.

    Convolution weights, [out, in, *kernel], count as [out, in * kernel] matrices; vectors, and
    matrices of one row or column, have no spectrum to speak of.
    """
    return tensor.ndim >= 2 and min(tensor.shape[0], tensor[0].numel()) > 1


def as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    """Return a weight as a matrix [out, everything else]; small ones in float64.

    Where nothing is saved by float32, results are kept clear of its rounding.
    """
    matrix = tensor.reshape(tensor.shape[0], -1)
    return matrix.double() if min(matrix.shape) <= SMALL else matrix


def decompose(matrix: torch.Tensor, count: int | None = None) -> Singular:
    """Return the *count* leading singular triplets (all if None) that are not numerically null.

    Float64 and small matrices take LAPACK's SVD, others the eigenvectors of the Gram matrix of the
    smaller side. ``u`` and ``v`` have the matrix's dtype.
    """
    import torch

    wanted = min(matrix.shape) if count is None else min(count, *matrix.shape)
    if _goes_direct(matrix):
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        found = Singular(u.to(matrix.dtype), s, vt.T.to(matrix.dtype))
        return found.above(_floor(s)).leading(wanted)
    if matrix.shape[0] < matrix.shape[1]:
        turned = decompose(matrix.T, count)
        return Singular(turned.v, turned.s, turned.u)
    s, vectors = _right_side(matrix, wanted)
    v = vectors.to(matrix.dtype)
    # Vectors are rows in memory: whoever joins or multiplies them finds them in one piece.
    rows = multiply(v.T, matrix.T).div_(s.to(matrix.dtype)[:, None])
    return Singular(rows.T, s, v)


def leading_side(matrix: torch.Tensor) -> torch.Tensor:
    """Return the left singular vectors of a matrix that are not null, the largest first."""
    import torch

    if _goes_direct(matrix):
        return decompose(matrix).u
    if matrix.shape[0] <= matrix.shape[1]:
        return _right_side(matrix.T, matrix.shape[0])[1].to(matrix.dtype)
    # Through the other side small directions lose orthogonality: a basis must not.
    basis, corner = torch.linalg.qr(decompose(matrix).u)
    aligned: torch.Tensor = basis * corner.diagonal().sign()
    return aligned


def scale_spectrum(
    matrix: torch.Tensor, factors: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return the matrix with each singular value times a factor; null directions become 0.

    Args:
        factors: from all singular values that are not null, the largest first, float64 [count].
    """
    if matrix.shape[0] < matrix.shape[1]:
        return scale_spectrum(matrix.T, factors).T
    if _goes_direct(matrix):
        found = decompose(matrix.double())
        scaled = Singular(found.u, found.s * factors(found.s), found.v)
        return scaled.dense().to(matrix.dtype)
    s, v = _right_side(matrix, min(matrix.shape))
    scale = factors(s)
    kept = scale != 0
    scale, v = scale[kept], v[:, kept].double()
    # What raises small singular values raises the rounding of the product with them.
    exact = len(scale) > 0 and float(scale.square().mean().sqrt()) > 100.0 * float(scale.min())
    work = matrix.double() if exact else matrix
    turned, back = (v * scale).to(work.dtype), v.T.to(work.dtype)
    if 2 * len(scale) < matrix.shape[1]:
        return multiply(multiply(work, turned), back).to(matrix.dtype)
    return multiply(work, multiply(turned, back)).to(matrix.dtype)


def decompose_product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> Singular:
    """Return the singular triplets of ``left @ right`` (float64, thin) that are not null."""
    import torch

    left_basis, left_core = torch.linalg.qr(left)
    right_basis, right_core = torch.linalg.qr(right.T)
    u, s, vt = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    found = Singular((left_basis @ u).to(dtype), s, (right_basis @ vt.T).to(dtype))
    return found.above(_floor(s))


def sides(factors: LowRank) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 (left, right) with ``left @ right`` the weight as it is stored."""
    left, right = factors.b.double() * factors.scale, factors.a.double()
    return (right.T, left.T) if factors.transposed else (left, right)


def stacked_sides(
    factors: Sequence[LowRank], weights: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 (left, right) with ``left @ right`` the weighted sum of low-rank matrices."""
    import torch

    pairs = [sides(factor) for factor in factors]
    left = torch.cat([w * left for w, (left, _) in zip(weights, pairs, strict=True)], dim=1)
    return left, torch.cat([right for _, right in pairs])


def decompose_each(deltas: Deltas, count: int | None = None) -> list[Singular]:
    """Return the *count* leading triplets of every difference, from its factors if it has them."""
    if deltas.factors is None:
        return [decompose(as_matrix(delta), count) for delta in deltas.tensors]
    dtype = wide_dtype(deltas.factors)
    found = [decompose_product(*sides(factor), dtype) for factor in deltas.factors]
    return [one if count is None else one.leading(count) for one in found]


def wide_dtype(factors: Sequence[LowRank]) -> torch.dtype:
    """Return the dtype in which these factors are merged: float64 if one is, else float32."""
    import torch

    double = any(torch.float64 in (f.a.dtype, f.b.dtype) for f in factors)
    return torch.float64 if double else torch.float32


def _goes_direct(matrix: torch.Tensor) -> bool:
    import torch

    return matrix.dtype == torch.float64 or min(matrix.shape) <= SMALL


def _floor(s: torch.Tensor) -> float:
    return NULL * float(s[0]) if len(s) else 0.0


def _right_side(matrix: torch.Tensor, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the leading singular values, float64, and right vectors of a tall matrix."""
    import torch

    count = matrix.shape[1]
    # All directions of a nearly square matrix: the smallest never stand clear.
    clear = wanted < count or matrix.shape[0] >= 2 * count
    if clear:
        square = gram(matrix.T, torch.float32)
        clear = holds(float(square.diagonal().max()), torch.float32)
    if clear:
        squares, vectors = leading_eigen(square, min(count, wanted + _NEAR_CUT))
        clear = bool(squares[wanted - 1] >= _CLEAR * squares[0])
    if not clear:
        squares, vectors = leading_eigen(gram(matrix.T, torch.float64), wanted)
    elif wanted < count:
        _sharpen_cut(matrix, squares, vectors, wanted)
    squares, vectors = squares[:wanted], vectors[:, :wanted]
    s = squares.clamp(min=0.0).sqrt()
    kept = int((s > _floor(s)).sum())
    return s[:kept], vectors[:, :kept]


def _sharpen_cut(
    matrix: torch.Tensor, squares: torch.Tensor, vectors: torch.Tensor, cut: int
) -> None:
    """Redo the decomposition of the directions on both sides of a cut, in place.

    Rounding of the Gram matrix is relative to its largest eigenvalue and turns eigenvectors by it
    over their distance. Between those that stay or go together this cancels; across the cut it
    does not, and the near ones are far less confused among themselves (Rayleigh-Ritz).
    """
    near = slice(max(0, cut - _NEAR_CUT), cut + _NEAR_CUT)
    basis = vectors[:, near]
    image = multiply(basis.T, matrix.T)
    squares[near], turned = leading_eigen(gram(image, squares.dtype), len(image))
    vectors[:, near] = multiply(basis, turned.to(basis.dtype))
