"""The built-in suite: balanced, distinct, seeded."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from miscible.errors import UnknownNameError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset

SUITE = {dataset.name: dataset for dataset in open_datasets(["templates:all"])}
LANGUAGES = ("de", "en", "es")
every_paradigm = pytest.mark.parametrize("name", SUITE)


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w ]", text)


def of(language: str) -> list[ProbeDataset]:
    return [dataset for dataset in SUITE.values() if dataset.language == language]


@pytest.mark.parametrize(("language", "phenomena"), [("de", 15), ("en", 20), ("es", 15)])
def test_breadth(language: str, phenomena: int) -> None:
    assert len({dataset.phenomenon for dataset in of(language)}) >= phenomena
    assert {dataset.competence for dataset in of(language)} == {
        "morphology", "syntax", "semantics", "discourse",
    }  # fmt: skip


def test_english_unless_another_language_is_named() -> None:
    for language in LANGUAGES:
        argument = "templates" if language == "en" else f"templates:{language}"
        assert list(open_datasets([argument])) == of(language)
    assert {dataset.language for dataset in SUITE.values()} == set(LANGUAGES)


SENTENCES = {
    "de": r"[A-ZÄÖÜ][A-Za-zÄÖÜäöüß ,.]*\.",
    "en": r"[A-Z][A-Za-z ,.?]*[.?]",
    "es": r"[A-ZÁÉÍÓÚ][A-Za-záéíóúñü ,.]*\.",
}


@every_paradigm
def test_pairs_are_distinct_sentences(name: str) -> None:
    dataset = SUITE[name]
    assert len(dataset.pairs) == 60
    assert len(set(dataset.texts)) == 120
    for text in dataset.texts:
        assert re.fullmatch(SENTENCES[dataset.language], text) and "  " not in text
        for sentence in re.split(r"(?<=[.?]) ", text):
            assert sentence[0].isupper()


@every_paradigm
def test_a_paradigm_has_more_than_a_hundred_pairs(name: str) -> None:
    (dataset,) = open_datasets([name.replace("templates/", "templates:", 1)], SourceOptions(120))
    assert len(dataset.pairs) == 120 and len(dataset.texts) == 240


@every_paradigm
def test_every_unit_uses_the_same_words_in_good_and_bad(name: str) -> None:
    dataset = SUITE[name]
    for group in {pair.group for pair in dataset.pairs}:
        unit = [pair for pair in dataset.pairs if pair.group == group]
        good = Counter(word for pair in unit for word in words(pair.good))
        bad = Counter(word for pair in unit for word in words(pair.bad))
        assert good == bad


def bag_of_words_accuracy(dataset: ProbeDataset) -> float:
    """Logistic regression on word counts, cross-fitted over units; its optimum must be flat."""
    pairs = dataset.pairs
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    units = [pair.group for pair in pairs] * 2
    counts = CountVectorizer(lowercase=False, token_pattern=r"\w+|[^\w ]").fit_transform(texts)
    labels = np.repeat([True, False], len(pairs))
    scores = cross_val_predict(
        LogisticRegression(), counts, labels,
        groups=units, cv=GroupKFold(5), method="decision_function",
    )  # fmt: skip
    return float(((scores > 1e-6) == labels).mean())


@every_paradigm
def test_a_bag_of_words_is_at_chance(name: str) -> None:
    assert bag_of_words_accuracy(SUITE[name]) == pytest.approx(0.5)


def test_seed_and_limit() -> None:
    def suite(**options: int) -> tuple[ProbeDataset, ...]:
        return open_datasets(["templates:en"], SourceOptions(**options))

    assert suite(limit=60) == tuple(of("en"))
    fewer, other = suite(limit=8), suite(seed=1)
    for dataset, small, different in zip(of("en"), fewer, other, strict=True):
        assert small.pairs == dataset.pairs[:8]
        assert different.key != dataset.key
    assert all(len(dataset.pairs) >= 300 for dataset in suite(limit=300))


def test_unknown_language() -> None:
    with pytest.raises(UnknownNameError, match="language 'xx'. Known: all, de, en, es."):
        open_datasets(["templates:xx"])


def test_one_paradigm_can_be_named() -> None:
    (dataset,) = open_datasets(["templates:en/npi_licensing"], SourceOptions(limit=5))
    assert dataset.name == "templates/en/npi_licensing"
    with pytest.raises(UnknownNameError, match="Did you mean 'npi_licensing'"):
        open_datasets(["templates:en/npi_licencing"])
