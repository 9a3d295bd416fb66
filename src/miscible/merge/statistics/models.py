"""From model references and text files to statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.contract import Context, Weights
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import read_recipe
from miscible.merge.statistics.collect import Labels, collect_statistics
from miscible.merge.statistics.files import Kind, Statistics
from miscible.merge.statistics.sequential import Reader, collect_sequential
from miscible.merge.statistics.texts import read_texts, tokenise
from miscible.models import LiveModel, open_checkpoint


def collect_for_model(
    model: str,
    data: Path,
    kind: Kind,
    *,
    labels: Labels = "data",
    seed: int = 0,
    limit: int | None = None,
    length: int = 512,
    dtype: str = "float32",
    device: str = "cpu",
) -> Statistics:
    """Return the statistics of a causal language model on the texts of a file.

    Args:
        model: its reference.
        data: a text file (see `miscible.merge.statistics.texts`).
        kind, labels, seed: see `collect_statistics`.
        limit, length: most texts of the file, most tokens of a text.
        dtype, device: in and on which the model runs.
    """
    texts = read_texts(data, limit)
    live = LiveModel.load(open_checkpoint(model), dtype=dtype, device=device)
    batches = tokenise(texts, live.tokenizer, length=length, device=device)
    found = collect_statistics(live.model, batches, kind, labels=labels, seed=seed)
    return replace(found, model=live.fingerprint)


def collect_for_recipe(
    recipe: Path,
    data: Sequence[Path],
    *,
    limit: int | None = None,
    length: int = 512,
    dtype: str = "float32",
    device: str = "cpu",
) -> dict[str, Statistics]:
    """Return the Gram matrices of RegMean++ for every model of a recipe of ``regmean``.

    Merged with the recipe's own parameters, so that the recipe with these statistics is RegMean++.

    Args:
        recipe: a recipe with ``models``, in which no ``statistics`` are needed yet.
        data: text files, one a model in the recipe's order, or one for all.
        limit, length: most texts of a file, most tokens of a text.
        dtype, device: in and on which the model runs.

    Raises:
        RecipeError: if the recipe is not of regmean, or the files are not one a model.
        IncompatibleModelsError: if the models cannot be walked through layer by layer.
    """
    parsed = read_recipe(recipe)
    if parsed.merge_method != "regmean" or not parsed.models:
        raise RecipeError("a recipe of regmean with 'models' is needed.", where=str(recipe))
    if any(source.align for source in parsed.models):
        raise RecipeError(
            "'align' permutes inputs, and their Gram matrices would not follow.", where=str(recipe)
        )
    checkpoints = {reference: open_checkpoint(reference) for reference in parsed.references()}
    outputs = plan_merge(parsed, checkpoints).outputs
    references = [each.model for each in max(outputs.values(), key=lambda o: len(o.inputs)).inputs]
    files = list(data) * len(references) if len(data) == 1 else list(data)
    if len(files) != len(references):
        raise RecipeError(
            f"{len(references)} models need as many --data, or one for all; got {len(data)}.",
            where=str(recipe),
        )
    texts = [read_texts(path, limit) for path in files]
    live = LiveModel.load(checkpoints[references[0]], dtype=dtype, device=device)
    batches = [tokenise(own, live.tokenizer, length=length, device=device) for own in texts]

    def reader(reference: str) -> Reader:
        def read(name: str) -> torch.Tensor:
            inputs = outputs[name].inputs if name in outputs else ()
            tensor = next((i.tensor for i in inputs if i.model == reference), None)
            if tensor is None:
                raise IncompatibleModelsError(f"tensor {name!r} is missing.", where=reference)
            return checkpoints[reference].read(tensor, torch.float32).to(device)

        return read

    def merge(
        name: str, tensors: Sequence[torch.Tensor], grams: Sequence[torch.Tensor | None]
    ) -> torch.Tensor:
        output = outputs[name]
        context = Context(output.site, statistics=grams)
        return output.method(Weights(tensors), output.values, context).tensor

    readers = [reader(reference) for reference in references]
    found = collect_sequential(live.model, readers, batches, merge)
    return {
        reference: Statistics(
            "gram", grams, len(own), sum(batch["input_ids"].numel() for batch in own),
            model=checkpoints[reference].fingerprint,
        )
        for reference, grams, own in zip(references, found, batches, strict=True)
    }  # fmt: skip
