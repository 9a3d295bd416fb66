"""Fisher merging: average each weight by how much the models' likelihoods depend on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import Base, PerModel, merge_method, per_model, shared
from miscible.merge.spaces import Weight, Weights

if TYPE_CHECKING:
    import torch


def _has_a_sum(values: Mapping[str, Any]) -> str | None:
    return None if sum(values["weight"]) > 0 else "the weights of fisher sum to 0. Raise one."


@merge_method(
    "fisher", paper="2111.09832", base=Base.INPUT, needs="fisher", averages=True, check=_has_a_sum
)
def fisher(
    weights: Weights,
    *,
    statistics: Sequence[torch.Tensor | None],
    weight: PerModel[float] = per_model(1.0, low=0.0),
    eps: float = shared(1e-12, low=0.0),
) -> Weight:
    """Average weights element by element by the diagonal Fisher information of each model.

    x = sum w_i F_i x_i / sum w_i F_i, in float64, with *eps* added to every F_i. Where no model
    has information, or a model has no statistics for this tensor, it is the weighted mean.

    Raises:
        IncompatibleModelsError: if a Fisher has another shape than the weight, or is negative.
    """
    import torch

    shares = [value / sum(weight) for value in weight]
    if not statistics or any(information is None for information in statistics):
        return weights.weighted_sum(shares)
    # Summing differences from one input returns equal inputs as they are.
    first = weights.tensors[0].double()
    moved, plain, total = (torch.zeros_like(first) for _ in range(3))
    for tensor, information, share in zip(weights, statistics, shares, strict=True):
        difference = tensor.double() - first
        precision = _checked(information, first) + eps
        moved.addcmul_(precision, difference, value=share)
        plain.add_(difference, alpha=share)
        total.add_(precision, alpha=share)
    known = total > 0
    change = torch.where(known, moved / total.where(known, torch.ones_like(total)), plain)
    return Weight((first + change).to(weights.tensors[0].dtype))


def _checked(information: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
    assert information is not None
    if information.shape != weight.shape:
        raise IncompatibleModelsError(
            f"a Fisher of shape {tuple(information.shape)} does not fit a weight of shape "
            f"{tuple(weight.shape)}.",
            fix="Collect the statistics on the model that is merged.",
        )
    if bool((information < 0).any()):
        raise IncompatibleModelsError("a Fisher holds negative numbers, so it is none.")
    return information.to(weight.device, weight.dtype)
