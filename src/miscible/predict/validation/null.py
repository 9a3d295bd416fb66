"""The null: the same predictor, fitted anew, when every metric describes the wrong models.

Tasks are relabelled at random in metrics and scalars; outcomes stay. What structure the outcomes
and the metrics have by themselves stays too, so a score has to be better than what it comes to by
chance on such tables, which is far from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from miscible.predict.contract import Predictor
from miscible.predict.pairs import Examples, Floats, Ints, Pairs
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import Fold
from miscible.predict.validation.scores import score_lkto, score_loto
from miscible.progress import task


@dataclass(frozen=True)
class Null:
    """Scores of relabelled tables, one an element; empty where not asked for.

    Attributes:
        loto: mean r over folds.
        lkto, skill: mean r over blocks, and skill, with both tasks unseen.
    """

    loto: Floats
    lkto: Floats
    skill: Floats


def relabel(
    predictor: Predictor,
    examples: Examples,
    among: Pairs,
    loto: Sequence[Fold],
    lkto: Sequence[Fold],
    *,
    number: int,
    seed: int,
    label: str = "relabelled tables",
) -> Null:
    """Score the predictor on relabelled tables.

    Args:
        among: all measured pairs; one of them that was not merged may lend its metrics too.
        loto, lkto: the folds of the scores to be had; either may be empty.
        number: how many relabellings.
    """
    found = {"loto": list[float](), "lkto": list[float](), "skill": list[float]()}
    with task(label, total=number) as advance:
        for order in relabellings(examples.pairs, number, seed):
            wrong = Examples(
                examples.pairs.relabelled(order, among), examples.directed, examples.mean
            )
            if loto:
                guesses = [f.mean for f in crossvalidate(predictor, wrong, loto, seed=seed)]
                found["loto"].append(score_loto(loto, guesses, wrong.mean).r_mean)
            if lkto:
                guesses = [f.mean for f in crossvalidate(predictor, wrong, lkto, seed=seed)]
                score = score_lkto(lkto, guesses, wrong.mean)
                found["lkto"].append(score.r)
                found["skill"].append(score.skill)
            advance(1)
    return Null(*(np.array(found[name]) for name in ("loto", "lkto", "skill")))


def relabellings(pairs: Pairs, number: int, seed: int) -> Iterator[Ints]:
    """Yield permutations, int64 [T], of the models that have a pair; the others keep their own."""
    random, tasks = np.random.default_rng(seed), np.flatnonzero(pairs.seen())
    for _ in range(number):
        order = np.arange(len(pairs.models))
        order[tasks] = random.permutation(tasks)
        yield order


def p_value(observed: float, null: Floats) -> float:
    """Return (1 + #(null >= observed)) / (1 + N), NaN if there is nothing to compare."""
    there = null[np.isfinite(null)]
    if not len(there) or not np.isfinite(observed):
        return float("nan")
    return float((1 + np.count_nonzero(there >= observed)) / (1 + len(there)))
