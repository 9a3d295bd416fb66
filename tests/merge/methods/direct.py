"""Methods run on tensors directly, as the engine would run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from miscible.merge.contract import METHODS, REQUIRED, Context, Delta, Deltas, Site
from miscible.merge.ops.random import ElementRandom


def task_vectors(
    count: int = 3,
    shape: Sequence[int] = (16, 9),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[torch.Tensor]:
    """Return random task vectors of the size that fine-tuning makes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        0.01 * torch.randn(tuple(shape), generator=generator, dtype=dtype) for _ in range(count)
    ]


def run(
    name: str, deltas: Sequence[torch.Tensor] | Deltas, role: str = "mlp", **values: Any
) -> torch.Tensor:
    """Return what the registered method makes of the task vectors.

    Parameters that are not given have their defaults, required ones are 1; a list has a value for
    each model.
    """
    method = METHODS.get(name)
    given = {("lambda" if key == "lambda_" else key): value for key, value in values.items()}
    assert given.keys() <= method.parameters.keys()
    full: dict[str, Any] = {}
    for key, parameter in method.parameters.items():
        default = 1.0 if parameter.default is REQUIRED else parameter.default
        value = given.get(key, default)
        if parameter.per_model and not isinstance(value, list):
            value = [value] * len(deltas)
        full[key] = tuple(value) if parameter.per_model else value
    inputs = deltas if isinstance(deltas, Deltas) else Deltas(deltas)
    random = tuple(ElementRandom(0, f"m{i}", "w") for i in range(len(inputs)))
    merged = method(inputs, full, Context(Site("w", 0, 2, 0.0, role), random))
    assert isinstance(merged, Delta)
    return merged.tensor


def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in tensors]


def assert_near(found: torch.Tensor, wanted: np.ndarray, tolerance: float = 1e-12) -> None:
    """Check that all elements agree within a share of the largest."""
    assert tuple(found.shape) == wanted.shape
    error = np.abs(found.double().numpy() - wanted).max()
    assert error <= tolerance * np.abs(wanted).max(), f"{error:.1e}"
