"""What each document contributed to each metric of a task, read off lm-eval's logged samples.

Besides the task's own metrics there are two that see what accuracy is blind to at small scale,
where answers hardly flip but probabilities move:

``choice_logprob``
    ln(sum of P(right options) / sum of P(all options)), in nats, higher is better; P(option) is
    exp of the same summed log-probability that ``acc`` ranks. Multiple-choice tasks.
``answer_bits_per_byte``
    -log2 P(right answer | context) per byte of UTF-8 of the right answer, with the space before
    it; lower is better. Multiple-choice tasks with one right option, and ``loglikelihood`` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from lm_eval.api import metrics as lm_eval_metrics

from miscible.evaluate.bootstrap import FloatArray

Sample: TypeAlias = dict[str, Any]
Contribution: TypeAlias = tuple[float, float]
"""Value and weight of an item."""

CHANCE_METRICS = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})


@dataclass(frozen=True)
class Measure:
    """One metric of one task, item by item.

    Attributes:
        metric: lm-eval's name, followed by ``,filter`` if the filter has a name.
        higher_is_better: direction.
        documents: logged samples of the items.
        values, weights: [items]; empty if the metric is not a function of a weighted mean.
        transform: the score as a function of the weighted mean of the values.
        baseline: score of guessing, NaN if unknown.
    """

    metric: str
    higher_is_better: bool
    documents: list[Sample]
    values: FloatArray
    weights: FloatArray
    transform: Callable[[float], float] | None = None
    baseline: float = math.nan


def own_measures(task: Any, samples: Sequence[Sample]) -> Iterator[Measure]:
    """Yield the metrics that the task itself declares, for each of its filters."""
    names = dict.fromkeys((name, each["filter"]) for each in samples for name in each["metrics"])
    chance = _chance(task, samples)
    for name, filter_name in names:
        documents = [e for e in samples if e["filter"] == filter_name and name in e["metrics"]]
        aggregation = task.aggregation().get(name, lm_eval_metrics.mean)
        values, weights = _split(_DECOMPOSE.get(aggregation), [each[name] for each in documents])
        yield Measure(
            metric=name if filter_name == "none" else f"{name},{filter_name}",
            higher_is_better=bool(task.higher_is_better().get(name, True)),
            documents=documents,
            values=values,
            weights=weights,
            transform=math.exp if aggregation in _EXPONENTIAL else None,
            baseline=chance if name in CHANCE_METRICS else math.nan,
        )


def likelihood_measures(task: Any, samples: Sequence[Sample]) -> Iterator[Measure]:
    """Yield ``choice_logprob`` and ``answer_bits_per_byte`` where the task has them."""
    first = [each for each in samples if each["filter"] == samples[0]["filter"]]
    if task.OUTPUT_TYPE == "multiple_choice":
        judged = [(each, right) for each in first if (right := _right_options(task, each))]
        yield _measure(
            "choice_logprob",
            [(each, (_choice_logprob(task, each, right), 1.0)) for each, right in judged],
            higher_is_better=True,
            baseline=_mean(math.log(len(r) / _options(task, each)) for each, r in judged),
        )
        answered = [(each, right[0]) for each, right in judged if len(right) == 1]
    elif task.OUTPUT_TYPE == "loglikelihood" and "bits_per_byte" not in first[0]["metrics"]:
        answered = [(each, 0) for each in first]
    else:
        return
    items = [(each, _bits_per_byte(each, index)) for each, index in answered]
    yield _measure("answer_bits_per_byte", items, higher_is_better=False)


def solution_bits_per_byte(doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Return lm-eval's ``bits_per_byte`` of the field ``answer``, for our own task YAML."""
    logprob, _ = results[0]
    return {"bits_per_byte": (logprob, len(f" {doc['answer']}".encode()))}


def likelihood_per_token(doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Return ``likelihood``, exp of the mean log-probability of a token, for task YAML.

    The document's field ``tokens`` is the number of tokens of its answer. The value lies in
    (0, 1], higher is better: the geometric mean of the probabilities of the answer's tokens.
    """
    logprob, _ = results[0]
    return {"likelihood": math.exp(logprob / doc["tokens"])}


def _measure(
    metric: str,
    items: Sequence[tuple[Sample, Contribution]],
    *,
    higher_is_better: bool,
    baseline: float = math.nan,
) -> Measure:
    pairs = np.array([pair for _, pair in items], dtype=np.float64).reshape(-1, 2)
    documents = [each for each, _ in items]
    return Measure(metric, higher_is_better, documents, pairs[:, 0], pairs[:, 1], baseline=baseline)


def _split(
    decompose: Callable[[Any], Contribution] | None, contributions: Sequence[Any]
) -> tuple[FloatArray, FloatArray]:
    try:
        pairs = [decompose(each) for each in contributions] if decompose else []
    except (TypeError, ValueError):  # a metric of the task's own that is no number
        pairs = []
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _per_unit(pair: tuple[float, int]) -> Contribution:
    logprob, units = pair
    return (-logprob / units if units else 0.0), float(units)


def _bits_per_unit(pair: tuple[float, int]) -> Contribution:
    nats, units = _per_unit(pair)
    return nats / math.log(2), units


_DECOMPOSE: dict[Any, Callable[[Any], Contribution]] = {
    lm_eval_metrics.mean: lambda value: (float(value), 1.0),
    lm_eval_metrics.bits_per_byte: _bits_per_unit,
    lm_eval_metrics.perplexity: lambda logprob: (-float(logprob), 1.0),
    lm_eval_metrics.weighted_perplexity: _per_unit,
}
_EXPONENTIAL = (lm_eval_metrics.perplexity, lm_eval_metrics.weighted_perplexity)


def _options(task: Any, sample: Sample) -> int:
    """Number of options; further requests are those of unconditional options."""
    if task.multiple_input:
        return len(sample["arguments"])
    return len(task.doc_to_choice(sample["doc"]))


def _right_options(task: Any, sample: Sample) -> list[int]:
    choices = task.doc_to_choice(sample["doc"])
    target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    named = target if isinstance(target, list) else [target]
    indices = [
        (choices.index(each) if each in choices else -1) if isinstance(each, str) else int(each)
        for each in named
    ]
    return [index for index in indices if 0 <= index < _options(task, sample)]


def _choice_logprob(task: Any, sample: Sample, right: Sequence[int]) -> float:
    logprobs = [resp[0][0] for resp in sample["resps"][: _options(task, sample)]]
    chosen = np.logaddexp.reduce([logprobs[index] for index in right])
    return float(chosen - np.logaddexp.reduce(logprobs))


def _bits_per_byte(sample: Sample, index: int) -> Contribution:
    continuation = sample["arguments"][index][1]
    return _bits_per_unit((sample["resps"][index][0][0], len(continuation.encode())))


def _chance(task: Any, samples: Sequence[Sample]) -> float:
    if task.OUTPUT_TYPE != "multiple_choice":
        return math.nan
    return _mean(len(_right_options(task, each)) / _options(task, each) for each in samples)


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return math.fsum(held) / len(held) if held else math.nan
