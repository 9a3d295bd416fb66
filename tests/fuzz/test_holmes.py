"""Whatever stands in a Holmes folder, it is data sets that hold together or one clear error."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.examples import fuzz
from miscible.errors import DatasetError, SpecError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from probe.datasets.holmes_data import Task, config, csv_of, table, tasks

TASKS = tasks(8)
TABLES = [table(task, splits=2).encode() for task in TASKS]
TYPES = sorted({task.type for task in TASKS})

numbers = st.one_of(
    st.integers(-2, 12), st.floats(), st.sampled_from([2**63, 10**30, True, None, -0.0, 1e308])
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["He runs.", "runs", "", " ", "\ud800", "\0", "'", '"', "\\", "\n", "é", "[["]),
)
spans = st.tuples(texts, st.integers(-1, 2), st.integers(-1, 9), st.integers(-1, 9))
elements = st.one_of(
    texts, spans, st.tuples(st.just("runs"), st.just(0), st.just(3), st.just(7)),
    st.tuples(spans, st.integers(-1, 2)).map(lambda pair: (*pair[0], pair[1])), numbers,
    st.lists(texts, max_size=3),
)  # fmt: skip
lists = st.one_of(
    st.lists(elements, max_size=4),
    st.lists(texts, min_size=1, max_size=2),
    st.lists(st.just("He runs."), min_size=1, max_size=2),
    st.lists(spans, min_size=1, max_size=3).map(tuple),
)
cells = st.one_of(
    lists.map(repr),
    numbers.map(str),
    texts,
    st.sampled_from(["", "nan", "train", "dev", "test", "[" * 300, "f(1)", "[1", "-" * 300, "0.0"]),
)
roles = st.sampled_from(["train", "train", "test", "dev", "", "nan", "valid", " test"])
labels = st.one_of(st.sampled_from(["0", "1", "1.0", "", "x"]), numbers.map(str))
contexts = st.one_of(
    st.lists(texts, max_size=3).map(repr),
    st.just("['He runs.']"),
    st.just("['He runs.', 'He runs.']"),
    cells,
)
rows = st.tuples(st.integers(0, 20).map(str), lists.map(repr), contexts, labels, roles)

truths = st.sampled_from([
    ("runs", 0, 3, 7), ("He", 0, 0, 2), ("RUNS", 1, 3, 7), (" He  runs ", 0, 0, 7),
    ("runs", 0, 3, 8), ("runs", 0, 3, 99), ("runs", 2, 3, 7), ("", 0, 3, 3), (" ", 0, 2, 3),
])  # fmt: skip
sentences = st.sampled_from(["He runs.", "She sleeps.", "", "\n", "\ud800", "'\"", "é"])


def right_rows(type: str) -> st.SearchStrategy[tuple[str, ...]]:
    """Return rows whose cells have the shape that the type has, whatever they say."""
    parts: st.SearchStrategy[Any] = sentences
    if "TOKENS" in type or "SPANS" in type:
        parts = st.one_of(truths, truths, spans)
    if "SPANS" in type:
        parts = st.tuples(parts, st.integers(-1, 1)).map(lambda pair: (*pair[0], pair[1]))
    wanted = 2 if "PAIR" in type else 1
    many = st.one_of(st.just(wanted), st.integers(0, 3))
    return st.tuples(
        st.integers(0, 99).map(str),
        many.flatmap(lambda n: st.lists(parts, min_size=n, max_size=n)).map(repr),
        st.sampled_from([repr(["He runs."] * n) for n in (2, 2, 2, 1, 0)] + ["nan"]),
        st.sampled_from(["0", "1.0", "", "1e999", "-3.5", "2"]),
        st.sampled_from(["train", "test", "dev", ""]),
    )


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """Return a configuration, mostly changed in some places."""
    keys: dict[str, Any] = copy.deepcopy(config(draw(st.sampled_from(TASKS))))
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([*keys, "x", ""]))
        value: Any = draw(
            st.one_of(
                st.sampled_from([*TYPES, "NONE", "PERMUTATION", 1, 2, 3, 99]), numbers, texts,
                st.lists(numbers, max_size=2), st.dictionaries(texts, numbers, max_size=2),
            )
        )  # fmt: skip
        if draw(st.booleans()):
            keys.pop(key, None)
        else:
            keys[key] = value
    text = yaml.safe_dump(keys, allow_unicode=draw(st.booleans()))
    return _changed(
        draw, text.encode("utf-8", "surrogatepass"), draw(st.sampled_from([0, 0, 0, 2]))
    )


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Return a table: another task's, a changed one, or one of arbitrary cells."""
    kind = draw(st.sampled_from(["bytes", "rows", "rows", "cells"]))
    if kind == "bytes":
        return _changed(draw, draw(st.sampled_from(TABLES)), draw(st.integers(0, 6)))
    header = ["id", "inputs", "context", "label", "set-0"]
    if kind == "cells":
        header = draw(
            st.permutations([*header, draw(st.sampled_from(["set-1", "set-0", "x", ""]))])
        )
        found = draw(st.lists(st.lists(cells, min_size=5, max_size=7), max_size=6))
    else:
        found = [list(row) for row in draw(st.lists(rows, min_size=2, max_size=12))]
    return csv_of([header, *found]).encode("utf-8", "surrogatepass")


