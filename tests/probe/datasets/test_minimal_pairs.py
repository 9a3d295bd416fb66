"""Readers of minimal pairs: real corpora, the layouts of their kin, malformed files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from miscible import files
from miscible.errors import DatasetError, UnknownNameError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from miscible.probe.datasets.languages import language_of_path, language_tag
from miscible.probe.datasets.taxonomy import place

GOOD = '{"sentence_good": "A dog runs.", "sentence_bad": "A dog run.", "pairID": "7"}\n'
Rows = dict[str, str] | list[dict[str, str]]


def read(path: Path, **options: int) -> tuple[ProbeDataset, ...]:
    return open_datasets([f"minimal_pairs:{path}"], SourceOptions(**options))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_blimp(shared_data: Path) -> None:
    datasets = read(shared_data / "probing/blimp/BLiMP.zip", limit=50)
    assert len(datasets) == 67 and {dataset.language for dataset in datasets} == {"en"}
    assert sum((Counter(each.excluded) for each in datasets), Counter()) == {"identical": 7}
    held = {dataset.name: dataset for dataset in datasets}["BLiMP/anaphor_gender_agreement"]
    assert (held.phenomenon, held.competence) == ("anaphor_agreement", "morphology")
    assert len(held.pairs) == 50
    assert {d.competence for d in datasets} == {"morphology", "syntax", "semantics"}


def test_archives_in_a_folder_are_opened(tmp_path: Path) -> None:
    write(tmp_path, "corpus/one.jsonl", GOOD)
    write(tmp_path, "corpus/LICENSE.txt", "Use it.")
    with zipfile.ZipFile(tmp_path / "corpus/more.zip", "w") as opened:
        opened.writestr("more/two.jsonl", GOOD.replace("dog", "cat"))
    found = {each.name: each.pairs[0].good for each in read(tmp_path / "corpus")}
    assert sorted(found.values()) == ["A cat runs.", "A dog runs."]
    assert set(found) == {"corpus/one", "corpus/more/more/two"}


def test_zorro(shared_data: Path) -> None:
    datasets = read(shared_data / "probing/zorro", limit=20)
    assert len(datasets) == 23 and {dataset.language for dataset in datasets} == {"en"}
    assert not any(dataset.excluded for dataset in datasets)
    whole = read(shared_data / "probing/zorro/irregular-verb.txt.gz")[0]
    assert whole.name == "irregular-verb" and len(whole.pairs) == 2000
    assert whole.pairs[1].good == "Michael had chosen the good one some time ago ."
    assert whole.pairs[1].bad == "Michael had chose the good one some time ago ."


def test_clams(shared_data: Path) -> None:
    datasets = {dataset.name: dataset for dataset in read(shared_data / "probing/clams")}
    assert len(datasets) == 50 and not any(dataset.excluded for dataset in datasets.values())
    assert Counter(each.language for each in datasets.values()) == {
        "en": 22, "de": 7, "fr": 7, "he": 7, "ru": 7,
    }  # fmt: skip
    assert sum(len(dataset.pairs) for dataset in datasets.values()) == 26106
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


def table(rows: Rows, delimiter: str) -> str:
    rows = [rows] if isinstance(rows, dict) else rows
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


SLING = {
    "sentence_good": "他在看书。", "sentence_bad": "他看在书。", "phenomenon": "Aspect",
    "paradigm": "zai", "pair_ID": 4, "field": "syntax",
}  # fmt: skip
JBLIMP = {
    "ID": 3, "good_sentence": "犬が水を飲む。", "bad_sentence": "犬が水に飲む。",
    "type": "acceptability", "phenomenon": "argument structure", "phenomenon-2": None,
    "paradigm": "case",
}  # fmt: skip
BLIMP_NL = {"sentence_good": "De hond slaapt.", "sentence_bad": "De hond slapen."}
TURBLIMP = {
    "good_sentence": "Ben geldim, sen gittin.", "bad_sentence": "Ben geldin, sen gittin.",
    "good_cue": "geldim", "bad_cue": "geldin", "phenomenon": "subject_verb_agreement",
}  # fmt: skip
RUBLIMP = {
    "id": "77", "source_sentence": 'Кот видит "дом".', "target_sentence": 'Кот видят "дом".',
    "level": "Syntax", "phenomenon": "Subject-Predicate Agreement",
    "PID": "noun_subj_predicate_agreement_number",
}  # fmt: skip
MULTIBLIMP = {
    "": "0",
    "sen": "Le chat dort.",
    "wrong_sen": "Le chat dorment.",
    "phenomenon": "SV-#",
}
KIN = [
    ("SLING/Data/Aspect/zai.jsonl", json.dumps(SLING), "zh", "4", ("zai", "Aspect", "syntax")),
    ("SLING_Data_txt/x.txt", "他在看书。@@@他看在书。\n", "zh", "0", ("x",)),
    ("JBLiMP/data/raw/x.jsonl", json.dumps(JBLIMP), "ja", "3", ("x", "argument structure")),
    ("BLiMP-NL/data/binding.jsonl", json.dumps(BLIMP_NL), "nl", "0", ("binding",)),
    ("BLiMP-NL/x.csv", table(BLIMP_NL, ","), "nl", "0", ("x",)),
    ("TurBLiMP/x.csv", table(TURBLIMP, ","), "tr", "0", ("x", TURBLIMP["phenomenon"])),
    ("TurBLiMP/x.csv", table(TURBLIMP, ";"), "tr", "0", ("x", TURBLIMP["phenomenon"])),
    (
        "RuBLiMP-main/x.csv",
        table(RUBLIMP, ","),
        "ru",
        "77",
        (RUBLIMP["PID"], RUBLIMP["phenomenon"], RUBLIMP["level"]),
    ),
    ("multiblimp/fra/data.tsv", table(MULTIBLIMP, "\t"), "fr", "0", ("data", "SV-#")),
]
"""Layouts as the corpora have them, sentences of our own: path, content, language, id, and what
tells the place in the taxonomy."""


@pytest.mark.parametrize(("name", "content", "language", "identity", "told"), KIN)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zip", "folder"])
def test_kindred_corpora(
    tmp_path: Path,
    packing: str,
    name: str,
    content: str,
    language: str,
    identity: str,
    told: tuple[str, ...],
) -> None:
    path = write(tmp_path, name, content)
    if packing == "gzip":
        path = write(tmp_path, f"{name}.gz", gzip.compress(content.encode()))
    elif packing == "folder":
        path = tmp_path / Path(name).parts[0]
    elif packing == "zip":
        with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as opened:
            opened.write(path, name)
        path = tmp_path / "corpus.zip"
    (dataset,) = read(path)
    (pair,) = dataset.pairs
    assert (dataset.language, pair.id) == (language, identity)
    assert (dataset.phenomenon, dataset.competence) == place(*told)
    known = (SLING, JBLIMP, BLIMP_NL, TURBLIMP, RUBLIMP, MULTIBLIMP)
    texts = [[value for value in row.values() if value in (pair.good, pair.bad)] for row in known]
    assert [pair.good, pair.bad] in texts


def test_a_file_of_several_phenomena_and_languages(tmp_path: Path) -> None:
    rows = [
        {"sen": f"good {i}", "wrong_sen": f"bad {i}", "phenomenon": term, "lang": tag, "id": "a"}
        for i, (term, tag) in enumerate(
            [("SV-#", "eng"), ("SV-P", "eng"), ("SV-#", "German"), ("SV-#", "?"), ("", "en-GB")]
        )
    ]  # fmt: skip
    rows.append({**rows[0], "wrong_sen": rows[0]["sen"], "phenomenon": "lost", "id": "b"})
    found = read(write(tmp_path, "data.tsv", table(rows, "\t")))
    assert [(each.name, each.language, len(each.pairs)) for each in found] == [
        ("data/en/sv-#", "en", 1), ("data/en/sv-p", "en", 1), ("data/de/sv-#", "de", 1),
        ("data/und/sv-#", "und", 1), ("data/en-GB/other", "en-GB", 1),
    ]  # fmt: skip
    assert [dict(each.excluded) for each in found] == [{"identical": 1}, {}, {}, {}, {}]


@pytest.mark.parametrize(
    ("word", "tag"),
    [("eng", "en"), ("EN", "en"), ("Russian", "ru"), ("zh_Hant", "zh-Hant"), ("abk", "ab"),
     ("myv", "myv"), ("pt-BR", "pt-BR"), ("hbs", "hbs"), ("Klingon", ""), ("", ""), ("en-$", "en"),
     ("Serbo-Croatian", "hbs")],
)  # fmt: skip
def test_words_for_languages(word: str, tag: str) -> None:
    assert language_tag(word) == tag


def test_folders_tell_the_language_and_what_holds_them_does_not() -> None:
    assert language_of_path(("clams", "fr")) == "fr"
    assert language_of_path(("raw", "dev", "test")) == "und"
    assert language_of_path(("multiblimp", "x")) == "und"
    assert language_of_path(("x",), outside=("fr", "TurBLiMP-main")) == "tr"
    assert language_of_path(("x",), outside=("home", "de")) == "und"


def test_useless_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [("A.", "B."), ("A.", "A."), ("", "B."), ("A.", "B."), (" C. ", "D.")]
    lines = [json.dumps({"good": good, "bad": bad}) for good, bad in rows]
    dataset = read(write(tmp_path, "one.jsonl", "\n\n".join(lines)))[0]
    assert [(pair.id, pair.good) for pair in dataset.pairs] == [("0", "A."), ("8", "C.")]
    assert dataset.excluded == {"empty": 1, "identical": 1, "repeated": 1}


def test_a_pair_given_twice_with_its_id_is_repeated(tmp_path: Path) -> None:
    assert read(write(tmp_path, "x.jsonl", GOOD * 2))[0].excluded == {"repeated": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", GOOD + "{oops\n", r"x.jsonl:2: the line is not JSON"),
        ("x.jsonl", "[1]\n", r"x.jsonl:1: the line is not a JSON object"),
        ("x.jsonl", '{"a": 1}', r"x.jsonl:1: the object has no pair.*'sentence_good'"),
        ("x.jsonl", '{"good": 1, "bad": "b"}', r"x.jsonl:1: .* must be text"),
        ("x.jsonl", '{"good": "\\ud800", "bad": "b"}', r"x.jsonl:1: .*surrogate"),
        ("x.jsonl", GOOD + GOOD.replace("A", "1"), r"x.jsonl:2: the id '7' was given .*x.jsonl:1"),
        ("x.jsonl", GOOD.encode() + b"\xff\n", r"x.jsonl:2: the line is not UTF-8"),
        ("x.jsonl", "", r"x.jsonl: there is no usable pair \(none at all\)"),
        ("x.jsonl", "[" * 100_000, r"x.jsonl:1: the line is not JSON"),
        ("x.jsonl.gz", b"rubbish", r"x.jsonl.gz: the file is damaged"),
        (
            "x.jsonl.gz",
            gzip.compress(GOOD.encode(), mtime=0)[:-9],
            r"x.jsonl.gz: the file is damaged",
        ),
        ("x.zip", b"rubbish", r"x.zip: the archive is damaged"),
        ("x.txt", "a\nb\nc\n", r"x.txt:3: the last line has no partner"),
        ("x.jsonl", '{"good": "a", "bad": "a"}', r"x.jsonl: .* no usable pair \(1 identical\)"),
        ("x.tsv", "True a\n", r"x.tsv:1: the header has no pair of columns.*'sen' and"),
        ("x.tsv", "True\ta\nFalse b\n", r"x.tsv:2: the line is not True or False"),
        ("x.tsv", "True\ta\nTrue\tb\n", r"x.tsv:2: two lines in a row are True"),
        ("x.tsv", "True\ta\n", r"x.tsv:1: the last line has no partner"),
        ("x.parquet", "PAR1", r"x.parquet: the kind of file is unknown"),
        ("x.csv", "", r"x.csv:1: the header has no pair of columns"),
        ("x.csv", "good,b\na,b\n", r"x.csv:1: the header has no pair of columns"),
        ("x.csv", "good,bad\n", r"x.csv: there is no usable pair \(none at all\)"),
        ("x.csv", "good,bad\na,b\nc\n", r"x.csv:3: the row has 1 cells, the header 2"),
        ("x.csv", "good,bad\n\na,b,c\n", r"x.csv:3: the row has 3 cells, the header 2"),
        ("x.csv", 'good,bad\n"a\nb",c\n"d"e,f\n', r"x.csv:4: the row that starts here is broken"),
        ("x.csv", 'good,bad\na,b\n"c,d\ne,f\n', r"x.csv:3: the row that starts here is broken"),
        ("x.csv", "good,bad,good\na,b,c\n", r"x.csv:1: the column 'good' occurs 2 times"),
        ("x.csv", b"good,bad\na,b\n\xff,c\n", r"x.csv:3: the line is not UTF-8"),
        ("x.csv", "good,bad,id\na,b,1\nc,d,1\n", r"x.csv:3: the id '1' was given before, at .*:2"),
        ("x.csv", f"good,bad\na,{'b' * 2**18}\n", r"x.csv:2: .*field larger"),
        ("x.txt", "a@@@b\na\n", r"x.txt:2: the line is not two sentences"),
        ("x.txt", "a@@@b@@@c\n", r"x.txt:1: the line is not two sentences"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(write(tmp_path, name, content))


def test_a_blank_line_between_sentences_shifts_nothing(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "x.txt", "bad a\ngood a\n\ngood b\nbad c\ngood c\n\n\n"))[0]
    assert [pair.good for pair in dataset.pairs] == ["good a", "good c"]
    assert dataset.excluded == {"empty": 1}


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


def test_relative_paths_start_from_the_folder_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "study/pairs/one.jsonl", GOOD)
    options = SourceOptions(relative_to=tmp_path / "study")
    monkeypatch.setenv("HOME", str(tmp_path / "study"))
    for written in ("pairs/one.jsonl", str(path), "~/pairs/one.jsonl"):
        (dataset,) = open_datasets([f"minimal_pairs:{written}"], options)
        assert dataset.name == "one"
    with pytest.raises(DatasetError, match="no such file"):
        open_datasets(["minimal_pairs:pairs/one.jsonl"])
