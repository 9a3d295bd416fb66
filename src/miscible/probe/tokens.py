"""Texts as padded batches of tokens, made once for a whole sweep of models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError, IncompatibleModelsError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

MAX_BATCH_TOKENS = 2048
MAX_BATCH_LOGITS = 2**27
"""Unless told otherwise, a batch has at most that many positions, and logits (512 MiB)."""


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """One text as the model reads it.

    Attributes:
        ids: tokens, the prefix token first.
        pooled_from: first position that the mean over tokens takes in.
        scored: positions [start, stop) whose log-probabilities make up the sentence's.
        truncated: whether the context was too short for it.
    """

    ids: tuple[int, ...]
    pooled_from: int
    scored: tuple[int, int]
    truncated: bool


@dataclass(frozen=True)
class EncodingPlan:
    """Distinct texts, tokenised and batched; valid for every model with this tokenizer.

    Each sequence begins with the token on which lm-eval conditions an empty context
    (``bos_token_id``, else ``eos_token_id``), so that one pass gives both the sentence's
    log-probability and its hidden states. It counts among the pooled tokens only if the tokenizer
    itself puts it there. A text longer than the context keeps its first tokens and is marked.

    Attributes:
        texts: the distinct texts, in order of first occurrence.
        sequences: one a text.
        truncated: whether a text was cut, [texts].
        batches: indices of texts, longest first.
        padding: side on which shorter sequences are filled up.
        tokenizer: the tokenizer that made it.
    """

    texts: tuple[str, ...]
    sequences: tuple[TokenisedText, ...]
    truncated: npt.NDArray[np.bool_]
    batches: tuple[npt.NDArray[np.int64], ...]
    padding: Literal["right", "left"]
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        config: PretrainedConfig,
        *,
        batch_tokens: int | None = None,
        padding: Literal["right", "left"] = "right",
    ) -> EncodingPlan:
        """Tokenise the distinct *texts* and sort them into batches.

        Args:
            texts: sentences; repetitions are read once.
            tokenizer: the models' tokenizer.
            config: the models' configuration, for the length of the context.
            batch_tokens: most padded positions of a batch (a longer text is its own batch); None
                for what `MAX_BATCH_TOKENS` and `MAX_BATCH_LOGITS` allow.
            padding: side to pad on; the results do not depend on it.

        Raises:
            DatasetError: a text without any token.
            IncompatibleModelsError: a tokenizer that has neither a bos nor an eos token.
        """
        distinct = tuple(dict.fromkeys(texts))
        prefix = tokenizer.bos_token_id
        prefix = tokenizer.eos_token_id if prefix is None else prefix
        if prefix is None:
            raise IncompatibleModelsError(
                "the tokenizer has neither a bos nor an eos token, so the first token of a "
                "sentence has no probability."
            )
        if batch_tokens is None:
            vocabulary = int(config.get_text_config().vocab_size)
            batch_tokens = min(MAX_BATCH_TOKENS, MAX_BATCH_LOGITS // vocabulary)
        context = _context(config, tokenizer)
        encoded = tokenizer(list(distinct), return_special_tokens_mask=True, verbose=False)
        masks = encoded["special_tokens_mask"]
        sequences = []
        for text, ids, mask in zip(distinct, encoded["input_ids"], masks, strict=True):
            if all(mask):
                raise DatasetError(f"the text {text!r} has no token.")
            sequences.append(_tokenised(ids, mask, prefix, context))
        return cls(
            texts=distinct,
            sequences=tuple(sequences),
            truncated=np.asarray([sequence.truncated for sequence in sequences], dtype=bool),
            batches=_batches([len(sequence.ids) for sequence in sequences], batch_tokens),
            padding=padding,
            tokenizer=tokenizer,
        )

    def indices(self, texts: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return where the *texts* are in `texts`; raises `KeyError` for one that is not."""
        return np.asarray([self._places[text] for text in texts], dtype=np.int64)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {text: index for index, text in enumerate(self.texts)}

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Raise `IncompatibleModelsError` unless *tokenizer* would give the same tokens."""
        if tokenizer is self.tokenizer:
            return
        if _identity(tokenizer) != _identity(self.tokenizer):
            raise IncompatibleModelsError(
                "the texts were tokenised with another tokenizer.",
                fix="Build a plan for each tokenizer.",
            )


def _tokenised(ids: list[int], special: list[int], prefix: int, context: int) -> TokenisedText:
    leading, trailing = special.index(0), special[::-1].index(0)
    stop = len(ids) - trailing
    if ids[leading] == prefix and stop - leading > 1:
        # lm-eval gives no second prefix token to a text that itself begins with it.
        whole, pooled_from, start = ids[leading:], 0, 1
    elif leading:
        whole, pooled_from, start = ids, 0, leading
    else:
        whole, pooled_from, start = [prefix, *ids], 1, 1
    kept = whole[:context]
    stop = min(len(whole) - trailing, len(kept))
    return TokenisedText(tuple(kept), pooled_from, (start, stop), len(whole) > len(kept))


def _batches(lengths: Sequence[int], budget: int) -> tuple[npt.NDArray[np.int64], ...]:
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // lengths[order[start]])
        batches.append(order[start : start + size])
        start += size
    return tuple(batches)


def _context(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    text = config.get_text_config()
    stated = (getattr(text, "max_position_embeddings", None), tokenizer.model_max_length)
    return min(int(length) for length in stated if length)


def _identity(tokenizer: Any) -> tuple[str, object, object]:
    backend: str = tokenizer.backend_tokenizer.to_str()
    return backend, tokenizer.bos_token_id, tokenizer.eos_token_id
