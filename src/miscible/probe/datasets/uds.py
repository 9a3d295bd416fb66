"""Semantics on a scale: UDS proto-roles, factuality, genericity on the English Web Treebank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import ProbeDataset, Role
from miscible.probe.datasets.drawing import (
    DEFAULT_EXAMPLES,
    SHARES,
    Candidate,
    Task,
    draw,
    first_ranked,
    rank,
)
from miscible.probe.datasets.treebank import Sentence
from miscible.probe.datasets.treebank_files import EXAMPLES_PER_SENTENCE, MIN_SENTENCES, treebanks
from miscible.probe.datasets.uds_annotations import (
    Annotation,
    Subspace,
    annotations_of,
    read_ids,
    read_subspaces,
)

LANGUAGE = "en"

MIN_CONFIDENCE = 0.5
"""Values of which the annotators were less sure are left out."""

_NO_CONTENT = frozenset({"ADP", "CCONJ", "PART", "PUNCT", "SCONJ"})
"""Word classes that are neither predicate nor argument: there the treebank's words have changed
since it was annotated."""


@probe_source("uds")
def uds(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield a regression for each property of Universal Decompositional Semantics.

    *argument* is ``FOLDER#TREEBANK``: the folder of the UDS data (``ud_ids.json`` and the
    annotation files, plain, gzipped or zipped), and the English Web Treebank as CoNLL-U. Data sets
    are called ``uds/SUBSPACE/PROPERTY``. The input of a property of nodes is a word, that of a
    property of edges (proto-roles) the argument and then the predicate, each by its head word.
    Groups are documents; the split is that of UDS, if the treebank has both its train and its test
    part.

    Values of little confidence, on words that the treebank's sentence does not have or that can be
    neither predicate nor argument, and on nodes that are no words are left out and counted.

    Raises:
        DatasetError: a path or file cannot be read, or no annotated sentence is in the treebank.
    """
    folder, mark, treebank = argument.partition("#")
    if not (folder and mark and treebank):
        raise DatasetError(
            "'uds' needs the UDS folder and the treebank.", fix="Write uds:FOLDER#EWT.conllu."
        )
    data = (options.relative_to or Path()) / Path(folder).expanduser()
    ids = read_ids(data)
    sentences = _sentences(treebank, frozenset(ids.values()), options)
    none = True
    for subspace in read_subspaces(data):
        for task in _tasks(subspace, ids, sentences, options):
            dataset = draw(task, "uds", LANGUAGE, options)
            if dataset:
                yield dataset
                none = False
    if none:
        raise DatasetError(
            "too few annotated sentences are in the treebank.",
            where=argument,
            fix="UDS annotates the English Web Treebank.",
        )


def _sentences(path: str, wanted: frozenset[str], options: SourceOptions) -> dict[str, Sentence]:
    found: dict[str, Sentence] = {}
    for treebank in treebanks(path, options):
        for sentence, _ in treebank.sentences():
            if sentence.id in wanted:
                found.setdefault(sentence.id, sentence)
    return found


def _tasks(
    subspace: Subspace,
    ids: Mapping[str, str],
    sentences: Mapping[str, Sentence],
    options: SourceOptions,
) -> Iterator[Task]:
    there = [graph for graph in subspace.graphs if ids.get(graph) in sentences]
    roles = {graph: _role(graph) for graph in there}
    if not {"train", "test"} <= set(roles.values()):
        roles = dict.fromkeys(there, "")
    missing = len(subspace.graphs) - len(there)
    tasks: dict[str, Task] = {}
    excluded: Counter[str] = Counter({"sentences not in the treebank": missing})
    for graph in _sample(roles, ids, options):
        sentence = sentences[ids[graph]]
        for annotation in annotations_of(subspace.graphs[graph]):
            if annotation is None:
                excluded["values not on words"] += 1
                continue
            name = f"{annotation.subspace}/{annotation.property}"
            task = tasks.setdefault(
                name, Task(name, annotation.subspace, "semantics", "regression")
            )
            problem = _problem(annotation, sentence)
            if problem:
                task.excluded[problem] += 1
            else:
                task.candidates.append(_candidate(annotation, sentence, roles[graph]))
    for task in tasks.values():
        task.excluded.update(excluded)
        yield task


def _sample(
    roles: Mapping[str, Role], ids: Mapping[str, str], options: SourceOptions
) -> Iterator[str]:
    wanted = max(MIN_SENTENCES, (options.limit or DEFAULT_EXAMPLES) // EXAMPLES_PER_SENTENCE)
    for role in sorted(set(roles.values())):
        of_role = [graph for graph in roles if roles[graph] == role]
        count = round(wanted * SHARES.get(role, 1.0))
        yield from first_ranked(of_role, count, lambda graph: rank(options.seed, ids[graph]))


def _role(graph: str) -> Role:
    parts = graph.split("-")
    return cast(Role, parts[1]) if len(parts) == 3 and parts[1] in SHARES else ""


def _problem(annotation: Annotation, sentence: Sentence) -> str | None:
    if annotation.confidence < MIN_CONFIDENCE:
        return "values of little confidence"
    for number in annotation.words:
        if not 1 <= number <= len(sentence.words):
            return "words not in the sentence"
        word = sentence.words[number - 1]
        if word.upos in _NO_CONTENT or word.shared:
            return "words that cannot be annotated"
    return None


def _candidate(annotation: Annotation, sentence: Sentence, role: Role) -> Candidate:
    words = [sentence.words[number - 1] for number in annotation.words]
    return Candidate(
        id=annotation.item,
        text=sentence.text,
        inputs=tuple((word.start, word.stop) for word in words),
        label=annotation.value,
        group=sentence.group,
        type=" ".join(word.form.lower() for word in words),
        role=role,
    )
