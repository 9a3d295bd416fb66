"""Polar factors: the nearest matrix with orthonormal rows or columns, without an SVD.

The polar factor of X = U S V^T is U V^T = (X X^T)^(-1/2) X. Numerically null directions
(`spectral.NULL`) have none: it is 0 there.

An oblong X is met twice, in its Gram matrix and in the last product, whatever comes between. Of a
nearly square one the Gram matrix would have to be float64, as its small singular values matter: a
first Halley step on X itself raises them, after which float32 is enough. Whatever float32 has
found is checked, and done again in float64 if it fails, and with eigenvectors if that fails.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from miscible.merge.ops.halley import gram_root, largest, random_rows, resolvent
from miscible.merge.ops.products import gram, holds, multiply
from miscible.merge.ops.spectral import NULL, SMALL

if TYPE_CHECKING:
    import torch

_LOW_FLOAT32 = 2e-2
"""Smallest singular value, of the largest, that a float32 Gram matrix holds to 1e-3."""
_USUAL = 5e-2
"""Smallest singular value to expect of an oblong matrix."""
_LIFT = 2.5e5
"""The c of the step on a nearly square matrix itself. From 1e-4, it raises them to `_LIFTED`."""
_LIFTED = 0.1
_LOW_LIFTED = 2e-3
_POLYNOMIAL = 4e-4
"""Largest relative error of the polynomial that follows: one of degree 2, if all went as usual."""
_INEXACT = 3e-4
"""Root mean square of the eigenvalues of that step's resolvent's error above which it failed."""
_RESIDUAL = 1e-3
"""Root mean square of the eigenvalues of I - P P^T above which the iteration has failed."""
_PROBES = 4


class Polar(NamedTuple):
    """A polar factor, multiplied out or as two factors, and the nuclear norm of the matrix.

    Attributes:
        root: [n, n], symmetric, so that ``root @ rows`` is the factor; None if *rows* is it.
        rows: [n, m].
        nuclear: the sum of the singular values.
    """

    root: torch.Tensor | None
    rows: torch.Tensor
    nuclear: float


def flattened(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix U S V^T with all singular values replaced by their mean.

    The mean is over the smaller side: the nuclear norm, trace (X X^T)^(1/2), by the number of rows
    or columns. Agrees with a full SVD to 1e-3 (Frobenius, relative) where all directions are well
    defined; on numerically null ones it is 0, where a full SVD fills an arbitrary completion.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return flattened(matrix.T).T
    root, rows, nuclear = polar(matrix)
    if root is None:
        return rows * (nuclear / len(rows))
    return multiply(root.mul_(nuclear / len(rows)), rows.to(root.dtype)).to(matrix.dtype)


def polar(rows: torch.Tensor) -> Polar:
    """Return the polar factor of a matrix, [n, m] with n <= m, in the cheapest form."""
    if _is_single(rows) and rows.shape[1] < 2 * rows.shape[0]:
        found = _lifted_polar(rows)
        if found is not None:
            return Polar(None, found, float((found * rows).sum()))
    root, nuclear = inverse_root(rows)
    return Polar(root, rows, nuclear)


def inverse_root(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return (X X^T)^(-1/2) of X = *rows*, [n, m] with n <= m, and the nuclear norm of X.

    The root is 0 on numerically null directions, so that root @ X is the polar factor elsewhere. It
    is float64 where float32 would lose too much: multiply in its dtype.
    """
    import torch

    if not _is_single(rows):
        u, s, _ = torch.linalg.svd(rows.double(), full_matrices=False)
        return _from_eigen(s, u)
    if rows.shape[1] >= 2 * rows.shape[0]:
        square = gram(rows, torch.float32)
        root = gram_root(square, _USUAL, _LOW_FLOAT32)
        if root is not None and _residual(square, root) < _RESIDUAL:
            return root, float((root * square).sum(dtype=torch.float64))
    square = gram(rows, torch.float64)
    root = gram_root(square, NULL, NULL)
    if root is not None and _residual(square, root) < _RESIDUAL:
        return root, float((root * square).sum())
    values, vectors = torch.linalg.eigh(square)
    return _from_eigen(values.clamp(min=0.0).sqrt(), vectors)


def _is_single(rows: torch.Tensor) -> bool:
    """Return whether a matrix is one that anything but LAPACK's SVD in float64 pays for."""
    import torch

    return rows.dtype != torch.float64 and rows.shape[0] > SMALL


def _from_eigen(s: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
    kept = s > NULL * s.max()
    u = vectors[:, kept]
    return (u / s[kept]) @ u.T, float(s[kept].sum())


def _lifted_polar(rows: torch.Tensor) -> torch.Tensor | None:
    """Return the polar factor of a nearly square matrix, or None if float32 cannot tell it."""
    import torch

    lifted = _lifted(rows)
    if lifted is None:
        return None
    square = gram(lifted, torch.float32)
    root = gram_root(square, _LIFTED, _LOW_LIFTED, top=1.0, tolerance=_POLYNOMIAL)
    if root is None:
        return None
    found = multiply(root, lifted)
    probes = random_rows(_PROBES, len(found), found)
    difference = probes - (probes @ found) @ found.T
    return found if float(difference.norm() / probes.norm()) < _RESIDUAL else None


def _lifted(rows: torch.Tensor) -> torch.Tensor | None:
    """Return a matrix after a Halley step, with the largest singular value at 1.

    Errors of the resolvent turn the small singular vectors among themselves, about as far as they
    are large, and hardly do anything else to the polar factor: None if they are too large.
    """
    import torch

    square = gram(rows, torch.float32)
    top = largest(square)
    if not holds(top, square.dtype):
        return None
    c = _LIFT / top
    inverse = resolvent(square, c)
    if inverse is None:
        return None
    if not _inverse_error(inverse, rows, c) < _INEXACT:
        return None
    a = 2.0 * math.sqrt(1.0 + _LIFT) - 1.0
    beta = (a - 1.0) ** 2 / (4.0 * _LIFT)
    step = inverse.mul_((a - beta) / math.sqrt(top))
    step.diagonal().add_(beta / math.sqrt(top))
    return multiply(step, rows)


def _inverse_error(inverse: torch.Tensor, rows: torch.Tensor, c: float) -> float:
    """Return an estimate of the root mean square of the eigenvalues of R - (I + c X X^T)^-1.

    It is what one step of iterative refinement in float64 would add to R.
    """
    wide = rows.double()
    probes = random_rows(_PROBES, len(rows), wide)
    found = (probes.to(inverse.dtype) @ inverse).double()
    missing = probes - found - c * ((found @ wide) @ wide.T)
    return float((missing.to(inverse.dtype) @ inverse).norm() / probes.norm())


def _residual(square: torch.Tensor, root: torch.Tensor) -> float:
    """Return an estimate of the root mean square of the eigenvalues of I - W G W."""
    probes = random_rows(_PROBES, len(square), square)
    wide = root.to(square.dtype)
    difference = probes - ((probes @ wide) @ square) @ wide
    return float(difference.norm() / probes.norm())
