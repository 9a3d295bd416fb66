"""Polar factors: the nearest matrix with orthonormal rows or columns, without an SVD.

The polar factor of X = U S V^T is U V^T = (X X^T)^(-1/2) X. The inverse square root comes from the
dynamically weighted Halley iteration (QDWH; Nakatsukasa, Bai and Gygi, SIMAX 2010, eq. 3.5-3.6)
carried out on the Gram matrix alone, so that the long side is met twice whatever the number of
steps. Numerically null directions (`spectral.NULL`) have no polar factor: it is 0 there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from miscible.merge.ops.products import gram, multiply
from miscible.merge.ops.spectral import NULL, SMALL

if TYPE_CHECKING:
    import torch

_LOW_FLOAT32 = 2e-2
"""Smallest singular value, of the largest, that a float32 Gram matrix holds to 1e-3."""
_NEAR = 0.5
"""Singular value from which a polynomial is enough."""
_RESIDUAL = 1e-3
"""Root mean square of the eigenvalues of I - P P^T above which the iteration has failed."""
_PROBES = 4
_POWER_STEPS = 12
_MARGIN = 1.1


def flattened(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix U S V^T with all singular values replaced by their mean.

    The mean is over the smaller side: the nuclear norm, trace (X X^T)^(1/2), by the number of rows
    or columns. Agrees with a full SVD to 1e-3 (Frobenius, relative) where all directions are well
    defined; on numerically null ones it is 0, where a full SVD fills an arbitrary completion.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return flattened(matrix.T.contiguous()).T
    root, nuclear = inverse_root(matrix)
    flat = multiply(root.mul_(nuclear / len(matrix)), matrix.to(root.dtype))
    return flat.to(matrix.dtype)


def inverse_root(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return (X X^T)^(-1/2) of X = *rows*, [n, m] with n <= m, and the nuclear norm of X.

    The root is 0 on numerically null directions, so that root @ X is the polar factor elsewhere. It
    is float64 where float32 would lose too much: multiply in its dtype.
    """
    import torch

    if rows.dtype == torch.float64 or rows.shape[0] <= SMALL:
        u, s, _ = torch.linalg.svd(rows.double(), full_matrices=False)
        return _from_eigen(s, u)
    if rows.shape[1] >= 2 * rows.shape[0]:
        square = gram(rows, torch.float32)
        root = _halley(square, _LOW_FLOAT32)
        if root is not None:
            return root, float((root * square).sum(dtype=torch.float64))
    square = gram(rows, torch.float64)
    root = _halley(square, NULL)
    if root is not None:
        return root, float((root * square).sum())
    values, vectors = torch.linalg.eigh(square)
    return _from_eigen(values.clamp(min=0.0).sqrt(), vectors)


def _from_eigen(s: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
    kept = s > NULL * s.max()
    u = vectors[:, kept]
    return (u / s[kept]) @ u.T, float(s[kept].sum())


def _halley(square: torch.Tensor, low: float) -> torch.Tensor | None:
    """Return the inverse root of a Gram matrix, float32, or None if it has values below *low*.

    With x -> x (a + b x^2) / (1 + c x^2) on singular values and R = (I + c G)^-1, a step multiplies
    by beta + alpha R, and the new Gram matrix needs one product, R R, besides R itself.
    """
    top = _largest(square)
    if top == 0.0:
        return None
    rest = square / top
    root: torch.Tensor | None = None
    while low < _NEAR:
        a, b, c = _weights(low)
        alpha, beta = a - b / c, b / c
        resolvent = _resolvent(rest, c)
        if resolvent is None:
            return None
        rest, resolvent = rest.float(), resolvent.float()
        rest.mul_(beta**2).add_(resolvent, alpha=alpha * (alpha - 2.0 * beta) / c)
        rest.sub_(multiply(resolvent, resolvent), alpha=alpha**2 / c)
        rest.diagonal().add_(2.0 * alpha * beta / c)
        step = resolvent.mul_(alpha)
        step.diagonal().add_(beta)
        # The steps differ in size by orders: their product needs the precision of the Gram matrix.
        wide = square.dtype
        root = step if root is None else multiply(root.to(wide), step.to(wide)).float()
        low = low * (a + b * low * low) / (1.0 + c * low * low)
    last = _polynomial_root(rest, low * low)
    root = last if root is None else multiply(root, last)
    root = root.div_(math.sqrt(top))
    return root if _residual(square, root) < _RESIDUAL else None


def _polynomial_root(square: torch.Tensor, low: float) -> torch.Tensor:
    """Return the inverse root of a matrix with eigenvalues in [low, 1], to 1e-4 from low 0.25."""
    import numpy as np

    fit = np.polynomial.Chebyshev.interpolate(
        lambda e: (1.0 - e) ** -0.5, 6, domain=[-0.06, 1.0 - 0.98 * low]
    )
    c0, c1, c2, c3, c4, c5, c6 = fit.convert(kind=np.polynomial.Polynomial).coef.tolist()
    e1 = square.neg()
    e1.diagonal().add_(1.0)
    e2 = multiply(e1, e1)
    e3 = multiply(e1, e2)
    upper = (e3 * c6).add_(e2, alpha=c5).add_(e1, alpha=c4)
    upper.diagonal().add_(c3)
    root = multiply(upper, e3).add_(e2, alpha=c2).add_(e1, alpha=c1)
    root.diagonal().add_(c0)
    return root


def _residual(square: torch.Tensor, root: torch.Tensor) -> float:
    """Return an estimate of the root mean square of the eigenvalues of I - W G W."""
    probes = _random(len(square), _PROBES, square)
    wide = root.to(square.dtype)
    difference = probes - wide @ (square @ (wide @ probes))
    return float(difference.norm() / probes.norm())


def _weights(low: float) -> tuple[float, float, float]:
    """Return the a, b, c that serve singular values in [low, 1] best."""
    square = low * low
    d = (4.0 * (1.0 - square) / square**2) ** (1.0 / 3.0)
    bend = math.sqrt(1.0 + d)
    a = bend + 0.5 * math.sqrt(8.0 - 4.0 * d + 8.0 * (2.0 - square) / (square * bend))
    b = (a - 1.0) ** 2 / 4.0
    return a, b, a + b - 1.0


def _resolvent(square: torch.Tensor, c: float) -> torch.Tensor | None:
    import torch

    shifted = c * square
    shifted.diagonal().add_(1.0)
    lower, failed = torch.linalg.cholesky_ex(shifted)
    return None if int(failed) else torch.cholesky_inverse(lower)


def _largest(square: torch.Tensor) -> float:
    """Return the largest eigenvalue of a positive matrix, or a little more."""
    square = square.float()
    vector = _random(len(square), 1, square)
    norm = 0.0
    for _ in range(_POWER_STEPS):
        vector = square @ (vector / vector.norm())
        norm = float(vector.norm())
        if norm == 0.0:
            return 0.0
    return _MARGIN * norm


def _random(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(0)
    made = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return made.to(like.device, like.dtype)
