"""What a probing data set is: texts, spans of them, labels, groups, splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias, get_args

from miscible.errors import DatasetError
from miscible.keys import content_key

Competence: TypeAlias = Literal["morphology", "syntax", "semantics", "discourse", "reasoning"]
"""The five competences of Holmes (arXiv 2404.18923)."""

COMPETENCES: tuple[Competence, ...] = get_args(Competence)

UNKNOWN_LANGUAGE = "und"
"""BCP 47 tag of a data set that does not say its language."""


Text: TypeAlias = str | tuple[str, ...]
"""What a model reads at once: a sentence, or several that the tokenizer's separator joins."""

Kind: TypeAlias = Literal["classification", "regression"]

Role: TypeAlias = Literal["train", "dev", "test", ""]
"""Part of an example in a given split; empty for none."""


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one property: *good* has it right, *bad* wrong.

    Attributes:
        id: identity within the data set, the same for every model.
        good, bad: the sentences.
        group: pairs that must not be split between train and test share it; empty for none.
    """

    id: str
    good: str
    bad: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of a text whose vectors are averaged: all its tokens, or those that overlap.

    Attributes:
        text: index of the text in its data set.
        start, stop: characters, counted in the sentence; the whole text, special tokens included,
            if *stop* is None.
        sentence: of a text that is made of several, the one meant.
    """

    text: int
    start: int = 0
    stop: int | None = None
    sentence: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """One row that a probe is fitted or tested on.

    Attributes:
        id: identity within the data set, the same for every model.
        inputs: spans; those of one element are averaged, elements are concatenated in order.
            Every example of a data set has equally many elements.
        label: class, or the value for a regression.
        group: examples that must not be split between train and test share it; empty for none.
            Examples that share a text are kept together anyway.
        type: what a control task gives one label (the word form in a task on words; Hewitt and
            Liang, arXiv 1909.03368); the example itself if empty.
    """

    id: str
    inputs: tuple[tuple[Span, ...], ...]
    label: str | float
    group: str = ""
    type: str = ""


@dataclass(frozen=True)
class ProbeDataset:
    """A task that a probe is fitted to, and, of minimal pairs, the pairs themselves.

    Attributes:
        name: unique within a study, ``corpus/paradigm`` by custom.
        phenomenon, competence: place in the taxonomy.
        language: BCP 47 tag.
        texts: what the model reads; distinct.
        examples: at least one; ids are unique.
        kind: classification, or regression with numbers for labels.
        splits: for each split that the source gives, the role of every example. Without any, a
            probe is cross-fitted.
        pairs: where the examples are the sentences of minimal pairs: good and bad in turn.
        excluded: by reason, how many examples (pairs) of the source could not be used.

    Raises:
        DatasetError: if there is no example, an id occurs twice, a span points nowhere, the
            examples' inputs differ in number, a label does not suit the kind, a split has another
            length or lacks a role, or the competence is unknown.
    """

    name: str
    phenomenon: str
    competence: Competence
    language: str
    texts: tuple[Text, ...]
    examples: tuple[Example, ...]
    kind: Kind = "classification"
    splits: tuple[tuple[Role, ...], ...] = ()
    pairs: tuple[MinimalPair, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise DatasetError(problem, where=self.name)

    @classmethod
    def of_pairs(
        cls,
        name: str,
        phenomenon: str,
        competence: Competence,
        language: str,
        pairs: Sequence[MinimalPair],
        excluded: Mapping[str, int] | None = None,
    ) -> ProbeDataset:
        """Return the data set of minimal pairs: is a sentence the good or the bad one?"""
        texts = tuple(dict.fromkeys(text for pair in pairs for text in (pair.good, pair.bad)))
        places = {text: place for place, text in enumerate(texts)}
        examples = tuple(
            Example(f"{pair.id}/{label}", ((Span(places[text]),),), label, pair.group or pair.id)
            for pair in pairs
            for label, text in (("good", pair.good), ("bad", pair.bad))
        )
        return cls(
            name, phenomenon, competence, language, texts, examples,
            pairs=tuple(pairs), excluded=excluded or {},
        )  # fmt: skip

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels of a classification, in alphabetical order."""
        return tuple(sorted({str(example.label) for example in self.examples}))

    @cached_property
    def key(self) -> str:
        """Content key of what a probe sees, not of the name."""
        return content_key(
            texts=self.texts, kind=self.kind, splits=self.splits,
            examples=[astuple(example) for example in self.examples],
        )  # fmt: skip


def _problem(dataset: ProbeDataset) -> str | None:
    if not dataset.examples:
        return "there is no usable example."
    if dataset.competence not in COMPETENCES:
        known = ", ".join(COMPETENCES)
        return f"the competence {dataset.competence!r} is unknown. Known: {known}."
    identity, count = Counter(example.id for example in dataset.examples).most_common(1)[0]
    if count > 1:
        return f"the id {identity!r} occurs {count} times."
    if len(set(dataset.texts)) < len(dataset.texts):
        return "a text occurs twice."
    width = len(dataset.examples[0].inputs)
    for example in dataset.examples:
        if len(example.inputs) != width or not all(example.inputs):
            return f"example {example.id!r} does not have {width} inputs of at least one span."
        for span in (span for part in example.inputs for span in part):
            if not _points(span, dataset.texts):
                return f"a span of example {example.id!r} lies outside its text."
        if dataset.kind == "regression" and not _is_number(example.label):
            return f"the value of example {example.id!r} is not a finite number."
    for number, split in enumerate(dataset.splits):
        if len(split) != len(dataset.examples):
            return f"split {number} does not have a role for every example."
        if not {"train", "test"} <= set(split):
            return f"split {number} has nothing to train or nothing to test on."
    return None


def _is_number(label: str | float) -> bool:
    return isinstance(label, (int, float)) and math.isfinite(label)


def _points(span: Span, texts: Sequence[Text]) -> bool:
    if not 0 <= span.text < len(texts):
        return False
    text = texts[span.text]
    sentences = (text,) if isinstance(text, str) else text
    if not 0 <= span.sentence < len(sentences):
        return False
    return span.stop is None or 0 <= span.start < span.stop <= len(sentences[span.sentence])
