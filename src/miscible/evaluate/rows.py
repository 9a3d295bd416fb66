"""Result rows of one model, made from what lm-eval returned and checked against it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from miscible.evaluate.bootstrap import FloatArray, Resampled, resample
from miscible.evaluate.contract import Evaluation
from miscible.evaluate.measures import Measure, Sample, likelihood_measures, own_measures
from miscible.evaluate.options import EvaluationOptions
from miscible.records import ItemRow, ScoreRow

NONFINITE = "nonfinite"
"""Flag of a score that has no value because some log-probabilities behind it are not finite."""

TOLERANCE = 1e-9
"""Largest relative difference between our figure and lm-eval's for the same metric."""


@dataclass(frozen=True)
class _Scored:
    score: ScoreRow
    replicates: FloatArray


def make_rows(
    model: str,
    loaded: dict[str, Any],
    results: dict[str, Any],
    options: EvaluationOptions,
    flags: Callable[[str], list[str]],
    nonfinite: Mapping[str, Set[int]],
) -> Evaluation:
    """Turn lm-eval's results into rows.

    Args:
        model: name for the rows.
        loaded: what lm-eval's task manager loaded: tasks and groups by name.
        results: what lm-eval's `evaluate` returned, samples included.
        options: seed, resamples, confidence and clusters.
        flags: marks for the scores of a task.
        nonfinite: by task, the documents whose log-probabilities are not finite. lm-eval makes
            numbers of them (the argmax of NaN is the first option); here they have no value.

    Raises:
        RuntimeError: if a score that we recompute from items is not lm-eval's: a bug.
    """
    scored: dict[tuple[str, str], _Scored] = {}
    items: list[ItemRow] = []
    for name, task in loaded["tasks"].items():
        samples = results["samples"][name]
        official = results["results"][name]
        for measure in (*own_measures(task, samples), *likelihood_measures(task, samples)):
            if not measure.documents:
                continue
            key = measure.metric if "," in measure.metric else f"{measure.metric},none"
            void = [each["doc_id"] in nonfinite.get(name, ()) for each in measure.documents]
            if len(measure.values):
                measure = replace(measure, values=np.where(void, math.nan, measure.values))
            marks = [*flags(name), *([NONFINITE] if any(void) else [])]
            one = _score(model, name, measure, official.get(key), options, marks, task)
            scored[name, measure.metric] = one
            if measure.transform is None:
                items += _items(model, name, measure, _clusters(task, name, measure, options))
    scores = [each.score for each in scored.values()]
    for group in loaded.get("groups", {}).values():
        scores += _group_scores(model, group, results, scored, options)
    return Evaluation(scores, items)


def _score(
    model: str,
    dataset: str,
    measure: Measure,
    official: float | None,
    options: EvaluationOptions,
    flags: list[str],
    task: Any,
) -> _Scored:
    drawn = Resampled(np.empty(0), math.nan, math.nan)
    if NONFINITE in flags:
        estimate, official = math.nan, None  # a mean over the rest would pass over its worst items
    elif len(measure.values):
        estimate = float(np.sum(measure.values * measure.weights) / np.sum(measure.weights))
        drawn = resample(
            measure.values,
            measure.weights,
            _clusters(task, dataset, measure, options),
            resamples=options.resamples,
            confidence=options.confidence,
            seed=(options.seed, zlib.crc32(dataset.encode())),
        )
    else:
        estimate = math.nan if official is None else float(official)
    low, high = drawn.low, drawn.high
    if measure.transform is not None:
        estimate, low, high = (measure.transform(x) for x in (estimate, low, high))
    if official is not None:
        _check(dataset, measure.metric, estimate, float(official))
        estimate = float(official)
    no_items = ["no-items"] if measure.transform or not len(measure.values) else []
    score = ScoreRow(
        model=model,
        domain="behaviour",
        dataset=dataset,
        metric=measure.metric,
        estimate=estimate,
        low=low,
        high=high,
        n=len(measure.documents),
        baseline=measure.baseline,
        higher_is_better=measure.higher_is_better,
        flags=",".join([*flags, *no_items]),
    )
    return _Scored(score, drawn.replicates if measure.transform is None else np.empty(0))


def _check(dataset: str, metric: str, ours: float, official: float) -> None:
    if abs(ours - official) > TOLERANCE * max(1.0, abs(official)):
        raise RuntimeError(
            f"{dataset}: {metric} is {official!r} by lm-eval but {ours!r} from its own items."
        )


def _items(model: str, dataset: str, measure: Measure, clusters: list[str]) -> Iterator[ItemRow]:
    columns = zip(measure.documents, clusters, measure.values, measure.weights, strict=False)
    for sample, cluster, value, weight in columns:
        yield ItemRow(
            model=model,
            domain="behaviour",
            dataset=dataset,
            metric=measure.metric,
            item=_identity(sample),
            cluster=cluster,
            value=float(value),
            weight=float(weight),
        )


def _identity(sample: Sample) -> str:
    return str(sample["doc_id"])


def _clusters(task: Any, dataset: str, measure: Measure, options: EvaluationOptions) -> list[str]:
    declared = (task.config.metadata or {}).get("cluster")
    field = options.cluster.get(dataset, declared)
    if field is None:
        return [_identity(sample) for sample in measure.documents]
    return [str(sample["doc"].get(field, _identity(sample))) for sample in measure.documents]


def _group_scores(
    model: str,
    group: Any,
    results: dict[str, Any],
    scored: dict[tuple[str, str], _Scored],
    options: EvaluationOptions,
) -> Iterator[ScoreRow]:
    """Yield a group's scores; their intervals resample items within each of its tasks."""
    leaves = [task.task_name for task in group.get_all_tasks()]
    official = results.get("groups", {}).get(group.name, {})
    by_size = {each.metric: each.weight_by_size for each in group.aggregate_metric_list or []}
    if not by_size:
        return
    for metric in dict.fromkeys(metric for name, metric in scored if name in leaves):
        members = {leaf: scored[leaf, metric] for leaf in leaves if (leaf, metric) in scored}
        reference = official.get(metric if "," in metric else f"{metric},none")
        derived = metric in ("choice_logprob", "answer_bits_per_byte")
        if len(members) < len(leaves) or (reference is None and not derived):
            continue
        sized = by_size.get(metric.split(",")[0], next(iter(by_size.values())))
        weights = [results["results"][leaf]["sample_len"] if sized else 1 for leaf in members]
        parts = [member.score for member in members.values()]
        estimate = float(np.average([part.estimate for part in parts], weights=weights))
        low = high = math.nan
        if all(len(member.replicates) for member in members.values()):
            table = np.stack([member.replicates for member in members.values()])
            tail = (1 - options.confidence) / 2
            drawn = np.average(table, axis=0, weights=weights)
            low, high = (float(bound) for bound in np.nanquantile(drawn, [tail, 1 - tail]))
        if reference is not None:
            _check(group.name, metric, estimate, float(reference))
        marks = dict.fromkeys(mark for part in parts for mark in part.flags.split(",") if mark)
        yield ScoreRow(
            model=model,
            domain="behaviour",
            dataset=group.name,
            metric=metric,
            estimate=estimate,
            low=low,
            high=high,
            n=sum(part.n for part in parts),
            baseline=float(np.average([part.baseline for part in parts], weights=weights)),
            higher_is_better=parts[0].higher_is_better,
            flags=",".join(["group", *marks]),
        )
