"""UDS annotations joined to a treebank: words, splits, what is left out."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from probe.datasets.treebanks import covered, many, write

COUNT = 60


def graph_of(index: int) -> str:
    return f"ewt-{['train', 'train', 'dev', 'test'][index % 4]}-{index}"


def entry(value: object, confidence: object = 1.0) -> dict[str, object]:
    return {"value": value, "confidence": confidence}


def own_annotations(index: int) -> dict[str, Any]:
    graph = graph_of(index)
    node, edge = f"{graph}-semantics-pred-3", f"{graph}-semantics-pred-3%%{graph}-semantics-arg-1"
    return {
        node: {"factuality": {"factual": entry(index / 10)}},
        edge: {"protoroles": {"volition": entry(-index / 10), "manner": entry(1.0, 0.2)}},
    }


def own_data(folder: Path, more: dict[str, Any] | None = None) -> Path:
    ids = {graph_of(i): {"document_id": "d", "sentence_id": f"s{i}"} for i in range(COUNT)}
    data = {graph_of(i): own_annotations(i) for i in range(COUNT)}
    write(folder, "uds/ud_ids.json.gz", json.dumps(ids))
    (folder / "uds").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "uds/all.zip", "w") as archive:
        archive.writestr("all.json", json.dumps({"metadata": {}, "data": {**data, **(more or {})}}))
    return folder / "uds"


def read(folder: Path, treebank: Path, **options: int) -> dict[str, ProbeDataset]:
    found = open_datasets([f"uds:{folder}#{treebank}"], SourceOptions(**options))
    return {dataset.name: dataset for dataset in found}


def test_values_of_nodes_and_edges(tmp_path: Path) -> None:
    tasks = read(own_data(tmp_path), write(tmp_path, "ewt.conllu", many(COUNT)))
    assert set(tasks) == {"uds/factuality/factual", "uds/protoroles/volition"}
    factual, volition = tasks["uds/factuality/factual"], tasks["uds/protoroles/volition"]
    assert (factual.kind, factual.competence, factual.language) == ("regression", "semantics", "en")
    for example in factual.examples:
        index = int(example.id.split("-")[2])
        assert example.label == index / 10 and example.group == f"sd{index - index % 7}"
        assert covered(factual, example.inputs[0][0]) == "see"
    for example in volition.examples:
        words = [covered(volition, spans[0]) for spans in example.inputs]
        assert words[0] in ("Dog", "Dogs") and words[1] == "see"
        assert example.type == " ".join(words).lower()
    (roles,) = factual.splits
    assert Counter(roles) == {"train": 30, "dev": 15, "test": 15}
    for example, role in zip(factual.examples, roles, strict=True):
        assert example.id.split("-")[1] == role


def test_without_a_train_part_there_is_no_split(tmp_path: Path) -> None:
    blocks = many(COUNT).split("\n\n")
    dev = "\n\n".join(blocks[index] for index in range(2, COUNT, 4))
    tasks = read(own_data(tmp_path), write(tmp_path, "ewt.conllu", dev))
    factual = tasks["uds/factuality/factual"]
    assert not factual.splits and len(factual.examples) == COUNT // 4
    assert factual.excluded == {"sentences not in the treebank": COUNT - COUNT // 4}


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    graph = graph_of(0)

    def at(word: str, value: object, confidence: object = 1.0) -> dict[str, Any]:
        item = f"{graph}-semantics-{word}"
        return {item: {"factuality": {"factual": entry(value, confidence)}}}

    broken = {
        **at("pred-99", 1.0), **at("pred-0", 1.0), **at("pred-6", 1.0), **at("subpred-3", 1.0),
        **at("pred-1", float("nan")), **at("pred-2", {"annotator": 1}), **at("pred-4", 1.0, 0.1),
        "nonsense": 3, f"{graph}-semantics-pred-1%%{graph}-semantics-pred-3": {},
    }  # fmt: skip
    folder = own_data(tmp_path, {graph: broken, "event_structure": {"distributive": {}}})
    tasks = read(folder, write(tmp_path, "ewt.conllu", many(COUNT)))
    factual = tasks["uds/factuality/factual"]
    assert factual.excluded == {
        "values not on words": 5,
        "words not in the sentence": 2,
        "words that cannot be annotated": 1,
        "values of little confidence": 1,
        "sentences not in the treebank": 1,
    }
    assert len(factual.examples) == COUNT - 1


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.json", "{", "not JSON"),
        ("x.json", "[" * 100_000, "not JSON"),
        ("x.json", "[]", "not a JSON object"),
        ("x.json", "{}", "no object 'data'"),
        ("x.zip", "nothing", "damaged"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, name: str, content: str, what: str) -> None:
    folder = own_data(tmp_path)
    write(folder, name, content)
    with pytest.raises(DatasetError, match=rf"uds/{name}.*{what}"):
        read(folder, write(tmp_path, "ewt.conllu", many(COUNT)))


def test_arguments_that_lack_something(tmp_path: Path) -> None:
    treebank = write(tmp_path, "ewt.conllu", many(COUNT))
    for argument in ("", "folder", "#x.conllu", "folder#"):
        with pytest.raises(DatasetError, match="UDS folder and the treebank"):
            open_datasets([f"uds:{argument}"])
    write(tmp_path, "other/all.json", "{}")
    with pytest.raises(DatasetError, match="no ud_ids.json"):
        read(tmp_path / "other", treebank)
    with pytest.raises(DatasetError, match="too few annotated sentences"):
        read(own_data(tmp_path), write(tmp_path, "b/ewt.conllu", many(COUNT, "t")))


def test_the_real_annotations(shared_data: Path) -> None:
    probing = shared_data / "probing"
    tasks = read(probing / "uds", probing / "ud_en_ewt/en_ewt-ud-dev.conllu.gz", limit=300)
    assert {"uds/factuality/factual", "uds/genericity/arg-kind", "uds/protoroles/volition"} <= set(
        tasks
    )
    assert all(each.kind == "regression" and not each.splits for each in tasks.values())
    drifted = sum(
        count
        for dataset in tasks.values()
        for reason, count in dataset.excluded.items()
        if reason.startswith("words")
    )
    assert 0 < drifted < sum(len(dataset.examples) for dataset in tasks.values()) / 100
    awareness = tasks["uds/protoroles/awareness"]
    values: dict[bool, list[float]] = {True: [], False: []}
    for example in awareness.examples:
        person = covered(awareness, example.inputs[0][0]).lower() in ("i", "we", "he", "she", "you")
        values[person].append(float(example.label))
    assert min(map(len, values.values())) > 10
    assert sum(values[True]) / len(values[True]) > sum(values[False]) / len(values[False]) + 0.5
