"""Probing tasks from any treebank of Universal Dependencies, in any of its languages."""

from __future__ import annotations

from collections.abc import Iterator

from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import ProbeDataset
from miscible.probe.datasets.task_selection import drawn, split_argument
from miscible.probe.datasets.treebank_files import treebanks
from miscible.probe.datasets.treebank_tasks import FEATURE, PHENOMENA, treebank_tasks


@probe_source("conllu")
def conllu(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield the tasks of each treebank at the path *argument*, a file, or a folder or zip of them.

    ``PATH#upos,feature/Number`` yields these tasks alone, ``PATH#feature`` all features; a path
    that itself contains ``#`` needs one more behind it. The tasks are those of
    `miscible.probe.datasets.treebank_tasks.treebank_tasks`; those with too few examples or but one
    class are passed over. A data set is called ``TREEBANK/task``. Its examples are drawn as
    `miscible.probe.datasets.drawing.draw` says, from sentences that all tasks share.

    Sentences are grouped by document, as far as the treebank marks documents. Which files are one
    treebank: see `miscible.probe.datasets.treebank_files`; what makes a line an error:
    `miscible.probe.datasets.conllu_lines`.

    Raises:
        DatasetError: the path or a file cannot be read, a line is no CoNLL-U, there is no such
            task, a treebank gives no task, or none gives a task that is asked for.
    """
    path, selected = split_argument("conllu", argument, [*PHENOMENA, f"{FEATURE}/"])
    corpora = (
        (treebank, treebank_tasks(treebank.sample(options), options.seed))
        for treebank in treebanks(path, options)
    )
    yield from drawn(corpora, selected, None, options)
