"""Metrics of activations and gradients against bare forward and backward passes.

    python benchmarks/measure/passes.py demo:smollm2-135m-instruct

Fine-tunes are the model and noise, in memory. *bare* fills one model in memory with each of them
and runs the same batches forwards and backwards in plain torch, keeping nothing. *traced* is what
``miscible.measure`` does for metrics of activations and gradients: the same passes, hidden states
pooled, gradients stored, all inner products taken. CPU seconds of one process, in turn, after a
turn of each on a few short sequences, which is not counted. What is added depends on the size of
the models and not on how much they read, so that the share falls with ``--samples``;
``miscible measure`` takes 64.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Also write the figures to this file.")
    chosen = parser.parse_args()
    base = open_checkpoint(chosen.model)
    models = {f"m{seed}": _tuned(base, seed) for seed in range(chosen.models)}
    runner = LanguageModel.load(base)
    text, tokenizer = calibration_text(), runner.live.tokenizer
    warm = calibration_set(text, tokenizer, length=16, sequences=4)
    data = calibration_set(text, tokenizer, length=chosen.length, sequences=chosen.samples)
    work: dict[str, Callable[[CalibrationSet], object]] = {
        "bare_s": lambda data: bare(models, runner, data),
        "traced_s": lambda data: trace(models, runner, [data]).activation_pairs(),
    }
    load = os.getloadavg()[0]
    figures: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(chosen.turns + 1):
        for name, call in work.items():
            start = time.process_time()
            call(data if turn else warm)
            if turn:
                figures[name].append(time.process_time() - start)
    best = {name: min(seconds) for name, seconds in figures.items()}
    figures_text = json.dumps(
        {
            **best, "traced / bare": best["traced_s"] / best["bare_s"],
            "added_s_a_model": (best["traced_s"] - best["bare_s"]) / chosen.models,
            "models": chosen.models, "tokens": data.tokens,
            "parameters": sum(each.numel() for each in runner.module.parameters()),
            "turns": figures, "load": load, "load_after": os.getloadavg()[0],
        },
        indent=2,
    )  # fmt: skip
    print(figures_text)
    if chosen.output is not None:
        chosen.output.write_text(figures_text + "\n")


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
