"""What each model scores in each competence: the plain mean and the mean winning rate.

A data set counts by the score of its probes (accuracy, or Pearson's r for a regression), as the
mean over all layers. No layer is chosen, so none is chosen on the scores that are reported. A data
set counts once, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from miscible.analyse.correlation import kendall
from miscible.analyse.panel import Floats, nanmean, panels
from miscible.analyse.resample import Resampling, bootstrap_means, cluster_sums, interval
from miscible.analyse.taxonomy import WORDS
from miscible.analyse.winning_rate import winning_rates

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

OVERALL = "overall"
UNPLACED = "no competence named"


@dataclass(frozen=True, slots=True)
class CompetenceRow:
    """A model in a competence; the columns of `competence_scores`.

    Attributes:
        model: name.
        competence: name; `OVERALL` for all data sets.
        datasets: data sets that all models are compared on.
        score, low, high: mean over them, and its interval (clusters resampled in each of them).
        winning_rate, rate_low, rate_high: mean winning rate times 100, and the same interval.
        majority: mean score of the constant predictor on the same data sets.
        bag_of_words: mean score of the probe on bags of words; NaN unless all of them have it.
        tau: Kendall's tau-b over models of *score* and *winning_rate*.
    """

    model: str
    competence: str
    datasets: int
    score: float
    low: float
    high: float
    winning_rate: float
    rate_low: float
    rate_high: float
    majority: float
    bag_of_words: float
    tau: float


COLUMNS = [field.name for field in fields(CompetenceRow)]


class _Dataset(NamedTuple):
    name: str
    competence: str
    scores: Floats
    draws: Floats
    majority: float
    words: float


@dataclass(frozen=True)
class CompetenceScores:
    """Result of `competence_scores`.

    Attributes:
        rows: a `CompetenceRow` for each model and competence, `OVERALL` first.
        left_out: models without a score on some data set, and how many they lack: no mean and no
            rank of theirs would be over the same data sets.
        dropped: data sets that half of the models or more lack, and that do not count.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]
    dropped: tuple[str, ...]


def competence_scores(
    tables: StudyTables, *, options: Resampling | None = None
) -> CompetenceScores:
    """Return scores and winning rates of all models that were probed."""
    options = options or Resampling()
    models = [str(name) for name in tables.models["model"]]
    held = _datasets(tables, models, options)
    present = np.isfinite([dataset.scores for dataset in held]).reshape(-1, len(models))
    probed = present.any(axis=0)
    common = present.sum(axis=1) > probed.sum() / 2
    kept = [dataset for dataset, shared in zip(held, common, strict=True) if shared]
    lacking = (~present[common]).sum(axis=0)
    ranked = np.flatnonzero(probed & (lacking == 0))
    left_out = {models[i]: int(lacking[i]) for i in np.flatnonzero(probed & (lacking > 0))}
    dropped = tuple(d.name for d, shared in zip(held, common, strict=True) if not shared)
    if not kept or len(ranked) == 0:
        return CompetenceScores(pd.DataFrame(columns=COLUMNS), left_out, dropped)
    names = [models[i] for i in ranked]
    groups = {OVERALL: kept}
    for dataset in kept:
        groups.setdefault(dataset.competence, []).append(dataset)
    frames = [_rows(name, group, names, ranked, options) for name, group in groups.items()]
    return CompetenceScores(pd.concat(frames, ignore_index=True)[COLUMNS], left_out, dropped)


def _rows(
    competence: str,
    held: Sequence[_Dataset],
    names: Sequence[str],
    ranked: np.ndarray[tuple[int], np.dtype[np.intp]],
    options: Resampling,
) -> pd.DataFrame:
    scores = np.stack([dataset.scores[ranked] for dataset in held], axis=-1)
    means, rates = scores.mean(axis=-1), 100 * winning_rates(scores).mean(axis=-1)
    drawn = np.stack([dataset.draws[:, ranked] for dataset in held], axis=-1)
    low, high = interval(drawn.mean(axis=-1), options.level)
    rate_draws = np.stack([100 * winning_rates(draw).mean(axis=-1) for draw in drawn])
    rate_low, rate_high = interval(rate_draws, options.level)
    tau = float(kendall(np.round(means, 9), np.round(rates, 9), np.ones((1, len(names))))[0])
    return pd.DataFrame(
        {
            "model": names,
            "competence": competence,
            "datasets": len(held),
            "score": means,
            "low": low,
            "high": high,
            "winning_rate": rates,
            "rate_low": rate_low,
            "rate_high": rate_high,
            "majority": np.mean([dataset.majority for dataset in held]),
            "bag_of_words": np.mean([dataset.words for dataset in held]),
            "tau": tau,
        }
    )


def _datasets(tables: StudyTables, models: Sequence[str], options: Resampling) -> list[_Dataset]:
    inside = tables.scores[tables.scores["domain"] == "internals"]
    competence = dict(zip(inside["dataset"], inside["competence"], strict=True))
    by_metric = inside.groupby(["dataset", "metric"])
    majority, estimate = by_metric["baseline"].mean(), by_metric["estimate"].mean()
    found = []
    for panel in panels(tables, "internals"):
        if panel.cell.metric not in WORDS or None in panel.layers:
            continue
        values = np.stack([nanmean(panel.row(model), axis=0) for model in models])
        # A layer that could not be probed takes the model out, not just the layer.
        full = np.array([np.isfinite(panel.row(model)).any(axis=1).all() for model in models])
        sums = cluster_sums(np.where(full[:, None], values, np.nan), panel.weights, panel.clusters)
        name = panel.cell.dataset
        found.append(
            _Dataset(
                name=name,
                competence=competence.get(name) or UNPLACED,
                scores=panel.sign * sums.means,
                draws=panel.sign * bootstrap_means(sums, options, name),
                majority=float(majority.get((name, panel.cell.metric), np.nan)),
                words=float(estimate.get((name, WORDS[panel.cell.metric]), np.nan)),
            )
        )
    return found
