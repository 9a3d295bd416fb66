"""Holmes and FlashHolmes (arXiv 2404.18923): a version's folder, or that of one data set.

A data set is a folder with ``config-*.yaml`` and ``samples.csv``. The data carry no licence, so
that they are the user's own download.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import Example, ProbeDataset, Role, Span, Text
from miscible.probe.datasets.holmes_folders import HolmesDataset, holmes_datasets, unpacked
from miscible.probe.datasets.holmes_inputs import (
    Place,
    UnusableRowError,
    needs_context,
    read_inputs,
)
from miscible.probe.datasets.holmes_literals import parse_list
from miscible.probe.datasets.holmes_sample import sample
from miscible.probe.datasets.holmes_table import Cells, SampleTable, is_nothing
from miscible.probe.datasets.taxonomy import place_of_any

LANGUAGE = "en"
"""All of Holmes is English."""

_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?")


class _Row(NamedTuple):
    id: str
    parts: tuple[tuple[Place, ...], ...]
    surface: str
    label: str | float
    roles: tuple[Role, ...]


@probe_source("holmes")
def holmes(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield a data set for each that the folder or zip *argument* holds, except for controls.

    A row that alone is defective is left out and counted: an empty text, a lone surrogate, offsets
    outside of the context or of other words than stated (case and white space apart), a label
    that is missing or infinite, an id that occurred before, another number of inputs than most.
    What concerns the whole file is an error: no CSV or not UTF-8, a missing column, a row that is
    too short, an unknown role, a cell that is no literal of the shape that the type of the task
    has, a value in a regression that is no number, more classes than ``num_labels``, a malformed
    configuration.

    Every ``set-k`` is a split, except for those in which no row has a role. A label that occurs in
    the test part alone is kept. With ``options.limit`` the roles keep their proportions, and none
    dies out as long as there are fewer roles than the limit. A relative path starts from
    ``options.relative_to``.

    Raises:
        DatasetError: the folder holds no data set, or a table is malformed or has no usable row.
        SpecError: a configuration is malformed.
    """
    if not argument:
        raise DatasetError("'holmes' needs a path.", fix="Write holmes:PATH.")
    folder = (options.relative_to or Path()) / Path(argument).expanduser()
    zipped = folder.suffix.lower() == ".zip" and folder.is_file()
    with unpacked(folder) if zipped else nullcontext(folder) as place:
        for found in holmes_datasets(place):
            yield _dataset(found, options)


def _dataset(found: HolmesDataset, options: SourceOptions) -> ProbeDataset:
    where = str(found.table)
    rows, excluded = _usable_rows(found)
    if not rows:
        reasons = "; ".join(f"{count} left out: {reason}" for reason, count in excluded.items())
        raise DatasetError(f"there is no usable row ({reasons or 'it has none'}).", where=where)
    regression = found.config.num_labels == 1
    classes = {row.label for row in rows}
    if not regression and len(classes) > found.config.num_labels:
        raise DatasetError(
            f"there are {len(classes)} classes, but num_labels is {found.config.num_labels}.",
            where=where,
        )
    used = [k for k in range(len(rows[0].roles)) if any(row.roles[k] for row in rows)]
    rows = [row._replace(roles=tuple(row.roles[k] for k in used)) for row in rows]
    rows = sample(rows, options.limit, options.seed, where)
    texts: dict[Text, int] = {}
    examples = tuple(_example(row, texts) for row in rows)
    title = re.sub(r"^(probe-)?((flash-)?holmes-)?", "", found.config.probe_name)
    phenomenon, competence = place_of_any(found.title, title)
    return ProbeDataset(
        name=found.name,
        phenomenon=phenomenon,
        competence=competence,
        language=LANGUAGE,
        texts=tuple(texts),
        examples=examples,
        kind="regression" if regression else "classification",
        splits=tuple(tuple(row.roles[k] for row in rows) for k in range(len(used))),
        excluded=excluded,
    )


def _usable_rows(found: HolmesDataset) -> tuple[list[_Row], Mapping[str, int]]:
    """Return the rows that have as many parts as most, and how many are left out, by reason."""
    rows: list[_Row] = []
    excluded: Counter[str] = Counter()
    seen: set[str] = set()
    texts: dict[Text, Text] = {}
    for cells in SampleTable.read(found.table).rows():
        try:
            if not cells.id:
                raise UnusableRowError("no id")
            if cells.id in seen:
                raise UnusableRowError("an id that occurred before")
            seen.add(cells.id)
            rows.append(_row(cells, found, texts))
        except UnusableRowError as reason:
            excluded[str(reason)] += 1
    widths = Counter(len(row.parts) for row in rows)
    most = max(widths, key=lambda width: (width > 0, widths[width]), default=0)
    usable = [row for row in rows if len(row.parts) == most > 0]
    if len(usable) < len(rows):
        excluded["another number of inputs"] += len(rows) - len(usable)
    return usable, dict(sorted(excluded.items()))


def _row(cells: Cells, found: HolmesDataset, texts: dict[Text, Text]) -> _Row:
    task = found.config.probe_task_type
    elements = parse_list(cells.inputs, "inputs", cells.where)
    context: Sequence[object] = ()
    if needs_context(task) and not is_nothing(cells.context):
        context = parse_list(cells.context, "context", cells.where)
    label = _value(cells) if found.config.num_labels == 1 else _class(cells)
    inputs = read_inputs(task, elements, context, cells.where)
    parts = tuple(
        tuple(place._replace(text=texts.setdefault(place.text, place.text)) for place in part)
        for part in inputs.parts
    )  # rows often share a text, which is held once
    return _Row(cells.id, parts, inputs.surface, label, cells.roles)


def _class(cells: Cells) -> str:
    """Return the name of a class; whole numbers lose the point that pandas gives them."""
    if is_nothing(cells.label):
        raise UnusableRowError("no label")
    match = _WHOLE_NUMBER.fullmatch(cells.label)
    return str(int(match[1])) if match else cells.label


def _value(cells: Cells) -> float:
    if is_nothing(cells.label):
        raise UnusableRowError("no label")
    try:
        value = float(cells.label)
    except ValueError:
        raise DatasetError(
            f"the label of a regression must be a number. Got {cells.label[:40]!r} instead.",
            where=cells.where,
        ) from None
    if not math.isfinite(value):
        raise UnusableRowError("an infinite label")
    return value


def _example(row: _Row, texts: dict[Text, int]) -> Example:
    inputs = tuple(
        tuple(
            Span(texts.setdefault(place.text, len(texts)), place.start, place.stop, place.sentence)
            for place in part
        )
        for part in row.parts
    )
    return Example(row.id, inputs, row.label, type=row.surface)
