"""Causal language models as subjects of calibration: one in memory, whose weights are swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from miscible.errors import IncompatibleModelsError
from miscible.keys import content_key
from miscible.measure.calibration import (
    CalibrationSet,
    CalibrationText,
    calibration_set,
    calibration_text,
)
from miscible.measure.passes import Batch
from miscible.measure.trace import KINDS, Kind, Trace
from miscible.measure.tracing import trace
from miscible.models.checkpoint import Checkpoint
from miscible.models.live import LiveModel
from miscible.models.runtime import computed_with

LOGITS = 1 << 26
"""Most logits of a batch: they take more memory than anything else."""
BATCH_TOKENS = 4096


class LanguageModel:
    """A causal language model; its loss is -log p of every token but a sequence's first.

    Args:
        live: filled with the weights of *checkpoint*.
        checkpoint: usually the base.
        batch_size: sequences of a batch; from the sizes of text and vocabulary if None.
    """

    def __init__(
        self, live: LiveModel, checkpoint: Checkpoint, *, batch_size: int | None = None
    ) -> None:
        self.live = live
        self.batch_size = batch_size
        self._config = _config_key(checkpoint)
        self._dtype, self._device = str(live.dtype).removeprefix("torch."), str(live.device)

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> LanguageModel:
        """Load a model; see `LiveModel.load`."""
        live = LiveModel.load(checkpoint, dtype=dtype, device=device)
        return cls(live, checkpoint, batch_size=batch_size)

    @property
    def module(self) -> Any:
        """The module that is run."""
        return self.live.model

    def fill(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint; one of another config is loaded on its own."""
        if _config_key(checkpoint) == self._config:
            self.live.swap(checkpoint)
            return
        self.live = LiveModel.load(checkpoint, dtype=self._dtype, device=self._device)
        self._config = _config_key(checkpoint)

    def parameters(self, data: Sequence[CalibrationSet]) -> Mapping[str, torch.nn.Parameter]:
        """Return all parameters; tied ones stand there once."""
        return dict(self.module.named_parameters())

    def batches(self, data: CalibrationSet) -> Iterator[Batch]:
        """Yield sequences of tokens.

        Raises:
            IncompatibleModelsError: if they hold a token that the model does not know.
        """
        config = self.module.config.get_text_config()
        if data.ids.max(initial=0) >= config.vocab_size:
            raise IncompatibleModelsError(
                f"the calibration set holds token {data.ids.max()}; the model has "
                f"{config.vocab_size} tokens."
            )
        length = data.ids.shape[1]
        longest = getattr(config, "max_position_embeddings", None)
        if isinstance(longest, int) and length > longest:
            raise IncompatibleModelsError(
                f"sequences of {length} tokens are longer than the model's context of {longest}."
            )
        fitting = min(LOGITS // (length * config.vocab_size), BATCH_TOKENS // length)
        size = self.batch_size or max(1, fitting)
        for start in range(0, len(data), size):
            ids = torch.from_numpy(data.ids[start : start + size])
            yield {"input_ids": ids.to(self.live.device)}

    def losses(self, batch: Batch) -> torch.Tensor:
        """Run the model; return -log p of each sequence, [sequences]."""
        logits = self.module(**batch, use_cache=False).logits[:, :-1]
        targets = batch["input_ids"][:, 1:]
        wide = logits if logits.element_size() >= 4 else logits.float()
        each = torch.nn.functional.cross_entropy(
            wide.flatten(0, 1), targets.flatten(), reduction="none"
        )
        return each.view(targets.shape).sum(dim=1)

    @contextmanager
    def input_tap(self) -> Iterator[Callable[[], torch.Tensor]]:
        """Catch the embeddings of the tokens; see `Runner.input_tap`."""
        caught: list[torch.Tensor] = []

        def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            caught.clear()
            if not output.requires_grad:  # the embedding itself is not differentiated
                output = output.detach().requires_grad_(True)
            else:
                output.retain_grad()
            caught.append(output)
            return output

        handle = self.module.get_input_embeddings().register_forward_hook(hook)
        try:
            yield lambda: caught[0]
        finally:
            handle.remove()

    def input_size(self, data: CalibrationSet) -> int:
        """Return the number of elements of all embedded tokens."""
        return data.tokens * int(self.module.get_input_embeddings().weight.shape[1])


def trace_language_models(
    base: Checkpoint,
    models: Mapping[str, Checkpoint],
    *,
    text: CalibrationText | None = None,
    own: Mapping[str, CalibrationText] | None = None,
    length: int = 128,
    sequences: int | None = None,
    seed: int = 0,
    folds: int = 1,
    layers: Sequence[int] = (-1,),
    gradients: Sequence[Kind] = KINDS,
    dtype: str = "float32",
    device: str = "cpu",
    batch_size: int | None = None,
    by_tensor: bool = False,
    disk_bytes: int | None = None,
    folder: Path | None = None,
) -> Trace:
    """Run fine-tunes of one base over shared calibration text, or each over everybody's own.

    Args:
        base: the model in whose tokens the text is written.
        models: fine-tunes by name.
        text: shared by all; the built-in text if None and *own* is None.
        own: text of single models by name, on which all models are run.
        length, sequences, seed: of each set, see `calibration_set`.
        folds: into how many parts each set is cut, for `miscible.measure.stability`.
        dtype, device, batch_size: in, on and with which models are run.
        layers, gradients, by_tensor, disk_bytes, folder: see `miscible.measure.tracing.trace`.

    Raises:
        MiscibleError: if the base, a text or the disk will not do. What is wrong with a single
            model is in `Trace.failures`.
    """
    runner = LanguageModel.load(base, dtype=dtype, device=device, batch_size=batch_size)
    texts = dict(own or {})
    if text is not None or not texts:
        texts[""] = text or calibration_text()
    pieces: list[CalibrationSet] = []
    owners: list[str] = []
    for owner, each in texts.items():
        whole = calibration_set(
            each, runner.live.tokenizer, length=length, sequences=sequences, seed=seed
        )
        pieces += whole.split(folds, seed)
        owners += [owner] * folds
    return trace(
        models, runner, pieces, owners=owners, layers=layers, gradients=gradients,
        by_tensor=by_tensor, disk_bytes=disk_bytes, folder=folder,
    )  # fmt: skip


def _config_key(checkpoint: Checkpoint) -> str:
    return content_key(config=computed_with(checkpoint))
