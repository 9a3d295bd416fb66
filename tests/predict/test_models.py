"""Laws of every registered predictor, and what the linear ones are by definition."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from miscible.predict.contract import PREDICTORS, make
from miscible.predict.features import Scaling
from miscible.predict.least_squares import LeastSquares
from miscible.predict.pearson import Pearson
from miscible.predict.penalised import Penalised, inner_groups
from predict.synthetic import examples


@pytest.mark.parametrize("name", PREDICTORS.names())
def test_laws(name: str) -> None:
    train = examples(8, effects=0.5)
    held = np.zeros(8, dtype=np.bool_)
    held[3] = True
    inside = train.take(np.flatnonzero(train.pairs.touches(held) == 0))
    predictor = make(name)
    fitted = predictor.fit(inside, seed=1)
    found = fitted.predict(train.pairs)
    assert np.isfinite(found.mean).all() and len(found.mean) == len(train)
    again = predictor.restore(json.loads(json.dumps(fitted.as_dict(), allow_nan=False)))
    assert np.array_equal(again.predict(train.pairs).mean, found.mean)
    assert np.array_equal(predictor.fit(inside, seed=1).predict(train.pairs).mean, found.mean)
    known = np.flatnonzero(train.pairs.touches(held) == 0)
    some = known[[5, 2]] if predictor.pools else np.array([5, 2])
    assert np.allclose(fitted.predict(train.pairs.take(some)).mean, found.mean[some], rtol=1e-10)
    metrics = train.pairs.metrics.copy()
    metrics[0] = np.nan
    assert np.isfinite(fitted.predict(replace(train.pairs, metrics=metrics)).mean).all()


@pytest.mark.parametrize("name", ["lasso", "elastic_net", "ridge", "ols", "pearson"])
def test_nothing_of_other_pairs_is_learnt(name: str) -> None:
    """Metrics and outcomes outside the training pairs make no difference, scales included."""
    train = examples(8)
    rows = np.arange(15)
    metrics, mean = train.pairs.metrics.copy(), train.mean.copy()
    metrics[15:], mean[15:] = 1e6, -1e6
    other = replace(train, pairs=replace(train.pairs, metrics=metrics), mean=mean)
    one, two = (make(name).fit(e.take(rows), seed=0) for e in (train, other))
    assert one.as_dict() == two.as_dict()


def test_a_strong_metric_is_found() -> None:
    weights = make("lasso").fit(examples(14, 6, signal=3.0), seed=0).coefficients
    assert max(weights, key=lambda name: abs(weights[name])) == "metric0"
    assert weights["metric0"] > 0


def test_least_squares_is_the_optimum_of_the_unpenalised_objective() -> None:
    train = examples(12, 3)
    by_steps = Pearson(penalty=0.0, iterations=20_000, tolerance=0.0, patience=20_000)
    one = by_steps.fit(train, seed=0).predict(train.pairs).mean
    other = LeastSquares().fit(train, seed=0).predict(train.pairs).mean
    assert np.allclose(one, other, atol=1e-6)


def test_the_inner_folds_hold_out_tasks() -> None:
    train = examples(11)
    group, groups = inner_groups(train, seed=3)
    assert groups == 5 and sorted(set(group.tolist())) == [0, 1, 2, 3, 4]
    assert np.bincount(group).max() - np.bincount(group).min() <= 1


def test_scaling_is_of_what_is_there() -> None:
    features = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan]])
    scaling = Scaling.of(features)
    scaled = scaling.apply(features)
    assert scaled[:, 0].tolist() == [-1.0, 1.0, 0.0]
    assert not scaled[:, 1:].any()


def test_a_given_penalty_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import ElasticNet

    train = examples(9, 3)
    train = replace(train, pairs=replace(train.pairs, scalar_names=(), scalars=np.zeros((9, 0))))
    x = Scaling.of(train.pairs.metrics).apply(train.pairs.metrics)
    spread = train.mean.std()
    for ratio in (1.0, 0.4):
        mine = Penalised(ratio=ratio, penalty=0.05).fit(train, seed=0)
        theirs = ElasticNet(0.05, l1_ratio=ratio, tol=1e-13, max_iter=10**6)
        theirs.fit(x, train.mean / spread)
        assert np.abs(mine.weights / spread - theirs.coef_).max() < 1e-8
        assert mine.intercept == pytest.approx(theirs.intercept_ * spread, abs=1e-10)
