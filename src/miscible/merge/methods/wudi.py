"""WUDI-Merging: the merged task vector that interferes least with the tasks' own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.contract import PerModel, merge_method, per_model, shared
from miscible.merge.ops.interference import (
    descend_interference,
    in_shared_rows,
    least_interference,
)
from miscible.merge.spaces import Delta, Deltas, Site

if TYPE_CHECKING:
    import torch


@merge_method("wudi", paper="2503.08099")
def wudi(
    deltas: Deltas,
    *,
    site: Site,
    weight: PerModel[float] = per_model(1.0),
    solver: str = shared("closed", choices=("closed", "adam")),
    ridge: float = shared(0.0, low=0.0),
    steps: int = shared(300, low=0),
    learning_rate: float = shared(1e-5, low=0.0),
    inputs: str = shared("last", choices=("last", "first")),
    lambda_: float = shared(1.0),
) -> Delta:
    """Minimise the interference of the merged task vector with each task, layer by layer.

    Matrices other than embeddings are taken for linear layers (2503.08099); all other
    tensors are averaged, as in the paper. A weight multiplies its task vector.

    Args:
        solver: ``closed`` for the exact minimum, ``adam`` for the paper's descent from the sum.
        ridge: pull of the closed form towards the sum, as a share of the largest eigenvalue.
        steps, learning_rate: of Adam; the rate is in units of the weights.
        inputs: which dimension of a stored matrix faces the layer's input: the last one of
            ``nn.Linear``, the first one of GPT-2's ``Conv1D``.
    """
    shape = deltas.factors[0].shape if deltas.factors else deltas.tensors[0].shape
    if len(shape) != 2 or 0 in shape or site.role == "embedding":
        return deltas.weighted_sum([value / len(deltas) for value in weight]).scaled(lambda_)
    columns = inputs == "first"

    def solve(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        if solver == "adam":
            return descend_interference(vectors, steps=steps, learning_rate=learning_rate)
        return least_interference(vectors, ridge)

    small = None
    if deltas.factors and solver == "closed":  # Adam's steps depend on the basis
        small = in_shared_rows(deltas.factors, weight, columns=columns)
    if small is not None:
        vectors, basis = small
        merged = (solve(vectors) @ basis.T).float()
    else:
        vectors = [delta * value for delta, value in zip(deltas, weight, strict=True)]
        merged = solve([vector.T for vector in vectors] if columns else vectors)
        merged = merged.to(vectors[0].dtype)
    return Delta(merged.T if columns else merged).scaled(lambda_)
