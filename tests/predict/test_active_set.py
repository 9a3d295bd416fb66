"""The solver against scikit-learn, and against the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso, Ridge

from miscible.predict.active_set import path
from miscible.predict.pairs import Floats


def problem(seed: int, rows: int = 60, width: int = 12) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width)) @ random.normal(size=(width, width))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = x @ random.normal(size=width) + random.normal(size=rows)
    return x, y - y.mean()


def grams(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return x.T @ x / len(y), x.T @ y / len(y)


@pytest.mark.parametrize("seed", range(3))
def test_lasso_is_that_of_scikit_learn(seed: int) -> None:
    x, y = problem(seed)
    gram, moment = grams(x, y)
    penalties = np.abs(moment).max() * np.logspace(0, -3, 10)
    found = path(gram, moment, penalties, 1.0)
    for penalty, weights in zip(penalties, found, strict=True):
        theirs = Lasso(penalty, fit_intercept=False, tol=1e-13, max_iter=10**6).fit(x, y)
        assert np.abs(weights - theirs.coef_).max() < 1e-8


def test_elastic_net_is_that_of_scikit_learn() -> None:
    x, y = problem(7)
    gram, moment = grams(x, y)
    penalties = np.array([0.5, 0.1, 0.01])
    for penalty, weights in zip(penalties, path(gram, moment, penalties, 0.3), strict=True):
        theirs = ElasticNet(
            penalty, l1_ratio=0.3, fit_intercept=False, tol=1e-13, max_iter=10**6
        ).fit(x, y)
        assert np.abs(weights - theirs.coef_).max() < 1e-8


def test_ridge_is_that_of_scikit_learn() -> None:
    x, y = problem(8)
    weights = path(*grams(x, y), np.array([0.2]), 0.0)[0]
    theirs = Ridge(0.2 * len(y), fit_intercept=False, solver="cholesky").fit(x, y)
    assert np.abs(weights - theirs.coef_).max() < 1e-8


def test_features_that_repeat_others_do_no_harm() -> None:
    x, y = problem(9)
    x[:, 1], x[:, 2] = x[:, 0], -x[:, 0]
    x[:, 5] = (x[:, 3] + x[:, 4]) / np.std(x[:, 3] + x[:, 4])
    gram, moment = grams(x, y)
    penalties = np.abs(moment).max() * np.logspace(0, -4, 30)
    for penalty, weights in zip(penalties, path(gram, moment, penalties, 1.0), strict=True):
        gradient = moment - gram @ weights
        assert np.abs(gradient).max() <= penalty * (1 + 1e-7)
        used = weights != 0
        assert np.allclose(gradient[used], penalty * np.sign(weights[used]), rtol=0, atol=1e-8)
