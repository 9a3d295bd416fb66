"""What becomes of an output head that the base ties to its embedding.

The layers of a tied base share one matrix, and an adapter trains a change of one of them: in
training, the other went on with the base's matrix. So the adapted model is untied, unless the
adapter was trained to keep both equal (`ensure_weight_tying`, trained tokens). PEFT's own merge
adds the change of the one to both, and so gives another model than the one that was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miscible.models.layout import input_embedding, is_output_head

if TYPE_CHECKING:
    from miscible.models.adapters import LoraAdapter
    from miscible.models.checkpoint import Checkpoint

FLAG = "tie_word_embeddings"
_HEADLESS_TASKS = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"})
_WITH_HEAD = ("CausalLM", "LMHead", "ConditionalGeneration")


@dataclass(frozen=True, slots=True)
class TiedHead:
    """An output head that the base ties to its embedding, and whose embedding or self is changed.

    Attributes:
        name: of the head's tensor.
        embedding: name of the embedding's tensor.
        stored: whether the base stores the head beside the embedding.
        kept: whether both stay equal under the adapter.
    """

    name: str
    embedding: str
    stored: bool
    kept: bool


def tied_head(base: Checkpoint, adapter: LoraAdapter) -> TiedHead | None:
    """Return the head of *base* if it is tied and *adapter* changes it or the embedding."""
    embedding = input_embedding(base.tensors)
    changed = frozenset(adapter.weights)
    heads = [name for name in changed if is_output_head(name)]
    if embedding is None or not (heads or embedding in changed):
        return None
    stored = [name for name in base.tensors if is_output_head(name)]
    if str(adapter.config.get("task_type")) in _HEADLESS_TASKS or not _ties(
        base.config, bool(stored)
    ):
        return None
    name = next(iter([*stored, *heads, _usual_head(embedding)]))
    together = not heads and adapter.is_row_wise(embedding)
    kept = bool(adapter.config.get("ensure_weight_tying")) or together
    return TiedHead(name, embedding, bool(stored), kept and embedding in changed)


def untied(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that says that embedding and head differ."""
    nested = {
        key: {**value, FLAG: False}
        for key, value in config.items()
        if isinstance(value, Mapping) and FLAG in value
    }
    return {**config, **nested, FLAG: False}


def _ties(config: Mapping[str, Any], stored: bool) -> bool:
    flags = [config.get(FLAG)]
    flags += [value.get(FLAG) for value in config.values() if isinstance(value, Mapping)]
    given = [flag for flag in flags if flag is not None]
    if given:
        return bool(given[0])
    # The default differs between architectures, but a language model without a head is tied.
    names = config.get("architectures")
    first = str(names[0]) if isinstance(names, list) and names else ""
    return not stored and any(part in first for part in _WITH_HEAD)


def _usual_head(embedding: str) -> str:
    return "embed_out.weight" if embedding.endswith("embed_in.weight") else "lm_head.weight"
