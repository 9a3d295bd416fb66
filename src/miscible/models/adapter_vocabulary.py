"""Adapters of a base that was given more tokens before it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.models.layout import input_embedding, is_output_head
from miscible.models.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from miscible.models.adapters import LoraAdapter
    from miscible.models.checkpoint import Checkpoint

_SIZE = "vocab_size"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary of another size than the base's.

    Attributes:
        before: rows of the base's embedding.
        rows: rows of the embedding and the head that the adapter holds.
    """

    before: int
    rows: int

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a base's config with the vocabulary's size."""
        nested = {
            key: {**value, _SIZE: self.rows}
            for key, value in config.items()
            if isinstance(value, Mapping) and value.get(_SIZE) == self.before
        }
        return {**config, **nested, _SIZE: self.rows} if _SIZE in config else {**config, **nested}

    def folder(self, base: Path, adapter: Path) -> Path:
        """Return the folder with the tokenizer: the adapter's, unless it holds none."""
        return adapter if any((adapter / name).is_file() for name in TOKENIZER_FILES[:2]) else base


def resized_vocabulary(base: Checkpoint, adapter: LoraAdapter) -> Vocabulary | None:
    """Return the vocabulary of the adapter if it holds a whole embedding of another size."""
    embedding = input_embedding(base.tensors)
    if embedding is None or embedding not in adapter.weights or not adapter.is_complete(embedding):
        return None
    before, after = base.tensors[embedding].shape, adapter.shape(embedding)
    if len(after) != 2 or after[0] == before[0] or after[1:] != before[1:]:
        return None
    heads = [name for name in adapter.weights if is_output_head(name)]
    stored = [name for name in base.tensors if is_output_head(name)]
    together = all(adapter.is_complete(head) for head in heads) and set(stored) <= set(heads)
    sizes = {adapter.shape(name)[0] for name in heads}
    return Vocabulary(before[0], after[0]) if heads and together and sizes == {after[0]} else None
