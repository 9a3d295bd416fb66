"""Reading CoNLL-U: where words stand, what is left out, what is an error and in which line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from miscible.errors import DatasetError
from miscible.probe.datasets.conllu_lines import MAX_WORDS, read_sentences
from miscible.probe.datasets.corpus_files import corpus_files
from miscible.probe.datasets.treebank import Sentence, tree_depths, tree_distance
from probe.datasets.treebanks import ARABIC, CHINESE, ENGLISH, FRENCH, GERMAN, many, write


def read(path: Path, excluded: Counter[str] | None = None) -> list[Sentence]:
    counts: Counter[str] = Counter() if excluded is None else excluded
    return [
        sentence
        for file in corpus_files(path, frozenset({".conllu"}))
        for sentence in read_sentences(file, counts)
    ]


def parts(sentence: Sentence) -> list[str]:
    return [sentence.text[word.start : word.stop] for word in sentence.words]


def shared(sentence: Sentence) -> list[str]:
    return [word.form for word in sentence.words if word.shared]


@pytest.mark.parametrize(
    ("content", "words", "sharing"),
    [
        (GERMAN, ["Wir", "gehen", "zum", "zum", "See", "."], ["zu", "dem"]),
        (FRENCH, ["Le", "prix", "du", "du", "pain", "."], ["de", "le"]),
        (ARABIC, ["و", "كتب", "الولد", "رسالة"], []),
        (CHINESE, ["我", "喜欢", "读书", "。"], []),
        (ENGLISH, ["I", "do", "n't", "owe", "Ann", "10 000", "and", "Bo", "20", "."], []),
    ],
)
def test_words_stand_where_they_are_written(
    tmp_path: Path, content: str, words: list[str], sharing: list[str]
) -> None:
    (sentence,) = read(write(tmp_path, "one.conllu", content))
    assert parts(sentence) == words and shared(sentence) == sharing


def test_a_missing_text_is_put_together_from_the_forms(tmp_path: Path) -> None:
    (sentence,) = read(write(tmp_path, "one.conllu", FRENCH))
    assert sentence.text == "Le prix du pain."
    without = "\n".join(line for line in CHINESE.split("\n") if not line.startswith("# text"))
    assert read(write(tmp_path, "two.conllu", without))[0].text == "我喜欢读书。"


def test_white_space_within_a_form_is_any_white_space(tmp_path: Path) -> None:
    path = write(tmp_path, "one.conllu", ENGLISH.replace("Ann 10 000", "Ann 10\u00a0000"))
    assert parts(read(path)[0])[5] == "10\u00a0000"


def test_the_same_sentences_whatever_ends_and_begins_a_line(tmp_path: Path) -> None:
    content = GERMAN + "\n" + FRENCH
    plain = read(write(tmp_path, "one.conllu", content))
    windows = read(write(tmp_path, "a/one.conllu", "\ufeff" + content.replace("\n", "\r\n")))
    zipped = read(write(tmp_path, "one.conllu.gz", content))
    assert len(plain) == 2
    assert [each.words for each in plain] == [each.words for each in windows]
    assert [each.words for each in plain] == [each.words for each in zipped]


def test_ids_and_documents(tmp_path: Path) -> None:
    row = "1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n"
    heads = ["# newdoc id = x\n# sent_id = s\n", "# sent_id = s\n", "# newdoc\n", ""]
    sentences = read(write(tmp_path, "one.conllu", "\n".join(head + row for head in heads)))
    assert [each.id for each in sentences] == ["s", "s@6", "@9", "@11"]
    assert [each.document for each in sentences] == ["x", "x", "one#2", "one#2"]
    (alone,) = read(write(tmp_path, "two.conllu", "# sent_id = s\n" + row))
    assert (alone.document, alone.group) == ("", "s")


def test_sentences_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    long = "\n".join(f"{i}\tw{i}\t_\tX\t_\t_\t{i - 1}\tdep\t_\t_" for i in range(1, MAX_WORDS + 2))
    other = GERMAN.replace("# text = Wir", "# text = Ihr")
    more = GERMAN.replace("zum See.", "zum See. Und?")
    path = write(tmp_path, "one.conllu", "\n".join([GERMAN, other, more, long + "\n"]))
    excluded: Counter[str] = Counter()
    assert len(read(path, excluded)) == 1
    assert excluded == {"sentences not aligned": 2, "sentences too long": 1}


@pytest.mark.parametrize(
    "heads",
    [["2", "1"], ["0", "0"], ["0", "3"], ["0", "2"], ["0", "_"], ["_", "_"]],
    ids=["cycle", "roots", "outside", "own", "lacking", "none"],
)
def test_heads_that_are_no_tree_leave_the_words(tmp_path: Path, heads: list[str]) -> None:
    rows = [f"{i}\tw{i}\t_\tX\t_\t_\t{head}\tdep\t_\t_\n" for i, head in enumerate(heads, 1)]
    (sentence,) = read(write(tmp_path, "one.conllu", "".join(rows)))
    assert sentence.depths is None and len(sentence.words) == 2


def test_depths_and_distances(tmp_path: Path) -> None:
    assert tree_depths([2, 0, 2, 5, 3]) == (1, 0, 1, 3, 2)
    (sentence,) = read(write(tmp_path, "one.conllu", GERMAN))
    assert sentence.depths == (1, 0, 2, 2, 1, 1)
    assert [tree_distance(sentence, 1, other) for other in range(1, 7)] == [0, 1, 3, 3, 2, 2]


ROW = "{}\ta\ta\tX\t_\t{}\t{}\tdep\t_\t_"


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        (["1\ta\tb"], 1, "has 3 columns"),
        ([ROW.format(1, "_", 0) + "\t_"], 1, "has 11 columns"),
        ([ROW.format(1, "", 0)], 1, "column 6 is empty"),
        ([ROW.format(1, "_", 0), ROW.format(3, "_", 1)], 2, "id should be 2. Got '3'"),
        ([ROW.format("１", "_", 0)], 1, "id should be 1"),
        ([ROW.format("x", "_", 0)], 1, "id should be 1. Got 'x'"),
        ([ROW.format(1, "_", "x")], 1, "head 'x' is not a number"),
        ([ROW.format(1, "_", "-1")], 1, "head '-1' is not a number"),
        ([ROW.format(1, "_", "9" * 5000)], 1, "is not a number"),
        ([ROW.format(1, "Number", 0)], 1, "features 'Number' are not"),
        ([ROW.format("1-2", "_", "_"), ROW.format(1, "_", 0)], 1, "reaches beyond"),
        ([ROW.format("2-3", "_", "_")], 1, "range 2-3 is out of turn"),
        ([ROW.format("1.1", "_", "_")], 1, "id should be 1"),
        ([ROW.format(1, "_", 0), "# sent_id = 2"], 2, "a comment stands within a sentence"),
    ],
)
def test_broken_lines_are_told_with_their_place(
    tmp_path: Path, lines: list[str], where: int, what: str
) -> None:
    content = many(2) + "\n" + "\n".join(lines) + "\n\n" + many(1, "t")
    path = write(tmp_path, "one.conllu", content)
    before = (many(2) + "\n").count("\n")
    with pytest.raises(DatasetError) as error:
        read(path)
    assert what in str(error.value)
    assert error.value.where == f"{path}:{before + where}"


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, "one.conllu", GERMAN.encode() + b"\n# text = \xff\n")
    with pytest.raises(DatasetError, match=r"one\.conllu:12: the line is not UTF-8"):
        read(path)


PUD = ("ar", "de", "en", "es", "fi", "hi", "ru", "tr", "zh")


@pytest.mark.parametrize("name", ["ud_en_ewt/en_ewt-ud-dev", *(f"ud_pud/{x}_pud" for x in PUD)])
def test_real_treebanks_are_aligned_throughout(shared_data: Path, name: str) -> None:
    (path,) = (shared_data / "probing").glob(f"{name}*.gz")
    excluded: Counter[str] = Counter()
    sentences = read(path, excluded)
    assert not excluded and len(sentences) in (1000, 2001)
    for sentence in sentences:
        assert sentence.depths is not None and sentence.depths.count(0) == 1
        for word, part in zip(sentence.words, parts(sentence), strict=True):
            assert part == word.form or word.shared
