"""Readers of minimal pairs: real corpora, malformed files, fuzz."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miscible import files
from miscible.errors import DatasetError, UnknownNameError
from miscible.probe.contract import ProbeDataset, SourceOptions, open_datasets

GOOD = '{"sentence_good": "A dog runs.", "sentence_bad": "A dog run.", "pairID": "7"}\n'
ZIPPED = gzip.compress(GOOD.encode(), mtime=0)


def read(path: Path, **options: int) -> tuple[ProbeDataset, ...]:
    return open_datasets([f"minimal_pairs:{path}"], SourceOptions(**options))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_blimp(shared_data: Path) -> None:
    datasets = read(shared_data / "probing/blimp/BLiMP.zip", limit=50)
    assert len(datasets) == 67 and sum(dataset.excluded for dataset in datasets) == 7
    held = {dataset.name: dataset for dataset in datasets}["BLiMP/anaphor_gender_agreement"]
    assert (held.phenomenon, held.competence) == ("anaphor_agreement", "morphology")
    assert len(held.pairs) == 50
    assert {d.competence for d in datasets} == {"morphology", "syntax", "semantics"}


def test_zorro(shared_data: Path) -> None:
    datasets = read(shared_data / "probing/zorro", limit=20)
    assert len(datasets) == 23
    whole = read(shared_data / "probing/zorro/irregular-verb.txt.gz")[0]
    assert whole.name == "irregular-verb" and len(whole.pairs) == 2000
    assert whole.pairs[1].good == "Michael had chosen the good one some time ago ."
    assert whole.pairs[1].bad == "Michael had chose the good one some time ago ."


def test_clams(shared_data: Path) -> None:
    datasets = {dataset.name: dataset for dataset in read(shared_data / "probing/clams")}
    assert len(datasets) == 50
    held = datasets["clams/fr/prep_anim"]
    assert held.language == "fr" and held.phenomenon == "subject_verb_agreement"
    assert held.pairs[0].good == "les auteurs devant les gardes sont vieux"
    assert datasets["clams/en/simple_npi_anim"].competence == "semantics"


def test_the_same_pairs_however_they_are_packed(tmp_path: Path) -> None:
    plain = write(tmp_path, "a/one.jsonl", GOOD)
    write(tmp_path, "a/README.txt", "no pairs here")
    write(tmp_path, "a/.hidden.jsonl", "rubbish")
    zipped = write(tmp_path, "b/one.jsonl.gz", gzip.compress(GOOD.encode()))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(plain, "deep/down/one.jsonl")
        opened.writestr("__MACOSX/deep/._one.jsonl", b"\xff")
        opened.writestr("deep/LICENSE.txt", "words")
    found = [read(path)[0] for path in (plain, zipped, archive, tmp_path / "a", tmp_path / "b")]
    assert len({dataset.key for dataset in found}) == 1
    assert [dataset.name for dataset in found] == ["one", "one", "a/one", "a/one", "b/one"]


@pytest.mark.parametrize(
    "keys", [("good_sentence", "bad_sentence"), ("sen", "wrong_sen"), ("good", "bad")]
)
def test_keys_of_kindred_corpora(tmp_path: Path, keys: tuple[str, str]) -> None:
    path = write(tmp_path, "one.jsonl", json.dumps(dict(zip(keys, ("A.", "B."), strict=True))))
    pair = read(path)[0].pairs[0]
    assert (pair.good, pair.bad) == ("A.", "B.")


def test_useless_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [("A.", "B."), ("A.", "A."), ("", "B."), ("A.", "B."), (" C. ", "D.")]
    lines = [json.dumps({"good": good, "bad": bad}) for good, bad in rows]
    dataset = read(write(tmp_path, "one.jsonl", "\n\n".join(lines)))[0]
    assert [(pair.id, pair.good) for pair in dataset.pairs] == [("0", "A."), ("8", "C.")]
    assert dataset.excluded == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", GOOD + "{oops\n", r"x.jsonl:2: the line is not JSON"),
        ("x.jsonl", "[1]\n", r"x.jsonl:1: the line is not a JSON object"),
        ("x.jsonl", '{"a": 1}', r"x.jsonl:1: the object has no pair.*'sentence_good'"),
        ("x.jsonl", '{"good": 1, "bad": "b"}', r"x.jsonl:1: .* must be text"),
        ("x.jsonl", '{"good": "\\ud800", "bad": "b"}', r"x.jsonl:1: .*surrogate"),
        ("x.jsonl", GOOD * 2, r"x.jsonl:2: the id '7' was given before, at .*x.jsonl:1"),
        ("x.jsonl", GOOD.encode() + b"\xff\n", r"x.jsonl:2: the line is not UTF-8"),
        ("x.jsonl", "", r"x.jsonl: there is no usable pair \(0 left out\)"),
        ("x.jsonl", "[" * 100_000, r"x.jsonl:1: the line is not JSON"),
        ("x.jsonl.gz", b"rubbish", r"x.jsonl.gz: the file is damaged"),
        (
            "x.jsonl.gz",
            gzip.compress(GOOD.encode(), mtime=0)[:-9],
            r"x.jsonl.gz: the file is damaged",
        ),
        ("x.zip", b"rubbish", r"x.zip: the archive is damaged"),
        ("x.txt", "a\nb\nc\n", r"x.txt:3: the last line has no partner"),
        ("x.tsv", "True a\n", r"x.tsv:1: the line is not True or False"),
        ("x.tsv", "True\ta\nTrue\tb\n", r"x.tsv:2: two lines in a row are True"),
        ("x.tsv", "True\ta\n", r"x.tsv:1: the last line has no partner"),
        ("x.csv", "a,b\n", r"x.csv: the kind of file is unknown"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(write(tmp_path, name, content))


def test_a_blank_line_between_sentences_shifts_nothing(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "x.txt", "bad a\ngood a\n\ngood b\nbad c\ngood c\n\n\n"))[0]
    assert [pair.good for pair in dataset.pairs] == ["good a", "good c"]
    assert dataset.excluded == 1


@pytest.mark.parametrize("member", ["../x.jsonl", "/x.jsonl", "a/../../x.jsonl"])
def test_archive_members_stay_inside(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        opened.writestr(member, GOOD)
    with pytest.raises(DatasetError, match="leads outside"):
        read(tmp_path / "x.zip")


def test_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 2**20 + 2**19)
    big = gzip.compress(b" " * 2**21, mtime=0)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x.jsonl.gz", big)
    for path in (tmp_path / "x.zip", write(tmp_path, "x.jsonl.gz", big)):
        with pytest.raises(DatasetError, match="larger than 1 MiB"):
            read(path)
    for name in ("a", "b"):
        write(tmp_path, f"many/{name}.jsonl", b" " * (2**20 - 1))
    with pytest.raises(DatasetError, match="exceed 1 MiB together"):
        read(tmp_path / "many")


def test_missing_paths_and_names(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "x", "no such file"), (tmp_path, "no file ends in")):
        with pytest.raises(DatasetError, match=message):
            read(path)
    with pytest.raises(DatasetError, match="needs a path"):
        open_datasets(["minimal_pairs"])
    with pytest.raises(UnknownNameError, match="Did you mean 'minimal_pairs'"):
        open_datasets(["minimal_pair:x"])
    path = write(tmp_path, "one.jsonl", GOOD)
    with pytest.raises(DatasetError, match="one: two data sets have this name"):
        open_datasets([f"minimal_pairs:{path}"] * 2)


def test_the_limit_is_a_seeded_sample(tmp_path: Path) -> None:
    lines = [json.dumps({"good": f"good {i}", "bad": f"bad {i}"}) for i in range(100)]
    path = write(tmp_path, "one.jsonl", "\n".join(lines))
    first, again, other = (read(path, limit=10, seed=seed)[0].pairs for seed in (0, 0, 1))
    assert len(first) == 10 and first == again != other
    assert [int(pair.id) for pair in first] == sorted(int(pair.id) for pair in first)
    with pytest.raises(DatasetError, match="at least 1"):
        read(path, limit=0)


text = st.text(max_size=30) | st.sampled_from(["True\ta", "False\tb", GOOD, '{"good": ', "null"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".jsonl", ".txt", ".tsv", ".zip", ".jsonl.gz"]),
    content=st.binary(max_size=80)
    | st.lists(text, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = write(tmp_path, f"fuzz{suffix}", content)
    try:
        datasets = read(path)
    except DatasetError as error:
        assert "fuzz" in str(error)
    else:
        for dataset in datasets:
            assert all(pair.good and pair.bad and pair.good != pair.bad for pair in dataset.pairs)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                    lambda inner: st.dictionaries(st.sampled_from(["good", "bad", "pairID", "x"]),
                                                  inner, max_size=4)))  # fmt: skip
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_read_or_refused(tmp_path: Path, value: object) -> None:
    path = write(tmp_path, "fuzz.jsonl", json.dumps(value))
    try:
        assert len(read(path)[0].pairs) == 1
    except DatasetError as error:
        assert "fuzz" in str(error)


def test_relative_paths_start_from_the_folder_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "study/pairs/one.jsonl", GOOD)
    options = SourceOptions(relative_to=tmp_path / "study")
    monkeypatch.setenv("HOME", str(tmp_path / "study"))
    for place in ("pairs/one.jsonl", str(path), "~/pairs/one.jsonl"):
        (dataset,) = open_datasets([f"minimal_pairs:{place}"], options)
        assert dataset.name == "one"
    with pytest.raises(DatasetError, match="no such file"):
        open_datasets(["minimal_pairs:pairs/one.jsonl"])
