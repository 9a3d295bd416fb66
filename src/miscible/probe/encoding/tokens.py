"""Texts as padded batches of tokens, made once for a whole sweep of models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError, IncompatibleModelsError
from miscible.probe.dataset import Text

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

MAX_BATCH_TOKENS = 2048
MAX_BATCH_LOGITS = 2**27
"""Unless told otherwise, a batch has at most that many positions, and logits (512 MiB)."""


class Read(NamedTuple):
    """What is pooled into one vector: a text, or the tokens that overlap a span of it.

    Attributes:
        text: the text.
        sentence, start, stop: see `miscible.probe.dataset.Span`.
    """

    text: Text
    sentence: int = 0
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """One text as the model reads it.

    Attributes:
        ids: tokens, the prefix token first.
        pooled_from: first position that the mean over all tokens takes in.
        scored: positions [start, stop) whose log-probabilities make up the text's; none if start
            and stop are equal.
        truncated: whether the context was too short for it.
        sentences: of every token the number of its sentence, -1 for special ones.
        offsets: of every token the characters [start, stop) of its sentence.
    """

    ids: tuple[int, ...]
    pooled_from: int
    scored: tuple[int, int]
    truncated: bool
    sentences: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def positions(self, read: Read) -> tuple[int, int]:
        """Return the positions [first, last) that a read pools; empty where there is no token."""
        if read.stop is None:
            return self.pooled_from, len(self.ids)
        covered = [
            place
            for place, (sentence, (start, stop)) in enumerate(
                zip(self.sentences, self.offsets, strict=True)
            )
            if sentence == read.sentence and start < read.stop and stop > max(start, read.start)
        ]
        return (covered[0], covered[-1] + 1) if covered else (0, 0)


@dataclass(frozen=True)
class EncodingPlan:
    """Distinct texts, tokenised and batched; valid for every model with this tokenizer.

    Each sequence begins with the token on which lm-eval conditions an empty context
    (``bos_token_id``, else ``eos_token_id``), so that one pass gives both the sentence's
    log-probability and its hidden states. It counts among the pooled tokens only if the tokenizer
    itself puts it there. A text longer than the context keeps its first tokens and is marked. The
    sentences of a text of several are joined by the separator token, else the end-of-sequence one.

    Attributes:
        texts: the distinct texts, in order of first occurrence.
        sequences: one a text.
        truncated: whether a text was cut, [texts].
        reads: what is pooled; distinct.
        positions: tokens [first, last) of each read within its text, [reads, 2]; empty where a
            read has no token (it lies beyond the context).
        owners: index of each read's text, [reads].
        batches: indices of texts, longest first.
        padding: side on which shorter sequences are filled up.
        tokenizer: the tokenizer that made it.
    """

    texts: tuple[Text, ...]
    sequences: tuple[TokenisedText, ...]
    truncated: npt.NDArray[np.bool_]
    reads: tuple[Read, ...]
    positions: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    batches: tuple[npt.NDArray[np.int64], ...]
    padding: Literal["right", "left"]
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def build(
        cls,
        texts: Sequence[Text],
        tokenizer: PreTrainedTokenizerFast,
        config: PretrainedConfig,
        *,
        reads: Sequence[Read] | None = None,
        scored: Collection[Text] | None = None,
        batch_tokens: int | None = None,
        padding: Literal["right", "left"] = "right",
    ) -> EncodingPlan:
        """Tokenise the distinct *texts* and sort them into batches.

        Args:
            texts: what models read; repetitions are read once.
            tokenizer: the models' tokenizer.
            config: the models' configuration, for the length of the context.
            reads: what is pooled, of these texts; each text as a whole if None.
            scored: texts whose log-probability is wanted; all if None.
            batch_tokens: most padded positions of a batch (a longer text is its own batch); None
                for what `MAX_BATCH_TOKENS` and `MAX_BATCH_LOGITS` allow.
            padding: side to pad on; the results do not depend on it.

        Raises:
            DatasetError: a text without any token.
            IncompatibleModelsError: a tokenizer that has neither a bos nor an eos token, or that
                does not tell the characters of its tokens, where spans are read.
        """
        distinct = tuple(dict.fromkeys(texts))
        wanted = tuple(dict.fromkeys(map(Read, distinct) if reads is None else reads))
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
        spans = any(read.stop is not None for read in wanted)
        pieces = _tokenise(distinct, tokenizer, spans)
        context = _context(config, tokenizer)
        sequences = [
            _sequence(piece, prefix, context, scored is None or text in scored)
            for text, piece in zip(distinct, pieces, strict=True)
        ]
        places = {text: place for place, text in enumerate(distinct)}
        owners = np.asarray([places[read.text] for read in wanted], dtype=np.int64)
        positions = [
            sequences[owner].positions(read) for owner, read in zip(owners, wanted, strict=True)
        ]
        return cls(
            texts=distinct,
            sequences=tuple(sequences),
            truncated=np.asarray([sequence.truncated for sequence in sequences], dtype=bool),
            reads=wanted,
            positions=np.asarray(positions, dtype=np.int64).reshape(-1, 2),
            owners=owners,
            batches=_batches([len(sequence.ids) for sequence in sequences], batch_tokens),
            padding=padding,
            tokenizer=tokenizer,
        )

    def indices(self, texts: Iterable[Text]) -> npt.NDArray[np.int64]:
        """Return where the *texts* are in `texts`; raises `KeyError` for one that is not."""
        return np.asarray([self._places[text] for text in texts], dtype=np.int64)

    def rows(self, reads: Iterable[Read]) -> npt.NDArray[np.int64]:
        """Return where the *reads* are in `reads`; raises `KeyError` for one that is not."""
        return np.asarray([self._rows[read] for read in reads], dtype=np.int64)

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Whether a read has no token, [reads]."""
        empty: npt.NDArray[np.bool_] = self.positions[:, 0] >= self.positions[:, 1]
        return empty

    @cached_property
    def _places(self) -> dict[Text, int]:
        return {text: index for index, text in enumerate(self.texts)}

    @cached_property
    def _rows(self) -> dict[Read, int]:
        return {read: index for index, read in enumerate(self.reads)}

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Raise `IncompatibleModelsError` unless *tokenizer* would give the same tokens."""
        if tokenizer is self.tokenizer:
            return
        if _identity(tokenizer) != _identity(self.tokenizer):
            raise IncompatibleModelsError(
                "the texts were tokenised with another tokenizer.",
                fix="Build a plan for each tokenizer.",
            )


@dataclass(frozen=True, slots=True)
class _Piece:
    # A text as the tokenizer gives it, special tokens included.
    ids: list[int]
    special: list[int]
    sentences: list[int]
    offsets: list[tuple[int, int]]


def _tokenise(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerFast, spans: bool
) -> list[_Piece]:
    if spans and not tokenizer.is_fast:
        raise IncompatibleModelsError(
            "the tokenizer does not tell which characters a token covers.",
            fix="Probe with data sets of whole sentences, or convert it to a fast tokenizer.",
        )
    sentences = list(
        dict.fromkeys(
            part for text in texts for part in ((text,) if isinstance(text, str) else text)
        )
    )
    encoded = tokenizer(
        sentences, return_special_tokens_mask=True, return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )  # fmt: skip
    alone: dict[str, _Piece] = {}
    for place, sentence in enumerate(sentences):
        ids, mask = encoded["input_ids"][place], encoded["special_tokens_mask"][place]
        if all(mask):
            raise DatasetError(f"the text {sentence!r} has no token.")
        offsets = encoded["offset_mapping"][place] if tokenizer.is_fast else [(0, 0)] * len(ids)
        numbers = [-1 if special else 0 for special in mask]
        alone[sentence] = _Piece(list(ids), list(mask), numbers, [tuple(o) for o in offsets])
    return [
        alone[text] if isinstance(text, str) else _joined([alone[part] for part in text], tokenizer)
        for text in texts
    ]


def _joined(pieces: Sequence[_Piece], tokenizer: PreTrainedTokenizerFast) -> _Piece:
    separator = tokenizer.sep_token_id
    separator = tokenizer.eos_token_id if separator is None else separator
    whole = _Piece([], [], [], [])
    for number, piece in enumerate(pieces):
        leading, trailing = piece.special.index(0), piece.special[::-1].index(0)
        last = number == len(pieces) - 1
        stop = len(piece.ids) - (0 if last else trailing)
        kept = slice(leading if number else 0, stop)
        whole.ids.extend(piece.ids[kept])
        whole.special.extend(piece.special[kept])
        whole.sentences.extend(number if s >= 0 else -1 for s in piece.sentences[kept])
        whole.offsets.extend(piece.offsets[kept])
        if not last and separator is not None:
            whole.ids.append(separator)
            whole.special.append(1)
            whole.sentences.append(-1)
            whole.offsets.append((0, 0))
    return whole


def _sequence(piece: _Piece, prefix: int, context: int, scored: bool) -> TokenisedText:
    ids, special = piece.ids, piece.special
    leading, trailing = special.index(0), special[::-1].index(0)
    stop = len(ids) - trailing
    dropped = 0
    if ids[leading] == prefix and stop - leading > 1:
        # lm-eval gives no second prefix token to a text that itself begins with it.
        dropped, pooled_from, start = leading, 0, 1
        whole = ids[leading:]
    elif leading:
        whole, pooled_from, start = ids, 0, leading
    else:
        whole, pooled_from, start = [prefix, *ids], 1, 1
    added = [-1] if pooled_from else []
    kept = whole[:context]
    stop = min(len(whole) - trailing, len(kept))
    return TokenisedText(
        tuple(kept),
        pooled_from,
        (start, stop) if scored else (start, start),
        len(whole) > len(kept),
        tuple([*added, *piece.sentences[dropped:]][:context]),
        tuple([*((0, 0) for _ in added), *piece.offsets[dropped:]][:context]),
    )


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
