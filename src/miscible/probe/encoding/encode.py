"""Hidden states of every layer, pooled, and log-probabilities, in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import MiscibleError
from miscible.models.blocks import depth, stack_of_blocks
from miscible.probe.encoding.cache import LARGEST, ModelStates, StateCache, digests
from miscible.probe.encoding.tokens import EncodingPlan
from miscible.progress import task

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

_SOFTMAX_ROWS = 256


@dataclass(frozen=True)
class Encoding:
    """What one model makes of the texts of a plan.

    Attributes:
        layers: the layers in *states* (see `miscible.records.EMBEDDING_LAYER`).
        states: mean over the tokens of each read, float32 [reads, layers, width]; 0 where a read
            has no token.
        log_probability: of the whole text, in nats, float64 [texts]; NaN where it was not wanted.
        tokens: number of tokens that *log_probability* sums over, [texts].
    """

    layers: tuple[int, ...]
    states: npt.NDArray[np.float32]
    log_probability: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]


def resolve_layers(layers: Sequence[int] | str, last: int) -> tuple[int, ...]:
    """Return layer indices in ascending order: "all", or a list in which -1 is the last.

    Raises:
        MiscibleError: a layer that the model does not have.
    """
    if isinstance(layers, str):
        if layers != "all":
            raise MiscibleError(f"layers must be 'all' or a list of indices. Got {layers!r}.")
        return tuple(range(last + 1))
    if not layers:
        raise MiscibleError("the list of layers is empty.")
    for layer in layers:
        if not -last - 1 <= layer <= last:
            raise MiscibleError(
                f"there is no layer {layer}.", fix=f"Layers run from 0 (embedding) to {last}."
            )
    return tuple(sorted({layer % (last + 1) for layer in layers}))


def encode(
    live: LiveModel,
    plan: EncodingPlan,
    layers: Sequence[int] | str = "all",
    cache: StateCache | None = None,
) -> Encoding:
    """Run the model over the texts of *plan*, once each; what a *cache* holds is not computed.

    Hidden states are pooled in float32 as each block hands them on, and the vocabulary is scored
    only where a token is predicted; neither full hidden states nor logits of padding exist.
    Values that are not finite are kept: the caller decides what they spoil.

    Raises:
        IncompatibleModelsError: another tokenizer than the plan's, or an architecture whose blocks
            cannot be found.
        MiscibleError: a layer that the model does not have.
    """
    plan.check_tokenizer(live.tokenizer)
    chosen = resolve_layers(layers, depth(live.model))
    width = live.model.config.get_text_config().hidden_size
    states = np.zeros((len(plan.reads), len(chosen), width), dtype=np.float32)
    log_probability = np.full(len(plan.texts), np.nan)
    kept = None if cache is None else _Kept(cache.of_model(live, chosen), plan)
    run = np.ones(len(plan.texts), dtype=bool)
    if kept is not None:
        run = kept.fill(states, log_probability)
    taps = _Taps(chosen)
    reads = _reads_of_texts(plan)
    total = sum(len(plan.sequences[index].ids) for index in np.flatnonzero(run))
    with torch.inference_mode(), taps.on(live.model), task("encode", total) as advance:
        for whole in plan.batches:
            indices = whole[run[whole]]
            if not len(indices):
                continue
            batch = _Batch.build(plan, indices, reads, live.device)
            taps.batch = batch
            output = live.model(**batch.inputs, use_cache=False)
            states[batch.rows] = torch.stack(taps.pooled(), dim=1).cpu().numpy()
            log_probability[indices] = _score(output.logits, batch)
            advance(sum(len(plan.sequences[index].ids) for index in indices))
    if kept is not None:
        kept.keep(states, log_probability)
    scored = [stop - start for start, stop in (each.scored for each in plan.sequences)]
    return Encoding(chosen, states, log_probability, np.asarray(scored, dtype=np.int64))


class _Kept:
    """The part of an encoding that a cache holds, and what is to be added to it."""

    def __init__(self, held: ModelStates, plan: EncodingPlan) -> None:
        self._held, self._plan = held, plan
        self._reads, self._texts = digests(plan)
        known, self._scores = held.known(self._reads, self._texts)
        self._known = np.asarray(known, dtype=bool)

    def fill(
        self, states: npt.NDArray[np.float32], log_probability: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Fill in what is kept; return which texts must be run."""
        self._held.fill(self._reads, states)
        log_probability[:] = self._scores
        scored = np.asarray(
            [start < stop for start, stop in (s.scored for s in self._plan.sequences)]
        )
        run: npt.NDArray[np.bool_] = scored & np.isnan(self._scores)
        run[self._plan.owners[~self._known & ~self._plan.missing]] = True
        return run

    def keep(
        self, states: npt.NDArray[np.float32], log_probability: npt.NDArray[np.float64]
    ) -> None:
        """Keep what is new, and round all states to what is kept."""
        fits = np.abs(states).max(axis=(1, 2), initial=0) <= LARGEST  # not where one is NaN
        half = np.where(fits[:, None, None], states, 0).astype(np.float16)
        states[fits] = half[fits]
        new = np.flatnonzero(fits & ~self._known & ~self._plan.missing)
        texts = np.flatnonzero(np.isnan(self._scores) & np.isfinite(log_probability))
        if len(new) or len(texts):
            self._held.add(
                [self._reads[row] for row in new], half[new],
                [self._texts[text] for text in texts], log_probability[texts],
            )  # fmt: skip


