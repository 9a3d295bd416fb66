"""Tiny models, and their gradients in float64 straight from autograd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from miscible.measure.calibration import CalibrationSet
from miscible.measure.gram import Gram
from miscible.models import Checkpoint, FolderCheckpoint
from tiny import WORDS, tiny_tensors, write_model


def tokens(seed: int, sequences: int = 10, length: int = 7, name: str = "words") -> CalibrationSet:
    """Return random sequences of the tiny model's tokens."""
    draw = np.random.default_rng(seed)
    return CalibrationSet(name, draw.integers(0, len(WORDS) + 3, (sequences, length)))


def children(folder: Path, count: int = 3) -> dict[str, Checkpoint]:
    """Write fine-tunes of a tiny Llama."""
    base, found = tiny_tensors(0), {}
    for seed in range(1, count + 1):
        noise = tiny_tensors(seed)
        tensors = {name: tensor + 0.1 * noise[name] for name, tensor in base.items()}
        found[f"m{seed}"] = FolderCheckpoint(write_model(folder / f"m{seed}", tensors))
    return found


def reference(model: Checkpoint, ids: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return the gradient of all parameters, that of the embedded tokens, and the loss."""
    module = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float64)
    batch = torch.as_tensor(ids)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        # In float64: the loss that comes with the model is taken in float32.
        return -logits[:, :-1].log_softmax(-1).gather(2, batch[:, 1:, None]).mean()

    embedded = module.get_input_embeddings()(batch).detach().requires_grad_(True)
    (at_input,) = torch.autograd.grad(loss(module(inputs_embeds=embedded).logits), embedded)
    whole = loss(module(input_ids=batch).logits)
    gradients = torch.autograd.grad(whole, list(module.parameters()))
    return torch.cat([g.flatten() for g in gradients]), at_input.flatten(), float(whole.detach())


def gram_of(a: torch.Tensor, b: torch.Tensor) -> Gram:
    """Return the Gram of two vectors."""
    return Gram(float(a @ a), float(b @ b), float(a @ b))
