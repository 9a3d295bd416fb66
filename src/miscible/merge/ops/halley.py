"""Inverse square roots of Gram matrices by Halley's iteration, without eigenvectors.

The dynamically weighted Halley iteration (QDWH; Nakatsukasa, Bai and Gygi, SIMAX 2010, eq. 3.5-3.6)
takes singular values x to x (a + b x^2) / (1 + c x^2). On a Gram matrix G, and with the resolvent
R = (I + c G)^-1, a step multiplies by beta + alpha R, where alpha = a - b / c and beta = b / c.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from miscible.merge.ops.products import holds, multiply, symmetric_product

if TYPE_CHECKING:
    import torch

_NEAR = 0.5
"""Singular value from which a polynomial is enough."""
_ABOVE = 0.01
"""How far the largest eigenvalue may lie above 1."""
_RECURSIVE = 1e3
"""Largest c up to which a float32 inverse from those of blocks is as good as Cholesky's."""
_BLOCK = 256
_POWER_STEPS = 12
_MARGIN = 1.1


def gram_root(
    square: torch.Tensor,
    guess: float,
    floor: float,
    top: float | None = None,
    tolerance: float = 1e-4,
) -> torch.Tensor | None:
    """Return G^(-1/2), float32, or None if singular values (of X, G = X X^T) are below a floor.

    Args:
        square: G, float32 or float64.
        guess: the smallest singular value expected, of the largest. A smaller one costs steps.
        floor: the smallest one that is accepted.
        top: an upper bound of the eigenvalues, estimated if None.
        tolerance: the largest relative error of the polynomial that ends the iteration.
    """
    top = largest(square) if top is None else top
    if not holds(top, square.dtype):
        return None
    rest, root, low = square / top, None, guess
    while low < _NEAR:
        a, b, c = weights(low)
        alpha, beta = a - b / c, b / c
        inverse = resolvent(rest, c)
        if inverse is None:
            return None
        # The new Gram matrix, G (beta + alpha R)^2, needs one product, as c G R = I - R.
        rest, inverse = rest.float(), inverse.float()
        doubled = symmetric_product(inverse, inverse.T)
        measured = _smallest(doubled, c)
        if root is None and measured < floor:
            return None
        low = min(low, measured)
        rest.mul_(beta**2).add_(inverse, alpha=alpha * (alpha - 2.0 * beta) / c)
        rest.sub_(doubled, alpha=alpha**2 / c).diagonal().add_(2.0 * alpha * beta / c)
        step = inverse.mul_(alpha)
        step.diagonal().add_(beta)
        root = step if root is None else _joined(root, step, square.dtype)
        low = low * (a + b * low * low) / (1.0 + c * low * low)
    last = _polynomial_root(rest.float(), low * low, tolerance)
    root = last if root is None else symmetric_product(root, last.T)
    return root.div_(math.sqrt(top))


def weights(low: float) -> tuple[float, float, float]:
    """Return the a, b, c that serve singular values in [low, 1] best."""
    square = low * low
    d = (4.0 * (1.0 - square) / square**2) ** (1.0 / 3.0)
    bend = math.sqrt(1.0 + d)
    a = bend + 0.5 * math.sqrt(8.0 - 4.0 * d + 8.0 * (2.0 - square) / (square * bend))
    b = (a - 1.0) ** 2 / 4.0
    return a, b, a + b - 1.0


def resolvent(square: torch.Tensor, c: float) -> torch.Tensor | None:
    """Return (I + c G)^-1, or None if rounding has made that indefinite."""
    import torch

    shifted = c * square
    shifted.diagonal().add_(1.0)
    block = _BLOCK if c <= _RECURSIVE and square.dtype == torch.float32 else len(square)
    found = _inverse(shifted, block)
    return found if bool(found.diagonal().isfinite().all()) else None


def largest(square: torch.Tensor) -> float:
    """Return the largest eigenvalue of a positive matrix, or a little more."""
    return _MARGIN * _power(square.float())


