"""Bags of words: the baseline features that no model has touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from miscible.probe.dataset import Example, Span, Text

_WORDS = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]"  # scripts without spaces: a word a character
    r"|\w+|[^\w\s]"
)


def word_counts(rows: Sequence[Sequence[str]]) -> npt.NDArray[np.float32]:
    """Return how often each word occurs in each row, as the features of one layer.

    Args:
        rows: strings of each row, one an input; the same word of another input is another feature.

    Returns:
        [rows, 1, words].
    """
    counts = [
        Counter((place, word) for place, text in enumerate(row) for word in _WORDS.findall(text))
        for row in rows
    ]
    words = {word: place for place, word in enumerate(sorted(set().union(*counts)))}
    features = np.zeros((len(rows), 1, max(1, len(words))), dtype=np.float32)
    for row, held in enumerate(counts):
        for word, count in held.items():
            features[row, 0, words[word]] = count
    return features


def words_of(example: Example, texts: Sequence[Text]) -> list[str]:
    """Return the characters that each input of an example covers."""
    return [" ".join(_covered(span, texts) for span in part) for part in example.inputs]


def _covered(span: Span, texts: Sequence[Text]) -> str:
    text = texts[span.text]
    if span.stop is None:
        return text if isinstance(text, str) else " ".join(text)
    sentence = text if isinstance(text, str) else text[span.sentence]
    return sentence[span.start : span.stop]
