"""AdaMerging: learn how much of each task vector a merge takes, without labels.

theta = theta_0 + sum_i lambda_i^l d_i^l, where the coefficients lambda minimise the entropy of the
merged model's predictions on unlabelled inputs (2310.02575, section 3.2), by Adam. Models and task
vectors are frozen and stay in memory as tensors: one copy a model, and the merge.

Low entropy stands in for accuracy, and only so far: a merge can become sure of wrong answers. The
number of steps is to be chosen on held-out data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch
from torch import nn
from torch.func import functional_call

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.merge.coefficients import CoefficientMap, keys_of
from miscible.merge.statistics.collect import Batch, arguments_of
from miscible.merge.statistics.texts import read_texts, tokenise
from miscible.models import Checkpoint, LiveModel, open_checkpoint
from miscible.progress import task

Tensors: TypeAlias = Mapping[str, torch.Tensor]
Forward: TypeAlias = Callable[[Tensors, Batch], torch.Tensor]
"""Returns logits [..., classes] of a batch under these parameters."""
Granularity: TypeAlias = Literal["model", "layer", "tensor"]
_KEY = {"tensor": 0, "layer": -2, "model": -1}


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning found.

    Attributes:
        coefficients: the map to give to a recipe.
        entropy: mean over the tasks at each step, in nats, before the step; then that of the
            result on the last batches.
    """

    coefficients: CoefficientMap
    entropy: tuple[float, ...]


def learn_coefficients(
    base: Tensors,
    task_vectors: Mapping[str, Tensors],
    batches: Sequence[Sequence[Batch]],
    forward: Forward,
    *,
    start: float = 0.3,
    steps: int = 500,
    learning_rate: float = 1e-3,
    granularity: Granularity = "layer",
) -> Learned:
    """Learn a coefficient a model and layer by minimising entropy.

    Args:
        base: every tensor of the base.
        task_vectors: by model reference, its differences from the base; a tensor that is absent
            did not change.
        batches: unlabelled batches, a list a task; each step takes the next one of every task.
        forward: the model as a function, see `forward_of`.
        start: where all coefficients begin (0.3 in the paper).
        steps, learning_rate: of Adam.
        granularity: one coefficient a ``model`` (task-wise in the paper), ``layer`` (tensors
            outside of the layers have their own), or ``tensor``.

    Raises:
        MiscibleError: if nothing is to be learned, or the entropy is not finite.
    """
    if not task_vectors or not batches or not all(batches):
        raise MiscibleError("AdaMerging needs a model and an unlabelled batch at least.")
    keys = {name: _key(name, granularity) for name in base}
    learned = {
        reference: {
            key: torch.tensor(start, requires_grad=True)
            for key in dict.fromkeys(keys[name] for name in base if name in vector)
        }
        for reference, vector in task_vectors.items()
    }
    leaves = [leaf for factors in learned.values() for leaf in factors.values()]
    if not leaves:
        raise MiscibleError("no model differs from the base, so nothing is to be learned.")
    optimiser = torch.optim.Adam(leaves, lr=learning_rate)

    def merged() -> dict[str, torch.Tensor]:
        tensors = {}
        for name, tensor in base.items():
            for reference, vector in task_vectors.items():
                if name in vector:
                    factor = learned[reference][keys[name]].to(tensor.device, tensor.dtype)
                    tensor = tensor + factor * vector[name]
            tensors[name] = tensor
        return tensors

    def loss(step: int) -> torch.Tensor:
        tensors = merged()
        chosen = [own[step % len(own)] for own in batches]
        value = torch.stack([entropy(forward(tensors, batch)) for batch in chosen]).mean()
        if not bool(value.isfinite()):
            raise MiscibleError(
                "the entropy of the merged model's predictions is not finite.",
                fix="Lower the learning rate or the start, or run in float32.",
            )
        return value

    seen: list[float] = []
    with torch.enable_grad(), task("learn coefficients", steps) as advance:
        for step in range(steps):
            value = loss(step)
            seen.append(float(value.detach()))
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            optimiser.step()
            advance(1)
    with torch.no_grad():
        seen.append(float(loss(max(steps - 1, 0))))
    models = {
        reference: {key: float(leaf.detach()) for key, leaf in factors.items()}
        for reference, factors in learned.items()
    }
    provenance = {
        "method": "AdaMerging (2310.02575)", "granularity": granularity, "start": start,
        "steps": steps, "learning_rate": learning_rate,
        "entropy_first": seen[0], "entropy_last": seen[-1],
    }  # fmt: skip
    return Learned(CoefficientMap(models=models, provenance=provenance), tuple(seen))


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean entropy in nats of the distributions whose logits are [..., classes].

    Over examples for a classifier, over positions for a language model.
    """
    log_p = logits.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1).mean()


def forward_of(model: nn.Module) -> Forward:
    """Return *model* as a function of its parameters and a batch.

    Parameters that are tied need one of their names only. A language model's logits are those of
    all positions; give batches without padding.
    """

    def forward(tensors: Tensors, batch: Batch) -> torch.Tensor:
        positional, named = arguments_of(model, batch)
        output = functional_call(model, dict(tensors), positional, named)
        return cast("torch.Tensor", getattr(output, "logits", output))

    return forward


def learn_for_models(
    base: str,
    models: Sequence[str],
    data: Sequence[Path],
    *,
    limit: int | None = None,
    length: int = 512,
    dtype: str = "float32",
    device: str = "cpu",
    start: float = 0.3,
    steps: int = 500,
    learning_rate: float = 1e-3,
    granularity: Granularity = "layer",
) -> Learned:
    """Learn AdaMerging's coefficients for causal language models; see `learn_coefficients`.

    Args:
        base: reference of the base model.
        models: references of its fine-tuned models.
        data: unlabelled text files, one a task.
        limit, length: most texts of a file, most tokens of a text.
        dtype, device: in and on which everything is kept and run.
        start, steps, learning_rate, granularity: of the learning.

    Raises:
        IncompatibleModelsError: if a model's tensors differ from the base's in name or shape.
    """
    texts = [read_texts(path, limit) for path in data]
    origin = open_checkpoint(base)
    live = LiveModel.load(origin, dtype=dtype, device=device)
    tensors = {
        name: origin.read(name, live.dtype).to(device)
        for name in origin.tensors
        if origin.tensors[name].floating
    }
    vectors = {reference: _task_vector(open_checkpoint(reference), tensors) for reference in models}
    batches: list[list[Batch]] = [
        list(tokenise(own, live.tokenizer, length=length, device=device)) for own in texts
    ]
    return learn_coefficients(
        tensors, vectors, batches, forward_of(live.model),
        start=start, steps=steps, learning_rate=learning_rate, granularity=granularity,
    )  # fmt: skip


def _task_vector(model: Checkpoint, base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    vector = {}
    for name, tensor in base.items():
        info = model.tensors.get(name)
        if info is None or info.shape != tuple(tensor.shape):
            raise IncompatibleModelsError(
                f"tensor {name!r} is missing or of another shape than in the base.",
                where=model.name, fix="The models must have the same architecture.",
            )  # fmt: skip
        difference = model.read(name, tensor.dtype).to(tensor.device) - tensor
        if bool(difference.any()):
            vector[name] = difference
    return vector


def _key(name: str, granularity: Granularity) -> str:
    return keys_of(name)[_KEY[granularity]]
