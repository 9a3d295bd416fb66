"""RegMean: the linear layer whose outputs are nearest to those of every model on its own inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import Base, PerModel, merge_method, per_model, shared
from miscible.merge.spaces import Weight, Weights

if TYPE_CHECKING:
    import torch


def _has_a_sum(values: Mapping[str, Any]) -> str | None:
    return None if sum(values["weight"]) > 0 else "the weights of regmean sum to 0. Raise one."


@merge_method(
    "regmean", paper="2212.09849", base=Base.INPUT, needs="gram", averages=True, check=_has_a_sum
)
def regmean(
    weights: Weights,
    *,
    statistics: Sequence[torch.Tensor | None],
    weight: PerModel[float] = per_model(1.0, low=0.0),
    reduce_non_diagonal_ratio: float = shared(0.9, low=0.0, high=1.0),
    eps: float = shared(1e-5, low=0.0),
) -> Weight:
    """Merge linear layers by least squares on the inputs that each model's layer receives.

    With G_i = E[x x'] of model i, its elements off the diagonal multiplied by
    *reduce_non_diagonal_ratio* (alpha in the paper), S = sum w_i G_i and m the weighted mean, the
    result W minimises, in float64,

        sum w_i tr (W - W_i) G_i (W - W_i)'  +  eps tr (W - m) diag(S) (W - m)'

    which at eps = 0 is the closed form W = (sum w_i W_i G_i) S^-1. The second term is a ridge that
    decides where S is singular: of all solutions it takes the one nearest to the weighted mean. A
    tensor for which a model has no statistics (bias, norm, embedding) is the weighted mean.

    Grams are [in, in] for weights stored [out, in], and [1, in, in] for weights stored [in, out].

    Raises:
        IncompatibleModelsError: if a Gram does not fit the weight, or is none.
    """
    import torch

    shares = [value / sum(weight) for value in weight]
    grams = [gram for gram in statistics if gram is not None]
    if not grams or len(grams) < len(statistics):
        return weights.weighted_sum(shares)
    example = weights.tensors[0]
    mean = weights.weighted_sum(shares).tensor.double()
    transposed = grams[0].dim() == 3
    width = mean.shape[0 if transposed else -1] if mean.dim() == 2 else 0
    total = torch.zeros(width, width, dtype=torch.float64, device=mean.device)
    pull = torch.zeros_like(mean.T if transposed else mean)
    for tensor, gram, share in zip(weights, grams, shares, strict=True):
        reduced = _reduced(gram, grams[0], example, width, reduce_non_diagonal_ratio)
        total.add_(reduced, alpha=share)
        difference = tensor.double() - mean
        pull.addmm_(difference.T if transposed else difference, reduced, alpha=share)
    change = _divided(pull, total, eps)
    return Weight((mean + (change.T if transposed else change)).to(example.dtype))


def _reduced(
    gram: torch.Tensor, first: torch.Tensor, weight: torch.Tensor, width: int, ratio: float
) -> torch.Tensor:
    import torch

    wanted = (1, width, width) if first.dim() == 3 else (width, width)
    if tuple(gram.shape) != wanted:
        raise IncompatibleModelsError(
            f"a Gram matrix of shape {tuple(gram.shape)} does not fit a weight of shape "
            f"{tuple(weight.shape)}.",
            fix="Collect the statistics on the model that is merged.",
        )
    whole = gram.to(weight.device, torch.float64).reshape(width, width)
    reduced = whole * ratio
    reduced.diagonal().copy_(whole.diagonal())
    return reduced


def _divided(pull: torch.Tensor, total: torch.Tensor, eps: float) -> torch.Tensor:
    # Scaled to a unit diagonal first: inputs of language models differ in size by orders of
    # magnitude, and the scaled matrix is as well conditioned as its correlations are.
    import torch

    size = total.diagonal().clone()
    size = torch.where(size > 0, size, torch.ones_like(size)).sqrt()
    scaled = total / size / size.unsqueeze(1)
    scaled.diagonal().add_(eps).add_(total.diagonal() <= 0)  # an input that is always 0
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed):
        raise IncompatibleModelsError(
            "the Gram matrices of this weight are not positive definite.",
            fix="Raise 'eps', lower 'reduce_non_diagonal_ratio', or collect them on more text.",
        )
    return torch.cholesky_solve((pull / size).T, factor).T / size
