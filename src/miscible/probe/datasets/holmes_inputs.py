"""What a probe sees of a row of a Holmes table, by ``probe_task_type``.

===========================  =================================  ==================================
``probe_task_type``          element of ``inputs``              input of the probe
===========================  =================================  ==================================
``SENTENCE``                 text                               the text
``SENTENCE_PAIR_BI``         two texts                          both, concatenated
``SENTENCE_PAIR_CROSS``      two texts                          both, read as one
``SENTENCE_TOKENS``          (surface, context, start, stop)    a span each, concatenated
``SENTENCE_SPANS``           the same, then a group             spans of a group averaged, groups
                                                                concatenated in ascending order
``SENTENCE_PAIR_TOKENS_BI``  as ``SENTENCE_TOKENS``             a span each, concatenated
``…_TOKENS_CROSS``           as ``SENTENCE_TOKENS``             the same in two contexts that are
                                                                read as one
===========================  =================================  ==================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from miscible.errors import DatasetError
from miscible.probe.dataset import Text

TaskType: TypeAlias = Literal[
    "SENTENCE", "SENTENCE_PAIR_BI", "SENTENCE_PAIR_CROSS", "SENTENCE_TOKENS", "SENTENCE_SPANS",
    "SENTENCE_PAIR_TOKENS_BI", "SENTENCE_PAIR_TOKENS_CROSS",
]  # fmt: skip

_SENTENCES: dict[TaskType, int] = {
    "SENTENCE": 1, "SENTENCE_PAIR_BI": 2, "SENTENCE_PAIR_CROSS": 2,
}  # fmt: skip
"""Tasks on whole sentences, and how many each has."""


class UnusableRowError(Exception):
    """A row that a data set can do without; its message is the reason."""


class Place(NamedTuple):
    """A span, with its text instead of the text's index (see `Span`)."""

    text: Text
    start: int = 0
    stop: int | None = None
    sentence: int = 0


class Inputs(NamedTuple):
    """What a probe sees.

    Attributes:
        parts: places; those of one part are averaged, parts are concatenated.
        surface: the words that the places cover; empty for whole texts.
    """

    parts: tuple[tuple[Place, ...], ...]
    surface: str = ""


def needs_context(task: TaskType) -> bool:
    """Whether the texts stand in the column ``context`` rather than in ``inputs``."""
    return task not in _SENTENCES


def read_inputs(
    task: TaskType, elements: Sequence[object], context: Sequence[object], where: str
) -> Inputs:
    """Return what a probe sees of a row.

    Args:
        task: type of the task.
        elements: the column ``inputs``.
        context: the column ``context``; not looked at by tasks on whole sentences.
        where: file and line, for messages.

    Raises:
        UnusableRowError: a text is empty or cannot be encoded, there are more or fewer than the
            type wants, or offsets do not point at the surface form (case and white space apart).
        DatasetError: an element is of another shape than the type's.
    """
    if task in _SENTENCES:
        texts = _texts(elements, "inputs", where)
        if len(texts) != _SENTENCES[task]:
            raise UnusableRowError("another number of inputs")
        for text in texts:
            _check_text(text)
        if task == "SENTENCE_PAIR_CROSS":
            return Inputs(((Place(texts),),))
        return Inputs(tuple((Place(text),) for text in texts))
    contexts = _texts(context, "context", where)
    joined = task == "SENTENCE_PAIR_TOKENS_CROSS"
    if joined:
        if len(contexts) != 2:
            raise UnusableRowError("another number of contexts")
        for text in contexts:
            _check_text(text)
    parts: dict[int, list[Place]] = defaultdict(list)
    for span, part in _spans(elements, task == "SENTENCE_SPANS", where):
        parts[part].append(_place(span, contexts, joined))
    ordered = [parts[part] for part in sorted(parts)]
    surface = " | ".join(" ".join(_covered(place) for place in part) for part in ordered)
    return Inputs(tuple(tuple(part) for part in ordered), surface)


class _Span(NamedTuple):
    surface: str
    context: int
    start: int
    stop: int


def _spans(elements: Sequence[object], grouped: bool, where: str) -> Iterator[tuple[_Span, int]]:
    shape = "(surface form, context, start, stop" + (", group)" if grouped else ")")
    for position, element in enumerate(elements):
        match element:
            case (str() as surface, *rest):
                numbers = [number for number in rest if type(number) is int]
                if len(numbers) == len(rest) == 3 + grouped:
                    part = numbers[3] if grouped else position
                    yield _Span(surface, *numbers[:3]), part
                    continue
        raise DatasetError(f"an element of 'inputs' is not {shape}.", where=where)


def _place(span: _Span, contexts: tuple[str, ...], joined: bool) -> Place:
    if not 0 <= span.context < len(contexts):
        raise UnusableRowError("offsets outside of the context")
    text = contexts[span.context]
    _check_text(text)
    if not 0 <= span.start < span.stop <= len(text):
        raise UnusableRowError("offsets outside of the context")
    covered = _folded(text[span.start : span.stop])
    if not covered:
        raise UnusableRowError("offsets of white space")
    if covered != _folded(span.surface):
        raise UnusableRowError("offsets of another surface form")
    if joined:
        return Place(contexts, span.start, span.stop, span.context)
    return Place(text, span.start, span.stop)


def _covered(place: Place) -> str:
    text = place.text if isinstance(place.text, str) else place.text[place.sentence]
    return text[place.start : place.stop]


def _texts(elements: Sequence[object], what: str, where: str) -> tuple[str, ...]:
    texts = tuple(element for element in elements if isinstance(element, str))
    if len(texts) < len(elements):
        raise DatasetError(f"an element of {what!r} is not text.", where=where)
    return texts


def _check_text(text: str) -> None:
    if not text.strip():
        raise UnusableRowError("empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableRowError("text with a lone surrogate") from None


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
