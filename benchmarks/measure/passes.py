"""Metrics of activations and gradients against bare forward and backward passes.

    python benchmarks/measure/passes.py MODEL --models 4 --samples 64 --length 128

Fine-tunes are the model and noise, in memory. *bare* fills one model in memory with each of them
and runs the same batches forwards and backwards in plain torch, keeping nothing. *traced* is what
``miscible.measure`` does for metrics of activations and gradients: the same passes, hidden states
pooled, gradients stored, all inner products taken. CPU seconds of one process, in turn; the first
turn of each is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping

import torch

from miscible.measure.calibration import CalibrationSet, calibration_set, calibration_text
from miscible.measure.language_model import LanguageModel
from miscible.measure.tracing import trace
from miscible.models import Checkpoint, open_checkpoint
from miscible.models.memory import MemoryCheckpoint


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    base = open_checkpoint(chosen.model)
    models = {f"m{seed}": _tuned(base, seed) for seed in range(chosen.models)}
    runner = LanguageModel.load(base)
    data = calibration_set(
        calibration_text(), runner.live.tokenizer, length=chosen.length, sequences=chosen.samples
    )
    work: dict[str, Callable[[], object]] = {
        "bare_s": lambda: bare(models, runner, data),
        "traced_s": lambda: trace(models, runner, [data]).activation_pairs(),
    }
    figures: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(chosen.turns + 1):
        for name, call in work.items():
            start = time.process_time()
            call()
            figures[name].append(time.process_time() - start)
    best = {name: min(seconds[1:]) for name, seconds in figures.items()}
    print(
        json.dumps(
            {
                **best, "traced / bare": best["traced_s"] / best["bare_s"],
                "models": chosen.models, "tokens": data.tokens, "turns": figures,
                "load": os.getloadavg()[0],
            },
            indent=2,
        )
    )  # fmt: skip


def bare(models: Mapping[str, Checkpoint], runner: LanguageModel, data: CalibrationSet) -> None:
    """Run every model forwards and backwards, as plainly as can be."""
    module = runner.module
    for model in models.values():
        runner.fill(model)
        module.requires_grad_(True)
        for batch in runner.batches(data):
            ids = batch["input_ids"]
            logits = module(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
        module.zero_grad(set_to_none=True)
        module.requires_grad_(False)


def _tuned(base: Checkpoint, seed: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in base.tensors:
        tensor = base.read(name, torch.float32)
        noise = torch.randn(tensor.shape, generator=generator)
        state[name] = tensor + 0.02 * tensor.std(correction=0) * noise
    return MemoryCheckpoint(f"m{seed}", state, config=base.config, folder=base.folder)


if __name__ == "__main__":
    main()
