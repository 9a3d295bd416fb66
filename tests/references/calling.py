"""Runs a registered method on tensors in memory, as the engine would on one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from miscible.errors import RecipeError
from miscible.merge.contract import METHODS, REQUIRED, Base, Context, Delta, Deltas, Site, Weights
from miscible.merge.ops.random import ElementRandom


def merged(
    name: str,
    tensors: Sequence[torch.Tensor],
    *,
    base: torch.Tensor | None = None,
    seed: int = 0,
    **parameters: Any,
) -> torch.Tensor:
    """Merge *tensors* with the method *name*, in float32 or float64.

    Args:
        parameters: as recipes name them (``lambda_`` for lambda); one number or one a model.
    """
    method = METHODS.get(name)
    wide = torch.promote_types(torch.float32, tensors[0].dtype)
    models = [tensor.to(wide) for tensor in tensors]
    origin = None if base is None else base.to(wide)
    if method.base in (Base.FIRST, Base.INPUT) and origin is not None:
        models, origin = [origin, *models], None
    if not method.least <= len(models) <= (method.most or len(models)):
        raise RecipeError(f"{name} does not take {len(models)} models.")
    values = _values(name, parameters, len(models))
    random = tuple(ElementRandom(seed, f"m{i}", "t") for i in range(len(models)))
    context = Context(Site("t"), random)
    inputs: Weights | Deltas = Weights(models)
    if origin is not None:
        inputs = Deltas([model - origin for model in models])
    result = method(inputs, values, context)
    assert isinstance(result, Delta) == isinstance(inputs, Deltas)
    return result.tensor if origin is None else origin + result.tensor


def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Return the tensors as float64 arrays, as the references take them."""
    return [tensor.double().numpy() for tensor in tensors]


def _values(name: str, parameters: Mapping[str, Any], count: int) -> dict[str, Any]:
    method = METHODS.get(name)
    given = {key.removesuffix("_"): value for key, value in parameters.items()}
    assert given.keys() <= method.parameters.keys(), given
    values = {}
    for key, parameter in method.parameters.items():
        value = given.get(key, parameter.default)
        assert value is not REQUIRED, key
        if parameter.per_model:
            each = value if isinstance(value, (list, tuple)) else [value] * count
            values[key] = tuple(parameter.check(one, name) for one in each)
        else:
            values[key] = parameter.check(value, name)
    wrong = method.check(values) if method.check else None
    if wrong:
        raise RecipeError(wrong)
    return values
