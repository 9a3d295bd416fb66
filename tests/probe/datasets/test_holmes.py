"""The reader of Holmes folders: every type, every defect, names, splits and samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import DatasetError, MiscibleError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset, Span
from miscible.probe.datasets import holmes_table
from probe.datasets.holmes_data import (
    SENTENCES,
    Task,
    csv_of,
    tasks,
    word,
    write_holmes,
    write_task,
)

HEADER = ["id", "inputs", "context", "label", "set-0"]
GOOD = "He runs."
PAIR = ("He runs.", "She sleeps.")
TOKEN = repr([("runs", 0, 3, 7)])
CONTEXT = repr([GOOD])


def read(path: Path, **options: int) -> list[ProbeDataset]:
    return list(open_datasets([f"holmes:{path}"], SourceOptions(**options)))


def folder_of(
    tmp_path: Path,
    type: str,
    rows: Sequence[Sequence[Any]],
    labels: int = 2,
) -> Path:
    """Write a data set of these rows, then one row to train and one to test on."""
    folder = write_task(tmp_path, Task("task", type, labels, []))
    inputs, context = repr(["Fine.", "Fine."][: 2 if "PAIR" in type else 1]), ""
    if "TOKENS" in type or "SPANS" in type:
        tail = ", 0)" if "SPANS" in type else ")"
        inputs, context = f"[('Fine', 0, 0, 4{tail}]", repr(["Fine.", "Fine."])
    kept = [[f"{role}!", inputs, context, 0, role] for role in ("train", "test")]
    (folder / "samples.csv").write_text(csv_of([HEADER, *rows, *kept]), encoding="utf-8")
    return folder


def seen(dataset: ProbeDataset, index: int) -> list[list[Any]]:
    """Return what each span of an example covers, by part: (text, covered)."""

    def covered(span: Span) -> tuple[Any, str | None]:
        text = dataset.texts[span.text]
        sentence = text if isinstance(text, str) else text[span.sentence]
        return text, None if span.stop is None else sentence[span.start : span.stop]

    return [[covered(span) for span in part] for part in dataset.examples[index].inputs]


def test_every_type_as_the_reference_defines_it(tmp_path: Path) -> None:
    datasets = {dataset.name: dataset for dataset in read(write_holmes(tmp_path / "holmes"))}
    assert list(datasets) == sorted(f"holmes/{task.name}" for task in tasks())
    by_name = {task.name: task for task in tasks()}
    one, two = SENTENCES[7], SENTENCES[-30 + 7]
    expected: dict[str, tuple[list[list[Any]], str]] = {
        "senteval-past_present": ([[(one, None)]], ""),
        "const_max_depth": ([[(one, None)]], ""),
        "next-sentence-prediction": ([[(one, None)], [(two, None)]], ""),
        "synonym-antonym-hard": ([[((one, two), None)]], ""),
        "dep": ([[(one, "buys")], [(one, "Mary")]], "buys | Mary"),
        "coref": ([[(one, "Mary"), (one, "buys")], [(one, "a")]], "Mary buys | a"),
        "drt-arg-rel": ([[(one, "buys")], [(two, "Łukasz")]], "buys | Łukasz"),
        "rst-edu-relation": (
            [[((one, two), "buys")], [((one, two), "Łukasz")]], "buys | Łukasz",
        ),
    }  # fmt: skip
    for name, (parts, surface) in expected.items():
        dataset = datasets[f"holmes/{name}"]
        assert seen(dataset, 7) == parts, name
        example = dataset.examples[7]
        label = by_name[name].rows[7][2]
        assert (example.id, example.type, example.group) == ("107", surface, "")
        assert example.label == (label if dataset.kind == "regression" else str(label))
        assert dataset.splits[0][:5] == ("train", "train", "test", "train", "dev")
        assert (len(dataset.examples), dataset.excluded, dataset.language) == (30, {}, "en")
        assert dataset.pairs == ()
    assert {n for n, d in datasets.items() if d.kind == "regression"} == {"holmes/const_max_depth"}
    placed = {name.split("/")[1]: (d.phenomenon, d.competence) for name, d in datasets.items()}
    assert placed["senteval-past_present"] == ("tense", "semantics")
    assert placed["const_max_depth"] == ("constituent_parsing", "syntax")
    assert placed["rst-edu-relation"] == ("rhetorical_structure", "discourse")


def test_a_text_is_held_once(tmp_path: Path) -> None:
    rows = [[n, repr([word(GOOD, n % 2)]), CONTEXT, n % 2, "train"] for n in range(6)]
    dataset = read(folder_of(tmp_path, "SENTENCE_TOKENS", rows))[0]
    assert dataset.texts == (GOOD, "Fine.")


@pytest.mark.parametrize(
    ("type", "inputs", "context", "label", "reason"),
    [
        ("SENTENCE", "['  ']", "", 0, "empty text"),
        ("SENTENCE", "['a', 'b']", "", 0, "another number of inputs"),
        ("SENTENCE", "[]", "", 0, "another number of inputs"),
        ("SENTENCE", r"['\ud800']", "", 0, "text with a lone surrogate"),
        ("SENTENCE", "['a']", "", "", "no label"),
        ("SENTENCE", "['a']", "", "NaN", "no label"),
        ("SENTENCE_PAIR_BI", "['a']", "", 0, "another number of inputs"),
        ("SENTENCE_PAIR_CROSS", "['a', ' ']", "", 0, "empty text"),
        ("SENTENCE_TOKENS", "[('runs', 0, 3, 9)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[('runs', 0, -5, 7)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[('runs', 0, 7, 3)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[('', 0, 3, 3)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[('runs', 1, 3, 7)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[('runs', -1, 3, 7)]", CONTEXT, 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", TOKEN, "", 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", TOKEN, "nan", 0, "offsets outside of the context"),
        ("SENTENCE_TOKENS", "[(' ', 0, 2, 3)]", CONTEXT, 0, "offsets of white space"),
        ("SENTENCE_TOKENS", "[('run', 0, 3, 7)]", CONTEXT, 0, "offsets of another surface form"),
        ("SENTENCE_TOKENS", TOKEN, "['  ']", 0, "empty text"),
        ("SENTENCE_TOKENS", f"{TOKEN[:-1]}, {TOKEN[1:]}", CONTEXT, 0, "another number of inputs"),
        ("SENTENCE_PAIR_TOKENS_CROSS", TOKEN, CONTEXT, 0, "another number of contexts"),
        ("SENTENCE_PAIR_TOKENS_CROSS", TOKEN, f"['{GOOD}', '']", 0, "empty text"),
        ("SENTENCE_SPANS", "[('runs', 0, 3, 7, 0), ('He', 0, 0, 2, 1)]", CONTEXT, 0,
         "another number of inputs"),
    ],
)  # fmt: skip
def test_a_defective_row_is_left_out_and_counted(
    tmp_path: Path, type: str, inputs: str, context: str, label: Any, reason: str
) -> None:
    dataset = read(folder_of(tmp_path, type, [[1, inputs, context, label, "train"]]))[0]
    assert dataset.excluded == {reason: 1}
    assert [example.id for example in dataset.examples] == ["train!", "test!"]


def test_an_id_counts_once_and_must_be_there(tmp_path: Path) -> None:
    rows = [[n, f"['{text}']", "", 0, "train"] for n, text in ((1, "a"), (1, "b"), ("", "c"))]
    dataset = read(folder_of(tmp_path, "SENTENCE", rows))[0]
    assert dataset.texts == ("a", "Fine.")
    assert dataset.excluded == {"an id that occurred before": 1, "no id": 1}


def test_infinite_values_are_left_out(tmp_path: Path) -> None:
    rows = [[n, f"['{n}']", "", value, "train"] for n, value in enumerate(["inf", "nan", "-2.5"])]
    dataset = read(folder_of(tmp_path, "SENTENCE", rows, labels=1))[0]
    assert dataset.excluded == {"an infinite label": 1, "no label": 1}
    assert [example.label for example in dataset.examples] == [-2.5, 0.0, 0.0]


def test_surface_forms_may_differ_in_case_and_white_space(tmp_path: Path) -> None:
    rows = [[1, "[('HE  runs', 0, 0, 7)]", CONTEXT, 0, "train"]]
    dataset = read(folder_of(tmp_path, "SENTENCE_TOKENS", rows))[0]
    assert dataset.excluded == {} and dataset.examples[0].type == "He runs"


def test_whole_numbers_lose_their_point(tmp_path: Path) -> None:
    labels = ["1", "1.0", "01", "-2.", "0.5", "NOUN", "9" * 5000]
    rows = [[n, f"['{n}']", "", label, "train"] for n, label in enumerate(labels)]
    dataset = read(folder_of(tmp_path, "SENTENCE", rows, labels=9))[0]
    found = [example.label for example in dataset.examples]
    assert found[:6] == ["1", "1", "1", "-2", "0.5", "NOUN"] and dataset.kind == "classification"


def test_a_label_in_the_test_part_alone_is_kept(tmp_path: Path) -> None:
    rows = [[1, "['a']", "", 1, "test"]]
    assert read(folder_of(tmp_path, "SENTENCE", rows))[0].classes == ("0", "1")


def test_every_split_is_read(tmp_path: Path) -> None:
    folder = write_task(tmp_path, Task("task", "SENTENCE", 2, []))
    text = csv_of([
        ["set-10", *HEADER, "set-2", "set-3"],
        ["test", 1, "['a']", "", 0, "", "dev", ""],
        ["train", 2, "['b']", "", 0, "train", "train", "NaN"],
        ["test", 3, "['c']", "", 1, " test ", "test", ""],
    ])  # fmt: skip
    (folder / "samples.csv").write_text(text, encoding="utf-8")
    assert read(folder)[0].splits == (
        ("", "train", "test"), ("dev", "train", "test"), ("test", "train", "test"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "samples.csv: the file is empty"),
        (b"id,inputs,context,label\n", "1: there is no column 'set-0'"),
        (b"inputs,context,label,set-0\n", "1: there is no column 'id'"),
        (b"id,id,inputs,context,label,set-0\n", "1: the column 'id' stands twice"),
        (b"id,inputs,context,label,set-0,set-00\n", "1: the column 'set-0' stands twice"),
        (b"id,inputs,context,label,set-0\n", r"no usable row \(it has none\)"),
        (b"id,inputs,context,label,set-0\n1,['a'],,0\n", "2: the row has 4 fields, the header 5"),
        (b"id,inputs,context,label,set-0\n\n1,['a'],,0,valid\n", "3: 'set-0' must be .*'valid'"),
        (b"id,inputs,context,label,set-0\n1,['\xff'],,0,train\n", "2: the line is not UTF-8"),
        (b'id,inputs,context,label,set-0\n1,"[""a""]"x,,0,train\n', "2: the row is not CSV"),
        (b'id,inputs,context,label,set-0\n1,"[\n\n', "2: the row is not CSV"),
        (b"id,inputs,context,label,set-0\n1,f(),,0,train\n", "2: 'inputs' is not a Python literal"),
        (b'id,inputs,context,label,set-0\n1,"\'a\'",,0,train\n', "2: 'inputs' is not a list"),
        (b"id,inputs,context,label,set-0\n1,[1],,0,train\n", "2: an element of 'inputs' is not t"),
        (b"id,inputs,context,label,set-0\n1,['a'],,0,train\n2,['b'],,1,train\n3,['c'],,2,test\n",
         "samples.csv: there are 3 classes, but num_labels is 2"),
        (b"id,inputs,context,label,set-0\n1,['a'],,0,train\n", "nothing to train or nothing to t"),
        (b"id,inputs,context,label,set-0\n1,['a'],,,train\n", r"no usable row \(1 .*: no label\)"),
        (b"id,inputs,context,label,set-0\n1," + b"x" * 200_000, "2: the row is not CSV: field lar"),
    ],
)  # fmt: skip
def test_malformed_tables(tmp_path: Path, content: bytes, message: str) -> None:
    folder = write_task(tmp_path, Task("task", "SENTENCE", 2, []))
    (folder / "samples.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read(folder)


@pytest.mark.parametrize(
    ("type", "inputs", "message"),
    [
        ("SENTENCE_TOKENS", "['runs']", r"is not \(surface form, context, start, stop\)"),
        ("SENTENCE_TOKENS", "[('runs', 0, 3)]", r"is not \(surface form, context, start, stop\)"),
        ("SENTENCE_TOKENS", "[('runs', 0, 3, 7, 0)]", "is not .surface form"),
        ("SENTENCE_TOKENS", "[('runs', 0, 3, '7')]", "is not .surface form"),
        ("SENTENCE_TOKENS", "[(1, 0, 3, 7)]", "is not .surface form"),
        ("SENTENCE_SPANS", TOKEN, r"stop, group\)"),
        ("SENTENCE_TOKENS", "[('runs', 0, 3, True)]", "is not a Python literal of"),
    ],
)
def test_elements_of_another_shape(tmp_path: Path, type: str, inputs: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"samples.csv:2: .*{message}"):
        read(folder_of(tmp_path, type, [[1, inputs, CONTEXT, 0, "train"]]))
    with pytest.raises(DatasetError, match=r"samples.csv:2: an element of 'context' is not text"):
        read(folder_of(tmp_path, type, [[1, "[]", "[1]", 0, "train"]]))


def test_a_regression_wants_numbers(tmp_path: Path) -> None:
    rows = [[1, "['a\nb']", "", 0.5, "train"], [2, "['a']", "", "high", "train"]]
    with pytest.raises(DatasetError, match=r"samples.csv:2: 'inputs' is not a Python literal"):
        read(folder_of(tmp_path, "SENTENCE", rows, labels=1))
    rows[0][1] = "['a',\n'b']"  # a cell may have lines, and is counted by its first
    with pytest.raises(DatasetError, match=r"samples.csv:4: .*number\. Got 'high' instead"):
        read(folder_of(tmp_path, "SENTENCE", rows, labels=1))


def test_the_limit_keeps_the_proportions(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "v", Task("t", "SENTENCE", 2, tasks(100)[0].rows))
    whole = read(folder)[0]
    drawn = [read(folder, limit=20, seed=seed)[0] for seed in (0, 0, 1)]
    assert drawn[0].key == drawn[1].key != drawn[2].key
    for dataset in drawn:
        assert Counter(dataset.splits[0]) == {"train": 12, "dev": 4, "test": 4}
        places = [int(example.id) for example in dataset.examples]
        assert places == sorted(places) and len(dataset.texts) == 20
        kept = {example.id: example.label for example in whole.examples}
        assert all(kept[example.id] == example.label for example in dataset.examples)
    assert Counter(read(folder, limit=3)[0].splits[0]) == {"train": 1, "dev": 1, "test": 1}
    with pytest.raises(DatasetError, match="with 1 rows a split has nothing to train .*Raise"):
        read(folder, limit=1)
    assert read(folder, limit=100)[0].key == whole.key


def test_the_limit_keeps_the_proportions_of_every_split(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "v", Task("t", "SENTENCE", 2, tasks(100)[0].rows), splits=5)
    dataset = read(folder, limit=50)[0]
    assert [Counter(split) for split in dataset.splits] == [
        {"train": 30, "dev": 10, "test": 10}
    ] * 5


def test_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holmes_table, "MAX_ROWS", 29)
    with pytest.raises(DatasetError, match=r"samples.csv:31: there are more than 29 rows"):
        read(write_task(tmp_path, tasks()[0]))


def test_errors_can_be_shown(tmp_path: Path) -> None:
    rows = [[1, "['a']", "", 0, "é" * 1000]]
    with pytest.raises(MiscibleError) as caught:
        read(folder_of(tmp_path, "SENTENCE", rows))
    assert len(str(caught.value)) < 400