def _reads_of_texts(plan: EncodingPlan) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in plan.texts]
    for row in np.flatnonzero(~plan.missing).tolist():
        found[plan.owners[row]].append(row)
    return found


@dataclass(frozen=True, slots=True)
class _Batch:
    """Padded tokens and what to read off them.

    Attributes:
        inputs: keyword arguments of the model.
        rows: reads of the batch's texts.
        weights: [texts, most reads of a text, length], sums to 1 over the positions of a read.
        places: flat places of *rows* in the first two dimensions of *weights*.
        predicting: flat positions whose next token is scored.
        targets, owners: that token, and the row of its text.
    """

    inputs: dict[str, torch.Tensor]
    rows: npt.NDArray[np.int64]
    weights: torch.Tensor
    places: torch.Tensor
    predicting: torch.Tensor
    targets: torch.Tensor
    owners: npt.NDArray[np.int64]

    @classmethod
    def build(
        cls,
        plan: EncodingPlan,
        indices: npt.NDArray[np.int64],
        reads: Sequence[Sequence[int]],
        device: torch.device,
    ) -> _Batch:
        sequences = [plan.sequences[index] for index in indices]
        most = max(len(reads[index]) for index in indices)
        length = max(len(sequence.ids) for sequence in sequences)
        # Any token may fill up: it is masked, and its states are never pooled.
        ids = np.zeros((len(sequences), length), dtype=np.int64)
        mask = np.zeros((len(sequences), length), dtype=np.int64)
        weights = np.zeros((len(sequences), most, length), dtype=np.float32)
        rows: list[int] = []
        places: list[int] = []
        predicting: list[int] = []
        targets: list[int] = []
        owners: list[int] = []
        for row, sequence in enumerate(sequences):
            size = len(sequence.ids)
            first = length - size if plan.padding == "left" else 0
            ids[row, first : first + size] = sequence.ids
            mask[row, first : first + size] = 1
            for number, read in enumerate(reads[indices[row]]):
                begin, end = plan.positions[read]
                weights[row, number, first + begin : first + end] = 1 / (end - begin)
                rows.append(read)
                places.append(row * most + number)
            start, stop = sequence.scored
            base = row * length + first - 1
            predicting += range(base + start, base + stop)
            targets += sequence.ids[start:stop]
            owners += [row] * (stop - start)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if plan.padding == "left":
            inputs["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)
        return cls(
            {name: torch.from_numpy(array).to(device) for name, array in inputs.items()},
            np.asarray(rows, dtype=np.int64),
            torch.from_numpy(weights).to(device),
            torch.tensor(places, dtype=torch.int64, device=device),
            torch.tensor(predicting, dtype=torch.int64, device=device),
            torch.tensor(targets, dtype=torch.int64, device=device),
            np.asarray(owners, dtype=np.int64),
        )


class _Taps:
    """Hooks that pool hidden states where they arise.

    Layer i is what block i (counting from 0) receives, which is what transformers calls
    ``hidden_states[i]``; the last layer is what the module around the blocks returns, after its
    final norm.
    """

    def __init__(self, layers: tuple[int, ...]) -> None:
        self.layers = layers
        self.batch: _Batch | None = None
        self._pooled: dict[int, torch.Tensor] = {}

    def pooled(self) -> list[torch.Tensor]:
        """Return the pooled states of the last batch, [reads, width] a layer."""
        held = [self._pooled[layer] for layer in self.layers]
        self._pooled.clear()
        return held

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Install the hooks for the time of the block."""
        owner, blocks = stack_of_blocks(model)
        head = model.get_output_embeddings()
        with ExitStack() as stack:
            for layer in self.layers:
                if layer < len(blocks):
                    handle = blocks[layer].register_forward_pre_hook(
                        self._tap(layer), with_kwargs=True
                    )
                else:
                    handle = owner.register_forward_hook(self._tap_output(layer))
                stack.callback(handle.remove)
            if head is not None:
                stack.callback(head.register_forward_pre_hook(self._keep_predicting).remove)
            yield

    def _tap(self, layer: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._pool(layer, args[0] if args else kwargs["hidden_states"])

        return hook

    def _tap_output(self, layer: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            self._pool(layer, output[0])

        return hook

    def _pool(self, layer: int, states: torch.Tensor) -> None:
        assert self.batch is not None
        pooled = torch.bmm(self.batch.weights, states.float())
        self._pooled[layer] = pooled.flatten(0, 1)[self.batch.places]

    def _keep_predicting(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        assert self.batch is not None
        states = args[0]
        kept = states.reshape(-1, states.shape[-1])[self.batch.predicting]
        return (kept.unsqueeze(0), *args[1:])


def _score(logits: torch.Tensor, batch: _Batch) -> npt.NDArray[np.float64]:
    """Return the log-probability of each text of a batch."""
    rows = logits.reshape(-1, logits.shape[-1])
    if rows.shape[0] != batch.targets.shape[0]:
        rows = rows[batch.predicting]  # the model has no output layer that a hook could reach
    each = []
    for start in range(0, rows.shape[0], _SOFTMAX_ROWS):
        scores = rows[start : start + _SOFTMAX_ROWS].float()
        targets = batch.targets[start : start + _SOFTMAX_ROWS].unsqueeze(1)
        each.append(scores.gather(1, targets).squeeze(1) - scores.logsumexp(dim=1))
    sums = np.full(batch.weights.shape[0], np.nan)
    if each:
        sums[batch.owners] = 0.0
        np.add.at(sums, batch.owners, torch.cat(each).cpu().double().numpy())
    return sums
