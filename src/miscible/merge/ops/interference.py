"""The merged task vector of a linear layer that interferes least with its tasks (WUDI, 2503.08099).

The rows of a linear layer's task vector t_i [outputs, inputs] are sums of the inputs that it was
trained on, so they stand in for those inputs, and the interference of a merged vector m is

    L(m) = sum_i |(m - t_i) t_i^T|_F^2 / |t_i|_F^2

With A_i = t_i^T t_i / |t_i|_F^2, its gradient is 2 sum_i (m - t_i) A_i. Both solvers start from the
sum s of the task vectors and see only the residual R = sum_i (s - t_i) A_i and B = sum_i A_i, so
their cost does not grow with the number of models, and one model is returned exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from miscible.models.delta import LowRank

SMALLEST_SHARE = 1e-10
"""Eigenvalues of B below this share of the largest are rounding errors of the weights."""


def least_interference(vectors: Sequence[torch.Tensor], ridge: float) -> torch.Tensor:
    """Return the minimum of L(m) + rho |m - s|_F^2 in closed form, [outputs, inputs], float64.

    m = s - R (B + rho I)^-1, where rho is *ridge* times the largest eigenvalue of B. Without a
    ridge the inverse is the pseudo-inverse, and m the minimum of L of least norm.
    """
    import torch

    rows = torch.cat(list(vectors))
    if rows.shape[0] < rows.shape[1]:
        # In a basis of all rows B is smaller, and loses only eigenvalues that are 0.
        basis: torch.Tensor = torch.linalg.qr(rows.T.double()).Q
        vectors = [vector.double() @ basis for vector in vectors]
        return least_interference(vectors, ridge).matmul(basis.T)
    total, shape, residual = _normal_equations(vectors)
    values, directions = torch.linalg.eigh(shape)
    largest = values[-1]
    if not largest > 0:
        return total
    inverse = 1.0 / (values + ridge * largest)
    inverse[values <= SMALLEST_SHARE * largest] = 0.0
    step: torch.Tensor = (residual @ directions).mul_(inverse) @ directions.T
    return total - step


def descend_interference(
    vectors: Sequence[torch.Tensor], *, steps: int, learning_rate: float
) -> torch.Tensor:
    """Return the result of *steps* of Adam on L from s, [outputs, inputs], in the vectors' dtype.

    Adam (1412.6980, algorithm 1) with its default moments.
    """
    import torch

    total, shape, residual = _normal_equations(vectors)
    dtype = vectors[0].dtype
    merged, shape, residual = total.to(dtype), shape.to(dtype), residual.to(dtype)
    moved = torch.zeros_like(merged)
    first, second = torch.zeros_like(merged), torch.zeros_like(merged)
    for step in range(1, steps + 1):
        gradient = torch.addmm(residual, moved, shape).mul_(2.0)
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        size = (second / (1.0 - 0.999**step)).sqrt_().add_(1e-8)
        moved.addcdiv_(first, size, value=-learning_rate / (1.0 - 0.9**step))
    return merged.add_(moved)


def in_shared_rows(
    factors: Sequence[LowRank], weights: Sequence[float], *, columns: bool
) -> tuple[list[torch.Tensor], torch.Tensor] | None:
    """Return low-rank task vectors in an orthonormal basis of all their rows.

    L and its minimum of least norm live in that basis, so solving there is exact.

    Args:
        factors: one a model.
        weights: what each is multiplied by.
        columns: whether the columns of the stored matrices are meant instead of the rows.

    Returns:
        the coordinates [outputs, rank] of each and the basis [inputs, rank], float64, or None
        where the ranks add up to no less than the number of inputs.
    """
    import torch

    pairs = []
    for factor, weight in zip(factors, weights, strict=True):
        left, right = factor.b.double() * (factor.scale * weight), factor.a.double()
        pairs.append((right.T, left.T) if factor.transposed != columns else (left, right))
    rows = torch.cat([right for _, right in pairs])
    if rows.shape[0] >= rows.shape[1]:
        return None
    basis = torch.linalg.qr(rows.T).Q
    return [left @ (right @ basis) for left, right in pairs], basis


def _normal_equations(
    vectors: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return s [outputs, inputs], B [inputs, inputs] and R [outputs, inputs], float64."""
    import torch

    total = vectors[0].double()
    for vector in vectors[1:]:
        total = total + vector.double()
    inputs = total.shape[1]
    shape = torch.zeros(inputs, inputs, dtype=torch.float64, device=total.device)
    residual = torch.zeros_like(total)
    for vector in vectors:
        wide = vector.double()
        square = wide.square().sum()
        if square > 0:
            inner = (wide.T @ wide).div_(square)
            shape += inner
            residual.addmm_(total - wide, inner)
    return total, shape, residual
