"""Passages: a few consecutive sentences of a document as one text.

What a mention refers to, or how a clause bears on the one before, is seldom to be told from one
sentence alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from miscible.probe.contract import SourceOptions
from miscible.probe.dataset import Role
from miscible.probe.datasets.drawing import DEFAULT_EXAMPLES, SHARES, first_ranked, rank
from miscible.probe.datasets.treebank import Sentence
from miscible.probe.datasets.treebank_files import Placed, Treebank

SENTENCES_PER_PASSAGE = 4
EXAMPLES_PER_PASSAGE = 4
"""A quarter as many passages are drawn as examples of a task."""

MIN_PASSAGES = 50


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive sentences, joined by spaces.

    Attributes:
        id: identity within the corpus.
        sentences: in order.
        header: comments at the head of the document.
        starts: where each of them begins in `text`.
        role: part of the corpus's own split, empty for none.
    """

    id: str
    sentences: tuple[Sentence, ...]
    header: Mapping[str, str]
    starts: tuple[int, ...]
    role: Role

    @classmethod
    def of(cls, placed: Sequence[Placed], header: Mapping[str, str]) -> Passage:
        """Return the passage of these sentences, of one document."""
        starts, end = [], 0
        for sentence, _ in placed:
            starts.append(end)
            end += len(sentence.text) + 1
        first, role = placed[0]
        identity = f"{role}/{first.id}" if role else first.id
        sentences = tuple(each.sentence for each in placed)
        return cls(identity, sentences, header, tuple(starts), role)

    @property
    def text(self) -> str:
        """What a model reads."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def group(self) -> str:
        """What must not be split between train and test: the document."""
        return self.sentences[0].group

    def characters(self, sentence: int, first: int, last: int) -> tuple[int, int]:
        """Return where the words *first* to *last* (from 0) of a sentence stand in the text."""
        words, start = self.sentences[sentence].words, self.starts[sentence]
        return start + words[first].start, start + words[last].stop


def passages(treebank: Treebank, options: SourceOptions) -> list[Passage]:
    """Return passages for ``options.limit`` examples a task, in the order of the seed.

    Each document is cut into passages of `SENTENCES_PER_PASSAGE` sentences, the last of which may
    be shorter. Passages of the same text are drawn once.
    """
    wanted = max(MIN_PASSAGES, (options.limit or DEFAULT_EXAMPLES) // EXAMPLES_PER_PASSAGE)
    texts: set[str] = set()
    drawn: list[Passage] = []
    for role, of_role in groupby(_cut(treebank.sentences()), lambda passage: passage.role):
        count = max(1, round(wanted * SHARES.get(role, 1.0)))
        for passage in first_ranked(of_role, count, lambda each: rank(options.seed, each.id)):
            if passage.text not in texts:
                texts.add(passage.text)
                drawn.append(passage)
    return drawn


def _cut(sentences: Iterator[Placed]) -> Iterator[Passage]:
    for _, document in groupby(sentences, lambda placed: (placed.role, placed.sentence.document)):
        held: list[Placed] = []
        header: Mapping[str, str] | None = None
        for placed in document:
            header = placed.sentence.comments if header is None else header
            held.append(placed)
            if len(held) == SENTENCES_PER_PASSAGE:
                yield Passage.of(held, header)
                held = []
        if held and header is not None:
            yield Passage.of(held, header)