def _changed(draw: st.DrawFn, content: bytes, times: int) -> bytes:
    data = bytearray(content)
    for _ in range(times):
        start = draw(st.sampled_from([0, len(data) // 8, len(data) // 2]))
        place = draw(st.integers(start, max(len(data) - 1, start)))
        change = draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if change == "flip" and place < len(data):
            data[place] = draw(
                st.one_of(st.integers(0, 127), st.sampled_from(b"\"'[](),\\-0: \nab0123"))
            )
        elif change == "cut":
            del data[place : place + draw(st.integers(1, 60))]
        elif change == "insert":
            data[place:place] = draw(
                st.one_of(st.text(max_size=5).map(str.encode), st.binary(max_size=9))
            )
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 90))]
    return bytes(data)


def check(
    folder: Path, settings: bytes, content: bytes, limit: int | None = None
) -> ProbeDataset | None:
    """Read a folder; return its data set, None if it is refused as it should be."""
    (folder / "config-none.yaml").write_bytes(settings)
    (folder / "samples.csv").write_bytes(content)
    try:
        datasets = open_datasets([f"holmes:{folder}"], SourceOptions(limit=limit))
    except (DatasetError, SpecError) as error:
        assert folder.name in str(error)
        str(error).encode()  # it can be shown
        assert len(str(error)) < 1000 + len(str(folder))
        return None
    (dataset,) = datasets
    assert dataset.key and len(dataset.examples) <= (limit or len(dataset.examples))
    used = {s.text for e in dataset.examples for part in e.inputs for s in part}
    assert used == set(range(len(dataset.texts)))
    assert all(count > 0 for count in dataset.excluded.values())
    for text in dataset.texts:
        for sentence in (text,) if isinstance(text, str) else text:
            assert sentence.strip() and sentence.encode()
    for each in dataset.examples:
        covered = [
            _sentence(dataset.texts[span.text], span.sentence)[span.start : span.stop]
            for part in each.inputs for span in part if span.stop is not None
        ]  # fmt: skip
        assert all(word.strip() for word in covered) and bool(covered) == bool(each.type)
        assert isinstance(each.label, str) == (dataset.kind == "classification")
    return dataset


def _sentence(text: str | tuple[str, ...], number: int) -> str:
    return text if isinstance(text, str) else text[number]


def yaml_of(task: Task) -> bytes:
    return yaml.safe_dump(config(task)).encode()


@fuzz
@given(configurations(), tables(), st.sampled_from([None, 1, 2, 5]))
@example(yaml_of(TASKS[0]), TABLES[0], None)
@example(yaml_of(TASKS[5]), TABLES[5], 4)
def test_any_folder(tmp_path: Path, settings: bytes, content: bytes, limit: int | None) -> None:
    check(tmp_path, settings, content, limit)


@fuzz
@given(st.integers(0, len(TASKS) - 1), st.data())
def test_a_folder_that_is_almost_right(tmp_path: Path, number: int, data: st.DataObject) -> None:
    content = _changed(data.draw, TABLES[number], data.draw(st.integers(1, 3)))
    check(tmp_path, yaml_of(TASKS[number]), content)


@fuzz
@given(st.sampled_from(TYPES), st.sampled_from([1, 6]), st.data())
def test_rows_of_the_right_shape_are_kept_or_counted(
    tmp_path: Path, type: str, labels: int, data: st.DataObject
) -> None:
    header = ["id", "inputs", "context", "label", "set-0"]
    found = data.draw(st.lists(right_rows(type), min_size=1, max_size=30))
    kept = {task.type: task.rows[0] for task in TASKS}[type]
    found += [(role, repr(kept[0]), repr(kept[1]), "0", role) for role in ("train", "test")]
    settings = yaml_of(Task("x", type, labels, []))
    dataset = check(tmp_path, settings, csv_of([header, *found]).encode())
    if dataset is not None:
        assert len(dataset.examples) + sum(dataset.excluded.values()) == len(found)