def random_rows(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """Return normal deviates, always the same, of the dtype and on the device of *like*.

    Vectors to multiply by are rows: a few columns cost several times as much.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    made = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return made.to(like.device, like.dtype)


def _inverse(matrix: torch.Tensor, block: int) -> torch.Tensor:
    """Return the inverse of a positive matrix; not finite if it is not positive.

    Large ones from the inverses of a quarter and of its Schur complement: products run at several
    times the speed of LAPACK's inverse.
    """
    import torch

    if len(matrix) <= block:
        lower, failed = torch.linalg.cholesky_ex(matrix)
        return lower.fill_(math.nan) if int(failed) else torch.cholesky_inverse(lower)
    half = len(matrix) // 2
    corner, side = _inverse(matrix[:half, :half], block), matrix[:half, half:]
    across = multiply(corner, side)
    complement = _inverse(matrix[half:, half:] - symmetric_product(side.T, across), block)
    turned = multiply(across, complement)
    found = torch.empty_like(matrix)
    found[:half, :half] = corner.add_(symmetric_product(turned, across.T))
    found[half:, half:] = complement
    found[:half, half:] = turned.neg_()
    found[half:, :half] = turned.T
    return found


def _joined(root: torch.Tensor, step: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    # The steps differ in size by orders: their product needs the precision of the Gram matrix.
    return symmetric_product(root.to(wide), step.to(wide).T).float()


def _smallest(doubled: torch.Tensor, c: float) -> float:
    """Return the smallest singular value that (I + c G)^-2 tells of, or a little less."""
    value = math.sqrt(_power(doubled))
    return math.sqrt(max(1.0 / value - 1.0, 0.0) / c) / _MARGIN if value else 0.0


def _power(square: torch.Tensor) -> float:
    vector = random_rows(1, len(square), square)[0]
    norm = 0.0
    for _ in range(_POWER_STEPS):
        vector = square @ (vector / vector.norm())
        norm = float(vector.norm())
        if norm == 0.0:
            return 0.0
    return norm


def _polynomial_root(square: torch.Tensor, low: float, tolerance: float) -> torch.Tensor:
    """Return the inverse root of a matrix with eigenvalues in [low, 1]."""
    c = _coefficients(low, tolerance)
    e1 = square.neg()
    e1.diagonal().add_(1.0)
    e2 = symmetric_product(e1, e1.T)
    if len(c) == 3:
        root = e2.mul_(c[2]).add_(e1, alpha=c[1])
    elif len(c) == 5:
        upper = (e2 * c[4]).add_(e1, alpha=c[3])
        upper.diagonal().add_(c[2])
        root = symmetric_product(upper, e2.T).add_(e1, alpha=c[1])
    else:
        e3 = symmetric_product(e1, e2.T)
        upper = (e3 * c[6]).add_(e2, alpha=c[5]).add_(e1, alpha=c[4])
        upper.diagonal().add_(c[3])
        root = symmetric_product(upper, e3.T).add_(e2, alpha=c[2]).add_(e1, alpha=c[1])
    root.diagonal().add_(c[0])
    return root


def _coefficients(low: float, tolerance: float) -> list[float]:
    """Return those of a polynomial of degree 2, 4 or 6 for (1 - e)^(-1/2), e from 0 to 1 - low."""
    import numpy as np

    grid = np.linspace(-_ABOVE, 1.0 - low, 50)
    for degree in (2, 4, 6):
        fit = np.polynomial.Chebyshev.interpolate(
            lambda e: (1.0 - e) ** -0.5, degree, domain=[grid[0], grid[-1]]
        )
        if np.abs(fit(grid) * np.sqrt(1.0 - grid) - 1.0).max() < tolerance:
            break
    found: list[float] = fit.convert(kind=np.polynomial.Polynomial).coef.tolist()
    return found
