"""Means of weight tensors: on the line, and on the sphere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COLINEAR = 0.9995
"""Cosine beyond which the great circle is replaced by the line."""
SMALLEST_NORM = 1e-8


def slerp_coefficients(cosine: float, t: float) -> tuple[float, float]:
    """Return the coefficients of the two raw vectors in their spherical interpolation.

    Shoemake, SIGGRAPH 1985; *t* may lie outside [0, 1]. Colinear and antipodal vectors are
    interpolated on the line.
    """
    if abs(cosine) > COLINEAR:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def cosine_of(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the cosine of two flattened tensors; a norm below 1e-8 counts as 1."""
    import torch

    x, y = first.flatten(), second.flatten()
    dot = torch.dot(x.double(), y.double()).item()
    norms = [torch.linalg.vector_norm(v, dtype=torch.float64).item() for v in (x, y)]
    scale = math.prod(norm if norm > SMALLEST_NORM else 1.0 for norm in norms)
    return max(-1.0, min(1.0, dot / scale))
