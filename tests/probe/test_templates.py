"""The built-in suite: balanced, distinct, seeded."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from miscible.errors import UnknownNameError
from miscible.probe.contract import ProbeDataset, SourceOptions, open_datasets
from miscible.probe.linear import cross_fit
from miscible.probe.plan import Layout

SUITE = {dataset.name: dataset for dataset in open_datasets(["templates"])}
every_paradigm = pytest.mark.parametrize("name", SUITE)


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w ]", text)


def test_breadth() -> None:
    assert len(SUITE) >= 12
    assert {d.competence for d in SUITE.values()} == {
        "morphology", "syntax", "semantics", "discourse",
    }  # fmt: skip


@every_paradigm
def test_pairs_are_distinct_sentences(name: str) -> None:
    dataset = SUITE[name]
    assert len(dataset.pairs) == 60
    assert len(set(dataset.texts)) == 120
    for text in dataset.texts:
        assert re.fullmatch(r"[A-Z][A-Za-z ,.]*[.?]", text) and "  " not in text


@every_paradigm
def test_every_unit_uses_the_same_words_in_good_and_bad(name: str) -> None:
    dataset = SUITE[name]
    for group in {pair.group for pair in dataset.pairs}:
        unit = [pair for pair in dataset.pairs if pair.group == group]
        good = Counter(word for pair in unit for word in words(pair.good))
        bad = Counter(word for pair in unit for word in words(pair.bad))
        assert good == bad


def bag_of_words_accuracy(dataset: ProbeDataset) -> float:
    pairs = dataset.pairs
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    counts = CountVectorizer(lowercase=False, token_pattern=r"\w+").fit_transform(texts).toarray()
    labels = np.repeat([True, False], len(pairs))
    folds = np.tile(Layout.build(dataset).folds, 2)
    found = cross_fit(counts[:, None].astype(np.float32), labels[None], folds)
    return float(((found.scores[0, 0] > 1e-6) == labels).mean())


@every_paradigm
def test_a_bag_of_words_is_at_chance(name: str) -> None:
    assert bag_of_words_accuracy(SUITE[name]) == pytest.approx(0.5)


def test_seed_and_limit() -> None:
    def suite(**options: int) -> tuple[ProbeDataset, ...]:
        return open_datasets(["templates:en"], SourceOptions(**options))

    assert suite(limit=60) == tuple(SUITE.values())
    fewer, other = suite(limit=8), suite(seed=1)
    for dataset, small, different in zip(SUITE.values(), fewer, other, strict=True):
        assert small.pairs == dataset.pairs[:8]
        assert different.key != dataset.key
    assert all(len(dataset.pairs) >= 300 for dataset in suite(limit=300))


def test_unknown_language() -> None:
    with pytest.raises(UnknownNameError, match="no templates for the language 'xx'"):
        open_datasets(["templates:xx"])


def test_one_paradigm_can_be_named() -> None:
    (dataset,) = open_datasets(["templates:en/npi_licensing"], SourceOptions(limit=5))
    assert dataset.name == "templates/en/npi_licensing"
    with pytest.raises(UnknownNameError, match="Did you mean 'npi_licensing'"):
        open_datasets(["templates:en/npi_licencing"])
