"""Sources that make several tasks of one corpus: ``PATH#task,task`` takes some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from miscible.errors import DatasetError, did_you_mean
from miscible.probe.contract import SourceOptions
from miscible.probe.dataset import ProbeDataset
from miscible.probe.datasets.drawing import MIN_EXAMPLES, Task, draw
from miscible.probe.datasets.treebank_files import Treebank


def split_argument(
    source: str, argument: str, known: Collection[str]
) -> tuple[str, tuple[str, ...]]:
    """Return path and selected tasks of ``PATH#task,task``; no task stands for all.

    The last ``#`` counts. A name in *known* that ends in ``/`` stands for all that begin with it.

    Raises:
        DatasetError: there is no path, or no such task.
    """
    path, mark, selection = argument.rpartition("#")
    if not mark:
        path, selection = selection, ""
    if not path:
        raise DatasetError(
            f"{source!r} needs a path.", fix=f"Write {source}:PATH or {source}:PATH#TASK,TASK."
        )
    selected = tuple(filter(None, (name.strip() for name in selection.split(","))))
    for name in selected:
        family = name.partition("/")[0] + "/"
        if name not in known and family not in known:
            raise DatasetError(
                f"{source!r} has no task {name!r}.",
                where=argument,
                fix=did_you_mean(name, [each.removesuffix("/") for each in known]),
            )
    return path, selected


def drawn(
    corpora: Iterable[tuple[Treebank, Iterable[Task]]],
    selected: Collection[str],
    language: str | None,
    options: SourceOptions,
) -> Iterator[ProbeDataset]:
    """Yield what can be drawn of the *selected* tasks (all if none is) of each corpus.

    Args:
        corpora: with the tasks that each offers.
        selected: names of tasks, or what stands before the ``/`` of several.
        language: of all of them; None for what the treebank says.
        options: limit and seed.

    Raises:
        DatasetError: a corpus gives nothing, or what is selected is in none of them.
    """
    made: set[str] = set()
    where = ""
    for treebank, tasks in corpora:
        where = where or treebank.where
        none = True
        for task in tasks:
            family = task.name.partition("/")[0]
            if selected and task.name not in selected and family not in selected:
                continue
            task.excluded.update(treebank.excluded)
            dataset = draw(task, treebank.name, language or treebank.language, options)
            if dataset:
                yield dataset
                made |= {task.name, family}
                none = False
        if none and not selected:
            raise _too_few("any task", treebank.where)
    missing = [name for name in selected if name not in made]
    if missing:
        raise _too_few(", ".join(missing), where)


def _too_few(what: str, where: str) -> DatasetError:
    return DatasetError(
        f"there are too few examples for {what}: needed are two classes of at least "
        f"{MIN_EXAMPLES}, or {MIN_EXAMPLES} examples of a value that differs.",
        where=where,
        fix="Take a larger corpus, or a larger limit.",
    )
