"""Splits, folds, control labels: nothing leaks, everything is the same for every model."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.errors import DatasetError
from miscible.probe.dataset import Example, ProbeDataset, Span
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.scoring.predictions import word_predictions


def words_of(
    sentences: int, words: int, kind="classification", types: int | None = None, **options
) -> ProbeDataset:
    """A task on every word of made-up sentences.

    The words take turns in belonging to one of so many types (by default as many as a sentence has
    words); type t has class t % 3 and value t.
    """
    texts = tuple(" ".join(f"{s}w{w}" for w in range(words)) for s in range(sentences))
    examples = []
    for s, text in enumerate(texts):
        for w in range(words):
            start = text.index(f"{s}w{w}")
            kind_of_word = (s * words + w) % (types or words)
            label = str(kind_of_word % 3) if kind == "classification" else float(kind_of_word)
            span = Span(s, start, start + len(f"{s}w{w}"))
            examples.append(Example(f"{s}-{w}", ((span,),), label, type=f"t{kind_of_word}"))
    return ProbeDataset("toy", "toy", "syntax", "en", texts, tuple(examples), kind, **options)


def laid_out(dataset: ProbeDataset, seed=0) -> TaskLayout:
    return TaskLayout.build(dataset, np.ones(len(dataset.examples), bool), seed)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_text_is_on_one_side_only(kind) -> None:
    layout = laid_out(words_of(80, 6, kind))
    (split,) = layout.splits
    texts = np.repeat(np.arange(80), 6)
    parts = [set(texts[rows]) for rows in (split.train, split.dev, split.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert sum(map(len, (split.train, split.dev, split.test))) == 480
    assert len(split.test) == pytest.approx(120, abs=6) and len(split.dev) == pytest.approx(
        72, abs=6
    )
    assert layout.tested.tolist() == split.test.tolist() and layout.folds is None


def test_small_sets_are_cross_fitted() -> None:
    layout = laid_out(words_of(20, 5))
    assert layout.folds is not None and not layout.splits
    by_text = layout.folds.reshape(20, 5)
    assert (by_text == by_text[:, :1]).all()
    assert sorted(layout.tested) == list(range(100))


def test_stated_groups_stay_together() -> None:
    texts = tuple(f"text {i}" for i in range(400))
    examples = tuple(
        Example(str(i), ((Span(i),),), str(i % 2), group=str(i // 8)) for i in range(400)
    )
    layout = laid_out(ProbeDataset("g", "g", "syntax", "en", texts, examples))
    (split,) = layout.splits
    assert not {i // 8 for i in split.train} & {i // 8 for i in split.test}


def test_given_splits_are_kept_and_get_a_dev_part() -> None:
    dataset = words_of(40, 5)
    roles = ["train"] * 120 + ["test"] * 80
    with_dev = ["train"] * 100 + ["dev"] * 20 + ["test"] * 80
    held = ProbeDataset(
        "toy", "toy", "syntax", "en", dataset.texts, dataset.examples,
        splits=(tuple(roles), tuple(with_dev)),
    )  # fmt: skip
    layout = laid_out(held)
    first, second = layout.splits
    assert set(first.train) | set(first.dev) == set(range(120)) and 10 <= len(first.dev) <= 40
    assert second.dev.tolist() == list(range(100, 120))
    assert layout.tested.tolist() == [*range(120, 200), *range(120, 200)]


def test_control_labels_belong_to_types() -> None:
    layout = laid_out(words_of(80, 9))
    by_word = layout.control.reshape(80, 9)
    assert (by_word == by_word[:1]).all()  # one label a word form, whatever the sentence
    assert sorted(by_word[0]) == sorted(layout.labels.reshape(80, 9)[0])
    assert any((laid_out(words_of(80, 9), s).control != layout.control).any() for s in range(1, 4))


def test_layouts_depend_on_content_and_seed_alone() -> None:
    first, again = laid_out(words_of(80, 6)), laid_out(words_of(80, 6))
    assert first.seed == again.seed and (first.control == again.control).all()
    for one, other in zip(first.splits[0], again.splits[0], strict=True):
        assert (one == other).all()
    assert (laid_out(words_of(80, 6), 1).splits[0].test != first.splits[0].test[:1]).any()


def test_unreadable_examples_are_left_out() -> None:
    dataset = words_of(80, 6)
    readable = np.arange(480) % 6 != 0
    layout = TaskLayout.build(dataset, readable, 0)
    assert len(layout.kept) == 400 == len(layout.labels) == len(layout.groups)
    assert {example.id.split("-")[1] for example in layout.examples} == set("12345")
    with pytest.raises(DatasetError, match="no example fits"):
        TaskLayout.build(dataset, np.zeros(480, bool), 0)


def test_unseen_classes_are_counted() -> None:
    texts = tuple(f"text {i}" for i in range(12))
    examples = tuple(
        Example(str(i), ((Span(i),),), "rare" if i > 9 else str(i % 2)) for i in range(12)
    )
    roles = ("train",) * 6 + ("dev",) * 2 + ("test",) * 4
    layout = laid_out(ProbeDataset("u", "u", "syntax", "en", texts, examples, splits=(roles,)))
    assert layout.unseen == 2


def test_what_cannot_be_divided() -> None:
    texts = ("one two three four",)
    spans = [(0, 3), (4, 7), (8, 13), (14, 18)]
    examples = tuple(
        Example(str(i), ((Span(0, a, b),),), str(i % 2)) for i, (a, b) in enumerate(spans)
    )
    with pytest.raises(DatasetError, match="at least 3"):
        laid_out(ProbeDataset("one", "one", "syntax", "en", texts, examples))
    many = tuple(f"t {i}" for i in range(400))
    same = tuple(Example(str(i), ((Span(i),),), "a") for i in range(400))
    with pytest.raises(DatasetError, match="one label"):
        laid_out(ProbeDataset("same", "same", "syntax", "en", many, same))


def test_words_are_scored_once_a_layout() -> None:
    layout = laid_out(words_of(60, 6))
    said = word_predictions(layout)
    assert word_predictions(layout) is said and len(said) == len(layout.tested)
    assert word_predictions(laid_out(words_of(60, 6), 1)) is not said
