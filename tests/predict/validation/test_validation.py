"""Scores, baselines, null, intervals: each against what it must be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miscible.predict.baselines import partners_mean, task_means, training_mean
from miscible.predict.contract import make
from miscible.predict.validation.calibration import calibrate
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import leave_one_task_out, leave_tasks_out
from miscible.predict.validation.intervals import draw_tasks, lkto_samples, loto_samples
from miscible.predict.validation.null import p_value, relabel
from miscible.predict.validation.scores import correlation, score_lkto, score_loto
from miscible.predict.validation.settings import Settings
from miscible.predict.validation.validate import validate
from predict.synthetic import examples, made_up


def test_correlation() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=20), random.normal(size=20)
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert correlation(np.full(20, 0.3), y) == 0.0
    assert math.isnan(correlation(x, np.full(20, 0.3)))
    weights = np.repeat([1.0, 2.0], 10)
    twice = np.concatenate([np.arange(20), np.arange(10, 20)])
    assert correlation(x, y, weights) == pytest.approx(correlation(x[twice], y[twice]), abs=1e-12)


def test_the_training_mean_has_no_skill_and_no_r() -> None:
    held = examples(10)
    folds = leave_tasks_out(held.pairs, 4, 10, seed=0)
    guesses = [training_mean(held.take(f.train), held.pairs.take(f.test)) for f in folds]
    score = score_lkto(folds, guesses, held.mean)
    assert score.skill == 0.0 and score.r == 0.0


def test_perfect_predictions() -> None:
    held = examples(8)
    folds = leave_one_task_out(held.pairs)
    score = score_loto(folds, [held.mean[f.test] for f in folds], held.mean)
    assert score.r_mean == pytest.approx(1) and score.r_pooled == pytest.approx(1)
    assert score.skill == pytest.approx(1)


def test_task_effects_are_found_without_metrics() -> None:
    held = examples(12, signal=0.0, effects=30.0)
    folds = leave_one_task_out(held.pairs)
    for guess in (partners_mean, task_means):
        guesses = [guess(held.take(f.train), held.pairs.take(f.test)) for f in folds]
        assert score_loto(folds, guesses, held.mean).r_mean > 0.95


def test_additive_effects_are_exact_without_noise() -> None:
    held = examples(7)
    effect = np.arange(7.0)
    mean = 2.0 + effect[held.pairs.first] + effect[held.pairs.second]
    exact = type(held)(held.pairs, np.stack([mean, mean], axis=1), mean)
    assert np.allclose(task_means(exact.take(np.arange(18)), held.pairs), mean)


def test_an_unweighted_sample_is_the_score_itself() -> None:
    held = examples(9)
    once = np.ones((1, 9))
    folds, blocks = leave_one_task_out(held.pairs), leave_tasks_out(held.pairs, 4, 8, seed=1)
    guesses = [f.mean for f in crossvalidate(make("ols"), held, folds, seed=0)]
    within = [f.mean for f in crossvalidate(make("ols"), held, blocks, seed=0)]
    score, other = score_loto(folds, guesses, held.mean), score_lkto(blocks, within, held.mean)
    assert loto_samples(folds, guesses, held, once)[0] == pytest.approx(score.r_mean)
    r, skill = lkto_samples(blocks, within, held, once)
    assert r[0] == pytest.approx(other.r) and skill[0] == pytest.approx(other.skill)
    assert draw_tasks(held, 30, seed=0).sum(axis=1).tolist() == [9.0] * 30


def test_relabelled_pairs_have_the_metrics_of_other_models() -> None:
    pairs = examples(6).pairs
    order = np.array([1, 0, 2, 3, 5, 4])
    found = pairs.relabelled(order, pairs)
    row = {pair: n for n, pair in enumerate(zip(pairs.first, pairs.second, strict=True))}
    assert np.array_equal(found.metrics[row[0, 4]], pairs.metrics[row[1, 5]])
    assert np.array_equal(found.metrics[row[1, 2]], pairs.metrics[row[0, 2]])
    assert np.array_equal(found.scalars, pairs.scalars[order])
    part = pairs.relabelled(order, pairs.take(np.arange(3)))
    assert np.isnan(part.metrics).any()


def test_p_values_of_noise_are_uniform() -> None:
    found = []
    for seed in range(60):
        held = examples(8, 2, signal=0.0, effects=1.0, seed=seed)
        folds = leave_one_task_out(held.pairs)
        guesses = [f.mean for f in crossvalidate(make("ols"), held, folds, seed=0)]
        score = score_loto(folds, guesses, held.mean).r_mean
        null = relabel(make("ols"), held, held.pairs, folds, [], number=19, seed=seed)
        found.append(p_value(score, null.loto))
    # Of 60 uniform values, fewer than 1 in 1000 samples have a mean this far from 0.525.
    assert abs(np.mean(found) - 0.525) < 3.3 * 0.29 / math.sqrt(60)


def test_a_real_metric_beats_its_null() -> None:
    held = examples(10, 3, signal=2.0)
    folds = leave_one_task_out(held.pairs)
    guesses = [f.mean for f in crossvalidate(make("lasso"), held, folds, seed=0)]
    null = relabel(make("lasso"), held, held.pairs, folds, [], number=39, seed=0)
    assert p_value(score_loto(folds, guesses, held.mean).r_mean, null.loto) == 1 / 40


def test_intervals_cover_what_they_promise() -> None:
    """Over tables with task effects, so that errors within a held-out task go together."""
    one, both = [], []
    for seed in range(12):
        held = examples(20, 2, signal=1.0, effects=0.7, seed=seed)
        for folds, found in (
            (leave_one_task_out(held.pairs), one),
            (leave_tasks_out(held.pairs, 5, 20, seed), both),
        ):
            forecasts = crossvalidate(make("ols"), held, folds, seed=0)
            found.append(calibrate(folds, forecasts, held).observed)
    assert abs(np.mean(one) - 0.8) < 0.05
    assert abs(np.mean(both) - 0.8) < 0.05


def test_everything_in_one_call() -> None:
    asked = Settings(k=4, draws=5, null=9, bootstrap=50, seeds=2)
    found = validate(make("lasso"), made_up(9, signal=2.0), "mean", settings=asked)
    held = found.as_dict()
    assert set(held["baselines"]) == {
        "training_mean", "partners_mean", "task_means", "finetuned", "best_metric"
    }  # fmt: skip
    low, high = held["intervals"]["loto_r"]
    assert low < held["loto"]["r_mean"] < high
    assert held["null"]["p"] == 0.1 and held["lkto"]["k"] == 4
    assert held["interval_coverage"]["level"] == 0.8


def test_what_cannot_be_validated_is_said() -> None:
    asked = Settings(k=5, null=0, bootstrap=0, seeds=1)
    found = validate(make("lasso"), made_up(6), "mean", settings=asked)
    assert found.as_dict()["lkto"] is None and "8 tasks" in found.skipped["lkto"]
