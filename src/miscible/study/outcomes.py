"""What became of a study's merges of two parents: rows for ``miscible fit``.

The outcome of a merge is its score on the own task of each of its two parents, and that over the
parent's own score. A merge at other shares than equal ones is a method of its own, named with its
dose: outcomes of one method are comparable.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import MiscibleError, StoreError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from miscible.study.plan import PlannedModel
    from miscible.study.study import Study

EQUAL = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """A merge of two parents, a and b.

    Attributes:
        merge: its name within the study.
        method: its method; with the dose where shares are not equal.
        raw: its scores on the own tasks of a and b; NaN where lower scores are better.
        normalised: these over the parents' own scores (the inverse where lower is better).
        error: why there is no outcome, empty if there is one.
    """

    merge: str
    a: str
    b: str
    method: str
    raw: tuple[float, float]
    normalised: tuple[float, float]
    error: str = ""

    @property
    def mean(self) -> float:
        """The normalised score, averaged over both tasks."""
        return sum(self.normalised) / 2


def merge_outcomes(study: Study, tasks: Mapping[str, str] | None = None) -> list[Outcome]:
    """Return the outcomes of all merges of exactly two parents.

    Args:
        study: with behaviour measured.
        tasks: by parent its own task, or ``task:metric``; those of the study's ``predict`` and
            tasks of a parent's name if left out.

    Raises:
        MiscibleError: if it is not known which task is a parent's own.
    """
    return _outcomes(study, own_tasks(study, tasks))


def _outcomes(study: Study, tasks: Mapping[str, str]) -> list[Outcome]:
    scores = _Scores(study, tasks)
    names = {reference: name for name, reference in study.spec.parents.items()}
    found: list[Outcome] = []
    for model in study.plan.models:
        parents = _parents(model, names)
        if len(parents) == 2:
            found.append(scores.outcome(model, parents[0], parents[1]))
    return found


def outcome_frame(study: Study) -> pd.DataFrame:
    """Return the outcomes of a study that asks a predictor, on the predictor's scale.

    Columns: see `StudyTables.outcomes`. Where it is not known which task is a parent's own, that
    is the error of every merge.
    """
    import pandas as pd

    columns = ["model", "first", "second", "method", "outcome", "error"]
    if study.spec.predict is None:
        return pd.DataFrame(columns=columns)
    expected = study.rows("prediction")
    raw = not expected.empty and expected["target"].iloc[0] == "raw"
    try:
        tasks, why = own_tasks(study), ""
    except MiscibleError as error:
        tasks, why = {}, str(error)
    rows = [
        (o.merge, o.a, o.b, o.method, sum(o.raw) / 2 if raw else o.mean, why or o.error)
        for o in _outcomes(study, tasks)
    ]
    return pd.DataFrame(rows, columns=columns)


def own_tasks(study: Study, tasks: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the own task of every parent.

    Raises:
        MiscibleError: if it is not known, or there is no such parent or task.
    """
    spec = study.spec
    known = spec.behaviour.tasks if spec.behaviour else []
    given = {**(spec.predict.tasks if spec.predict else {}), **(tasks or {})}
    for name in given:
        if name not in spec.parents:
            raise MiscibleError(
                f"{spec.name} has no parent named {name!r}.", fix=did_you_mean(name, spec.parents)
            )
    found: dict[str, str] = {}
    for parent in spec.parents:
        task = given.get(parent, parent if parent in known else None)
        if task is None:
            raise MiscibleError(
                f"the study does not say which task is {parent}'s own.",
                where=spec.name,
                fix=f"Give '--task {parent}=TASK', or 'tasks' under 'predict' in the study. "
                + (f"Tasks: {', '.join(known)}." if known else "It measures no behaviour."),
            )
        if task.partition(":")[0] not in known:
            raise MiscibleError(
                f"the study measures no task named {task!r}.",
                where=spec.name,
                fix=did_you_mean(task, known),
            )
        found[parent] = task
    return found


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write outcomes as ``miscible fit --outcomes`` reads them.

    Raises:
        StoreError: if it cannot be written.
    """
    head = ["task_a", "task_b", "method", "acc_a", "acc_b", "norm_acc_a", "norm_acc_b", "error"]
    rows = [[o.a, o.b, o.method, *o.raw, *o.normalised, o.error] for o in outcomes]
    write_csv(path, head, rows)


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table; NaN is an empty cell.

    Raises:
        StoreError: if it cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(
                [["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows]
            )
    except OSError as error:
        raise StoreError(f"it cannot be written: {error.strerror}.", where=str(path)) from error


def _parents(model: PlannedModel, names: Mapping[str, str]) -> list[str]:
    if model.merge is None:
        return []
    used = [names[r] for r in model.merge.recipe.references() if r in names]
    return sorted(dict.fromkeys(used))


def _method(model: PlannedModel) -> str:
    merge = model.merge
    assert merge is not None
    at = merge.dose
    # A recipe's family is its file's name; it goes by the method in it.
    name = merge.method if merge.recipe_file else merge.family
    return name if math.isnan(at) or at == EQUAL else f"{name} {at:g}"


class _Scores:
    def __init__(self, study: Study, tasks: Mapping[str, str]) -> None:
        rows = study.rows("score")
        self.rows: pd.DataFrame = rows[rows["domain"] == "behaviour"]
        self.tasks = tasks
        self.failed = {
            s.step.model: s.error.strip().splitlines()[-1]
            for s in study.status()
            if s.state == "failed"
        }

    def outcome(self, model: PlannedModel, a: str, b: str) -> Outcome:
        raw: list[float] = []
        normalised: list[float] = []
        for parent in (a, b):
            own, _ = self._score(parent, parent)
            score, higher = self._score(model.name, parent)
            raw.append(score if higher else math.nan)
            ratio = score / own if higher and own > 0 else math.nan
            normalised.append(own / score if not higher and score > 0 else ratio)
        error = ""
        if any(map(math.isnan, normalised)):
            error = self.failed.get(model.name, "it was not scored on both tasks.")
        return Outcome(
            model.name, a, b, _method(model), (raw[0], raw[1]), (normalised[0], normalised[1]),
            error,
        )  # fmt: skip

    def _score(self, model: str, parent: str) -> tuple[float, bool]:
        """Return a model's score on the own task of a parent, and whether more is better."""
        task, _, metric = self.tasks.get(parent, "").partition(":")
        held = self.rows[(self.rows["model"] == model) & (self.rows["dataset"] == task)]
        if metric:
            held = held[held["metric"] == metric]
        # Of several metrics the first for which more is better.
        held = held.sort_values("higher_is_better", ascending=False, kind="stable")
        if held.empty:
            return math.nan, True
        first = held.iloc[0]
        return float(first["estimate"]), bool(first["higher_is_better"])
