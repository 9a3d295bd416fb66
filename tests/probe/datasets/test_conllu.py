"""Tasks from treebanks: labels and spans, draws, splits, selection."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from probe.datasets.treebanks import GERMAN, covered, many, write


def read(argument: object, **options: int) -> dict[str, ProbeDataset]:
    found = open_datasets([f"conllu:{argument}"], SourceOptions(**options))
    return {dataset.name.partition("/")[2]: dataset for dataset in found}


def test_labels_of_all_tasks(tmp_path: Path) -> None:
    tasks = read(write(tmp_path, "en_own-ud-dev.conllu", many(40)))
    assert set(tasks) == {"upos", "feature/Number", "deprel", "depth", "distance"}
    upos = tasks["upos"]
    assert (upos.name, upos.language) == ("en_own-ud-dev/upos", "en")
    assert upos.competence == "morphology" and tasks["deprel"].competence == "syntax"
    classes = {
        "dogs": "NOUN",
        "dog": "NOUN",
        "see": "VERB",
        "a": "DET",
        "cat": "NOUN",
        ".": "PUNCT",
    }
    for example in upos.examples:
        ((span,),) = example.inputs
        assert covered(upos, span).lower() == example.type
        assert example.label == classes.get(example.type, "NUM")
    number = tasks["feature/Number"]
    assert {(e.type, e.label) for e in number.examples} == {
        ("dogs", "Plur"), ("dog", "Sing"), ("cat", "Sing"),
    }  # fmt: skip
    relations = {
        tuple(covered(tasks["deprel"], part[0]).lower().rstrip("s0123456789") or "NUM"
              for part in example.inputs): example.label
        for example in tasks["deprel"].examples
    }  # fmt: skip
    assert relations == {
        ("dog", "see"): "nsubj", ("NUM", "dog"): "nummod", ("a", "cat"): "det",
        ("cat", "see"): "obj",
    }  # fmt: skip
    depth = {example.type: example.label for example in tasks["depth"].examples}
    assert [depth[form] for form in ("see", "dog", "cat", "a", "s3")] == [0, 1, 1, 2, 2]
    assert not any(example.type == "." for example in tasks["depth"].examples)
    distances = {
        frozenset(("see", "a")): 2, frozenset(("see", "cat")): 1, frozenset(("a", "cat")): 1,
        frozenset(("dogs", "cat")): 2, frozenset(("dog", "a")): 3,
    }  # fmt: skip
    seen = Counter(frozenset(e.type.split()) for e in tasks["distance"].examples)
    for example in tasks["distance"].examples:
        pair = frozenset(example.type.split())
        assert example.label == distances.get(pair, example.label)
    assert all(seen[pair] for pair in distances)


def test_examples_of_a_document_share_a_group(tmp_path: Path) -> None:
    upos = read(write(tmp_path, "one.conllu", many(40)))["upos"]
    assert {example.group for example in upos.examples} == {f"sd{i}" for i in range(0, 40, 7)}
    assert upos.language == "und"
    for example in upos.examples:
        index = int(example.id.partition("-")[0][1:])
        assert example.group == f"sd{index - index % 7}"


def test_frequent_classes_are_cut_and_rare_ones_left_out(tmp_path: Path) -> None:
    content = many(300).replace("s7\t_\tNUM", "s7\t_\tSYM")
    upos = read(write(tmp_path, "one.conllu", content), limit=103)["upos"]
    assert Counter(example.label for example in upos.examples) == dict.fromkeys(
        ("DET", "NOUN", "NUM", "PUNCT", "VERB"), 20
    )
    everything = read(write(tmp_path, "two.conllu", content), limit=100_000)["upos"]
    assert everything.excluded == {"rare classes": 1}
    counts = Counter(example.label for example in everything.examples)
    assert counts == {"NOUN": 600, "VERB": 300, "DET": 300, "PUNCT": 300, "NUM": 299}


def test_draws_follow_the_seed_and_nest(tmp_path: Path) -> None:
    path = write(tmp_path, "one.conllu", many(300))
    first, again = read(path, limit=150), read(path, limit=150)
    other, larger = read(path, limit=150, seed=1), read(path, limit=300)
    for name, dataset in first.items():
        ids = {example.id for example in dataset.examples}
        assert dataset.key == again[name].key != other[name].key
        assert len(ids) <= 150
        if name != "distance":
            assert ids <= {example.id for example in larger[name].examples}
    texts = {text for dataset in first.values() for text in dataset.texts}
    assert len(texts) == 100  # all tasks draw from the same sentences


def test_words_that_share_characters_are_in_no_task(tmp_path: Path) -> None:
    blocks = [
        GERMAN.replace("reise", f"d{i}").replace("r1", f"r{i}").replace("Wir", f"W{i}")
        for i in range(20)
    ]
    upos = read(write(tmp_path, "de_own.conllu", "\n".join(blocks)))["upos"]
    assert upos.language == "de" and upos.classes == ("NOUN", "PRON", "PUNCT", "VERB")
    assert upos.excluded == {"words that share characters": 40}


def test_repeated_sentences_are_used_once(tmp_path: Path) -> None:
    content = many(30) + "\n" + many(30).replace("sent_id = s", "sent_id = again")
    upos = read(write(tmp_path, "one.conllu", content))["upos"]
    assert upos.excluded["sentences repeated"] == 30 and len(upos.texts) == 30


def test_sentences_without_a_tree_keep_their_words(tmp_path: Path) -> None:
    path = write(tmp_path, "one.conllu", many(40).replace("\t3\tnsubj", "\t_\t_"))
    assert set(read(path)) == {"upos", "feature/Number"}


def test_a_given_split_is_used(tmp_path: Path) -> None:
    for part, prefix in (("train", "s"), ("dev", "t"), ("test", "u")):
        write(tmp_path, f"bank/en_own-ud-{part}.conllu", many(150, prefix))
    write(tmp_path, "bank/fr_own-ud-test.conllu", many(40, "v"))
    found = open_datasets([f"conllu:{tmp_path / 'bank'}#upos"], SourceOptions(limit=300))
    english, french = found
    assert (english.name, french.name) == ("en_own/upos", "fr_own-ud-test/upos")
    assert not french.splits
    prefixes = {"train": "s", "dev": "t", "test": "u"}
    (roles,) = english.splits
    assert Counter(roles) == {"train": 180, "dev": 30, "test": 90}
    for example, role in zip(english.examples, roles, strict=True):
        assert example.id.startswith(f"{role}/{prefixes[role]}")


def test_archives_and_gzip_hold_the_same_tasks(tmp_path: Path) -> None:
    plain = read(write(tmp_path, "one.conllu", many(40)))
    zipped = read(write(tmp_path, "gz/one.conllu.gz", many(40)))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("deep/one.conllu", many(40))
    for name, dataset in plain.items():
        assert dataset.key == zipped[name].key == read(archive)[name].key


def test_tasks_can_be_selected(tmp_path: Path) -> None:
    path = write(tmp_path, "o#e.conllu", many(40))
    assert list(read(f"{path}#deprel, upos")) == ["upos", "deprel"]
    assert (
        list(read(f"{path}#feature")) == ["feature/Number"] == list(read(f"{path}#feature/Number"))
    )
    assert len(read(f"{path}#")) == 5
    with pytest.raises(DatasetError, match="no task 'upso'.*Did you mean 'upos'"):
        read(f"{path}#upso")
    with pytest.raises(DatasetError, match="too few examples for feature/Gender"):
        read(f"{path}#upos,feature/Gender")


@pytest.mark.parametrize(
    ("argument", "what"),
    [
        ("", "needs a path"),
        ("#upos", "needs a path"),
        ("nowhere", "no such file or folder"),
        ("one.txt", "does not end in .conllu"),
        ("empty.conllu", "too few examples for any task"),
        ("small.conllu", "too few examples for any task"),
        (".", "no file ends in .conllu"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, argument: str, what: str) -> None:
    write(tmp_path, "a/one.txt", many(40))
    write(tmp_path, "b/empty.conllu", "")
    write(tmp_path, "c/small.conllu", GERMAN)
    places = {"one.txt": "a", "empty.conllu": "b", "small.conllu": "c", ".": "a"}
    options = SourceOptions(relative_to=tmp_path / places.get(argument, "a"))
    with pytest.raises(DatasetError, match=what):
        open_datasets([f"conllu:{argument}"], options)


def test_a_real_treebank(shared_data: Path) -> None:
    path = shared_data / "probing/ud_en_ewt/en_ewt-ud-dev.conllu.gz"
    tasks = read(path)
    assert {"upos", "deprel", "depth", "tree_depth", "distance", "feature/Tense"} <= set(tasks)
    assert len({text for dataset in tasks.values() for text in dataset.texts}) == 500
    for dataset in tasks.values():
        assert dataset.language == "en" and 50 <= len(dataset.examples) <= 1000
        if dataset.name.endswith(("upos", "Number")):
            for example in dataset.examples:
                assert covered(dataset, example.inputs[0][0]).lower() == example.type
    assert len({example.group for example in tasks["upos"].examples}) > 100


def test_parallel_treebanks_are_probed_on_the_same_sentences(shared_data: Path) -> None:
    folder = shared_data / "probing/ud_pud"
    german, turkish = (
        read(f"{folder / code}_pud-ud-test.conllu.gz#tree_depth")["tree_depth"]
        for code in ("de", "tr")
    )
    assert {e.id for e in german.examples} == {e.id for e in turkish.examples}
    assert (german.language, turkish.language) == ("de", "tr")
