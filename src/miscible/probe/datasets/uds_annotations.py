"""Files of the Universal Decompositional Semantics data set (arXiv 1909.13851).

``ud_ids.json`` tells for each graph (``ewt-train-12``) the sentence of the English Web Treebank. An
annotation file has the properties of a subspace (protoroles, factuality, ...), normalised over
annotators, for nodes (``ewt-train-12-semantics-pred-6``: the word 6) or edges (two nodes with
``%%`` between them).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from miscible.errors import DatasetError
from miscible.probe.datasets.corpus_files import CorpusFile, corpus_files

MAX_JSON_BYTES = 64 * 2**20
"""Most bytes of one JSON file: read, it takes several times as much."""

_IDS = "ud_ids"
_JSON = frozenset({".json"})
_NODE = re.compile(r"(.{1,200})-semantics-(pred|arg)-([0-9]{1,9})")


class Annotation(NamedTuple):
    """One value.

    Attributes:
        item: node or edge, unique within a file.
        subspace, property: what is annotated.
        words: numbers, from 1, of the argument, of the predicate, or of both in this order.
        value: normalised, about -3 to 3.
        confidence: of the annotators, 0 to 1.
    """

    item: str
    subspace: str
    property: str
    words: tuple[int, ...]
    value: float
    confidence: float


class Subspace(NamedTuple):
    """One annotation file.

    Attributes:
        where: the file.
        graphs: by identity, what is annotated of it.
    """

    where: str
    graphs: dict[str, dict[str, Any]]


def read_ids(folder: Path) -> dict[str, str]:
    """Return the id of the sentence of each graph.

    Raises:
        DatasetError: there is no ``ud_ids.json``, or it is damaged.
    """
    for file in corpus_files(folder, _JSON):
        if file.stem == _IDS:
            entries = _object(file)
            return {
                graph: entry["sentence_id"]
                for graph, entry in entries.items()
                if isinstance(entry, dict) and isinstance(entry.get("sentence_id"), str)
            }
    raise DatasetError(
        f"there is no {_IDS}.json, which names the sentences.",
        where=str(folder),
        fix="It is part of the UDS data.",
    )


def read_subspaces(folder: Path) -> Iterator[Subspace]:
    """Yield the annotation files of a folder, also those in zips, one at a time.

    Raises:
        DatasetError: a file is no JSON, or has no object ``data``.
    """
    for file in _files(folder):
        if file.stem == _IDS:
            continue
        where = str(file.parent / file.path)
        data = _object(file).get("data")
        if not isinstance(data, dict):
            raise DatasetError(
                "the file is no UDS annotation: it has no object 'data'.", where=where
            )
        yield Subspace(where, {key: item for key, item in data.items() if isinstance(item, dict)})


def annotations_of(graph: dict[str, Any]) -> Iterator[Annotation | None]:
    """Yield the values of a graph; None for an item that is not on words of the sentence itself.

    Such are nodes that UDS adds (``subpred``, ``predhead``), and values that are not normalised.
    """
    for item, subspaces in graph.items():
        words = _words(item)
        if words is None or not isinstance(subspaces, dict):
            yield None
            continue
        for subspace, properties in subspaces.items():
            for name, entry in (properties if isinstance(properties, dict) else {}).items():
                value = _number(entry, "value")
                confidence = _number(entry, "confidence")
                if value is None or confidence is None:
                    yield None
                else:
                    yield Annotation(item, subspace, name, words, value, confidence)


def _words(item: str) -> tuple[int, ...] | None:
    nodes = [_NODE.fullmatch(node) for node in item.split("%%")]
    found = {node[2]: int(node[3]) for node in nodes if node}
    if not 1 <= len(nodes) <= 2 or len(found) != len(nodes):
        return None
    return tuple(found[kind] for kind in ("arg", "pred") if kind in found)


def _number(entry: Any, key: str) -> float | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, float | int) or isinstance(value, bool) or abs(value) > 1e6:
        return None
    return float(value) if math.isfinite(value) else None


def _files(folder: Path) -> Iterator[CorpusFile]:
    yield from corpus_files(folder, _JSON)
    if folder.is_dir():
        for archive in sorted(folder.glob("*.zip")):
            yield from corpus_files(archive, _JSON)


def _object(file: CorpusFile) -> dict[str, Any]:
    where = str(file.parent / file.path)
    if len(file.content) > MAX_JSON_BYTES:
        raise DatasetError(f"the file is larger than {MAX_JSON_BYTES // 2**20} MiB.", where=where)
    try:
        found = json.loads(file.content)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"the file is not JSON: {error}.", where=where) from None
    if not isinstance(found, dict):
        raise DatasetError("the file is not a JSON object.", where=where)
    return found
