"""Log-probabilities of continuations under a causal language model of transformers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch

from miscible.evaluate.packing import Pack, Query, plan_packs
from miscible.progress import task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Positions: TypeAlias = list[list[int]]
"""For each query, the rows of the logits that predict its targets."""


class Answer(NamedTuple):
    """Log-probability of a continuation in nats, and whether greedy decoding would produce it.

    NaN and False where any of its log-probabilities is not finite.
    """

    logprob: float
    greedy: bool


def score_packed(model: PreTrainedModel, queries: Sequence[Query], budget: int) -> list[Answer]:
    """Score queries in packs (see `miscible.evaluate.packing`); needs `can_pack`."""
    from transformers import DynamicCache

    packs = plan_packs(queries, budget)
    answers: list[Answer | None] = [None] * len(queries)
    cache: Any = None
    with _report(sum(len(pack.tokens) for pack in packs)) as advance, torch.inference_mode():
        for pack in packs:
            if cache is None and pack.keep:
                cache = DynamicCache()
            logits, positions = _run_pack(model, pack, cache)
            members = [index for index, _ in pack.members]
            targets = [queries[index].targets for index in members]
            for index, answer in zip(members, _read(logits, positions, targets), strict=True):
                answers[index] = answer
            surplus = pack.kept + len(pack.tokens) - pack.keep
            if not pack.keep:
                cache = None
            elif surplus:
                cache.crop(-surplus)
            advance(len(pack.tokens))
    return [answer for answer in answers if answer is not None]


def score_padded(model: PreTrainedModel, queries: Sequence[Query], budget: int) -> list[Answer]:
    """Score queries in right-padded batches of similar lengths, as lm-eval does."""
    order = sorted(range(len(queries)), key=lambda index: -len(queries[index].tokens))
    answers: list[Answer | None] = [None] * len(queries)
    with _report(sum(len(query.tokens) for query in queries)) as advance, torch.inference_mode():
        while order:
            rows = max(1, budget // len(queries[order[0]].tokens))
            batch, order = order[:rows], order[rows:]
            members = [queries[index] for index in batch]
            logits, positions = _run_batch(model, members)
            read = _read(logits, positions, [query.targets for query in members])
            for index, answer in zip(batch, read, strict=True):
                answers[index] = answer
            advance(sum(len(query.tokens) for query in members))
    return [answer for answer in answers if answer is not None]


def can_pack(model: PreTrainedModel) -> bool:
    """Whether packed and padded passes agree on this architecture, found out by trying once.

    Packing needs full attention in every layer, a mask of our own and positions of our own.
    Models that attend otherwise (sliding windows, state spaces, ALiBi) are scored padded.
    """
    if model not in _can_pack:
        _can_pack[model] = _try_packing(model)
    return _can_pack[model]


_can_pack: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _try_packing(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    if set(layers) != {"full_attention"} or model.config.is_encoder_decoder:
        return False
    if getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None):
        return False
    vocabulary = config.vocab_size
    prefix = [(7 * i + 3) % vocabulary for i in range(40)]
    endings = [[(11 * i * k + k) % vocabulary for i in range(1, 9)] for k in range(1, 5)]
    queries = [Query((*prefix, *end[:-1]), tuple(end[-6:])) for end in endings]
    try:
        packed = score_packed(model, queries, budget=60)  # two packs and more, with a kept prefix
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, IndexError):
        return False
    padded = score_padded(model, queries, budget=1)
    tolerance = 1e-2 if model.dtype == torch.float32 else 1.0  # sums of 6 log-probabilities
    return all(abs(a.logprob - b.logprob) < tolerance for a, b in zip(packed, padded, strict=True))


def _run_pack(model: PreTrainedModel, pack: Pack, cache: Any) -> tuple[torch.Tensor, Positions]:
    # A token may predict the next token of several queries; its logits are computed once.
    asked = sorted(set(chain.from_iterable(nodes for _, nodes in pack.members)))
    row = {node: index for index, node in enumerate(asked)}
    inputs: dict[str, Any] = {"past_key_values": cache, "use_cache": cache is not None}
    if not pack.is_chain:
        visible = torch.from_numpy(pack.visible()).to(model.device)
        mask = torch.zeros(visible.shape, dtype=model.dtype, device=model.device)
        mask.masked_fill_(~visible, torch.finfo(model.dtype).min)
        inputs["attention_mask"] = mask[None, None]
        inputs["position_ids"] = torch.tensor([pack.depths], device=model.device)
    tokens = torch.tensor([pack.tokens], device=model.device)
    columns = torch.tensor(asked, device=model.device)
    logits = _logits_at(model, torch.zeros_like(columns), columns, input_ids=tokens, **inputs)
    return logits, [[row[node] for node in nodes] for _, nodes in pack.members]


def _run_batch(model: PreTrainedModel, queries: Sequence[Query]) -> tuple[torch.Tensor, Positions]:
    width = max(len(query.tokens) for query in queries)
    # Causal attention never looks to the right, so padding needs neither a mask nor a token.
    tokens = [[*query.tokens, *[0] * (width - len(query.tokens))] for query in queries]
    places = [
        (row, column)
        for row, query in enumerate(queries)
        for column in range(query.unscored, len(query.tokens))
    ]
    rows, columns = torch.tensor(places, device=model.device).unbind(1)
    inputs = torch.tensor(tokens, device=model.device)
    logits = _logits_at(model, rows, columns, input_ids=inputs, use_cache=False)
    numbers = iter(range(len(places)))
    return logits, [[next(numbers) for _ in query.targets] for query in queries]


def _logits_at(
    model: PreTrainedModel, rows: torch.Tensor, columns: torch.Tensor, **inputs: Any
) -> torch.Tensor:
    """Return the logits at some positions, [positions, vocabulary] in float32.

    The head is given the hidden states of these positions only. That happens inside the model's
    own forward pass, so whatever it does to its logits (scaling, soft-capping) stays.
    """

    def select(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0][rows, columns].unsqueeze(0), *args[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits: torch.Tensor = model(**inputs).logits
    finally:
        hook.remove()
    # Half-precision log-probabilities are too coarse: pairs tie, items move by whole nats. Even
    # in float32, torch's log_softmax over a large vocabulary is off by 1e-5 a token on a CPU;
    # its logsumexp (see `_read`) is ten times closer to float64.
    return logits[0].float()


def _read(
    logits: torch.Tensor, positions: Positions, targets: Sequence[Sequence[int]]
) -> Iterator[Answer]:
    rows = torch.tensor(list(chain.from_iterable(positions)), device=logits.device)
    tokens = torch.tensor(list(chain.from_iterable(targets)), device=logits.device)
    logprobs = (logits[rows, tokens] - logits.logsumexp(dim=-1)[rows]).tolist()
    hits = (logits.argmax(dim=-1)[rows] == tokens).tolist()
    start = 0
    for each in targets:
        end = start + len(each)
        own = logprobs[start:end]
        # The argmax of NaN is a token like any other: what is not finite must not look like one.
        if all(map(math.isfinite, own)):
            yield Answer(math.fsum(own), all(hits[start:end]))
        else:
            yield Answer(math.nan, False)
        start = end


def _report(tokens: int) -> Any:
    return task("scoring tokens", float(tokens))
