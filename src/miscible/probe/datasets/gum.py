"""Probing tasks from GUM: entities, coreference, and discourse relations (English)."""

from __future__ import annotations

from collections.abc import Iterator

from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import ProbeDataset
from miscible.probe.datasets.drawing import Task
from miscible.probe.datasets.gum_tasks import TASKS, gum_tasks
from miscible.probe.datasets.passages import passages
from miscible.probe.datasets.task_selection import drawn, split_argument
from miscible.probe.datasets.treebank_files import Treebank, treebanks

LANGUAGE = "en"


@probe_source("gum")
def gum(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield the tasks that the Georgetown University Multilayer corpus adds to a treebank's.

    *argument* is the path of a ``.conllu``, or of a folder or zip of them, and may select tasks:
    ``PATH#coreference,entity_type``. The tasks are those of
    `miscible.probe.datasets.gum_tasks.gum_tasks`; their inputs stand in passages of a few
    sentences, grouped by document. The morphology and syntax of GUM are probed by the source
    ``conllu``.

    Raises:
        DatasetError: the path or a file cannot be read, a line is no CoNLL-U, there is no such
            task, or nothing is annotated from which a task can be made.
    """
    path, selected = split_argument("gum", argument, TASKS)
    corpora = ((treebank, _tasks(treebank, options)) for treebank in treebanks(path, options))
    yield from drawn(corpora, selected, LANGUAGE, options)


def _tasks(treebank: Treebank, options: SourceOptions) -> list[Task]:
    return gum_tasks(passages(treebank, options), options)
