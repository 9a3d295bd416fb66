"""Calibration statistics of a model, collected by running it over batches.

A batch is what the model is called with: a tensor, a tuple of positional arguments, or a mapping
of keyword arguments (``input_ids``, ``attention_mask``; ``labels`` never reach the model).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from miscible.errors import DatasetError, MiscibleError
from miscible.merge.statistics.files import Kind, Statistics, parse_kind
from miscible.merge.statistics.hook import GramHook, SquaredGradientHook
from miscible.merge.statistics.texts import IGNORED
from miscible.progress import task

Batch: TypeAlias = Any
LogLikelihood: TypeAlias = Callable[[nn.Module, Batch], torch.Tensor]
"""Returns the log-likelihood of one example, a scalar with a gradient (its sign is irrelevant)."""
Labels: TypeAlias = Literal["data", "sampled"]


def collect_statistics(
    model: nn.Module,
    batches: Sequence[Batch],
    kind: Kind,
    *,
    log_likelihood: LogLikelihood | None = None,
    labels: Labels = "data",
    seed: int = 0,
) -> Statistics:
    """Collect the statistics of *kind* over *batches*; see `collect_gram` and `collect_fisher`.

    Raises:
        MiscibleError: for another kind.
    """
    if parse_kind(kind) == "gram":
        return collect_gram(model, batches)
    return collect_fisher(model, batches, log_likelihood=log_likelihood, labels=labels, seed=seed)


def collect_gram(model: nn.Module, batches: Sequence[Batch]) -> Statistics:
    """Return E[x x'] of the inputs of every linear layer of *model* (2212.09849, section 3).

    The expectation is over tokens; padding, told by a batch's ``attention_mask``, is left out.
    Dividing by the number of tokens lets models calibrated on texts of different size count alike.

    Raises:
        MiscibleError: if a layer receives NaN, or inputs in which padding cannot be told apart.
    """
    hook = GramHook(model)
    examples = tokens = 0
    with hook.watching(), torch.no_grad(), task("collect Gram matrices", len(batches)) as advance:
        for batch in batches:
            hook.mask = mask_of(batch)
            call(model, batch)
            size = _size(batch)
            examples += size[0]
            tokens += size[1]
            advance(1)
    return Statistics("gram", hook.grams(), examples, tokens)


def collect_fisher(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    log_likelihood: LogLikelihood | None = None,
    labels: Labels = "data",
    seed: int = 0,
) -> Statistics:
    """Return the diagonal Fisher information of every parameter of *model* (2111.09832, section 3).

    F = 1/N sum over examples (d log p(y | x) / d theta)^2, an example a backward pass.

    Args:
        model: in evaluation mode.
        batches: split into examples along the first axis.
        log_likelihood: of one example; that of a causal language model's sequence if None.
        labels: for language models: ``data`` takes the tokens of the text as y (the empirical
            Fisher), ``sampled`` draws each from the model, given the text before it.
        seed: of the draws.

    Raises:
        DatasetError: if no example has a token to predict.
        MiscibleError: if a gradient is not finite.
    """
    draw = torch.Generator().manual_seed(seed) if labels == "sampled" else None
    hook = SquaredGradientHook(model)
    counted = tokens = 0
    with hook.watching(), torch.enable_grad(), task("collect Fisher", len(batches)) as advance:
        for batch in batches:
            for example in _examples(batch):
                if log_likelihood is not None:
                    value = log_likelihood(model, example)
                elif _predicted(example):
                    value = causal_log_likelihood(model, example, draw)
                else:
                    continue
                value.backward()  # type: ignore[no-untyped-call]
                counted += 1
                tokens += _size(example)[1]
            advance(1)
    if not counted:
        raise DatasetError("no text has a token to predict.", fix="Give texts of several words.")
    return Statistics("fisher", hook.mean(counted), counted, tokens, seed=seed)


def causal_log_likelihood(
    model: nn.Module, example: Mapping[str, torch.Tensor], draw: torch.Generator | None = None
) -> torch.Tensor:
    """Return sum_t log p(y_t | text before t) of one sequence, in nats.

    y is the text, or drawn from the model where *draw* is given. Tokens that are padding, or whose
    entry in ``labels`` is `IGNORED`, do not count.
    """
    logits: torch.Tensor = call(model, example).logits
    log_p = logits[0, :-1].float().log_softmax(dim=-1)
    chosen, counted = _targets(example)
    if draw is not None:
        chosen = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=draw)[:, 0]
    picked = log_p.gather(1, chosen.to(log_p.device).unsqueeze(1))[:, 0]
    return picked[counted.to(log_p.device)].sum()


def call(model: nn.Module, batch: Batch) -> Any:
    """Run *model* on a batch."""
    positional, named = arguments_of(model, batch)
    return model(*positional, **named)


def arguments_of(model: nn.Module, batch: Batch) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments with which *model* is called on a batch."""
    if not isinstance(batch, Mapping):
        return (batch if isinstance(batch, tuple) else (batch,)), {}
    named = {key: value for key, value in batch.items() if key != "labels"}
    if "use_cache" in inspect.signature(model.forward).parameters:
        named["use_cache"] = False
    return (), named


def mask_of(batch: Batch) -> torch.Tensor | None:
    """Return which tokens of a batch are no padding, bool [examples, tokens], None for all."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return None if mask is None else mask.bool()


def _targets(example: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = example["input_ids"][0, 1:]
    counted = torch.ones_like(tokens, dtype=torch.bool)
    mask = mask_of(example)
    if mask is not None:
        counted = mask[0, 1:] & mask[0, :-1]
    if "labels" in example:
        counted = counted & (example["labels"][0, 1:] != IGNORED)
    return tokens, counted


def _predicted(example: Batch) -> bool:
    if not isinstance(example, Mapping) or "input_ids" not in example:
        raise MiscibleError(
            "a batch without 'input_ids' is not one of a language model.",
            fix="Give 'log_likelihood' for other models.",
        )
    return bool(_targets(example)[1].any())


def _examples(batch: Batch) -> Iterator[Batch]:
    for row in range(_size(batch)[0]):
        if isinstance(batch, Mapping):
            yield {key: value[row : row + 1] for key, value in batch.items()}
        elif isinstance(batch, tuple):
            yield tuple(value[row : row + 1] for value in batch)
        else:
            yield batch[row : row + 1]


def _size(batch: Batch) -> tuple[int, int]:
    # Examples, and tokens (examples again where a batch has no sequences of tokens).
    if isinstance(batch, Mapping) and "input_ids" in batch:
        mask = mask_of(batch)
        ids = batch["input_ids"]
        return len(ids), ids.numel() if mask is None else int(mask.sum())
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()))
    first = batch[0] if isinstance(batch, tuple) else batch
    return len(first), len(first)
