"""The effects model on merges that follow it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from miscible.predict.contract import make
from miscible.predict.pairs import Examples
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import leave_one_task_out, leave_tasks_out
from miscible.predict.validation.scores import correlation
from predict.effects.crossed import world


class Known(Kernel):
    """A covariance that is already computed, for scikit-learn: its inputs are row numbers."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, x, y=None, eval_gradient=False):
        y = x if y is None else y
        return self.matrix[np.ix_(x[:, 0].astype(int), y[:, 0].astype(int))]

    def diag(self, x):
        return np.diag(self.matrix)[x[:, 0].astype(int)]

    def is_stationary(self):
        return False


def held_out(examples, folds):
    return [
        (forecast, examples.mean[fold.test])
        for fold, forecast in zip(
            folds, crossvalidate(make("effects"), examples, folds, seed=0), strict=True
        )
    ]


def test_posterior_is_that_of_scikit_learn():
    examples = world(7).examples
    train, test = np.arange(15), np.arange(15, 21)
    fitted = make("effects").fit(examples.take(train), seed=0)
    pairs = examples.pairs
    both = pairs.take(np.concatenate([train, test]))
    sources = fitted.terms.between(both, both)
    matrix = fitted.variances.matrix(np.stack([sources[name] for name in fitted.sources]))
    # between() puts first models before second ones: rows of the training pairs, then of the others
    rows = np.concatenate([train, 21 + train])
    others = np.concatenate([test, 21 + test])
    theirs = GaussianProcessRegressor(
        Known(matrix), alpha=fitted.variances.noise, optimizer=None
    ).fit(rows[:, None], fitted.scale.forward(fitted.outcome))
    z, sd = theirs.predict(others[:, None], return_std=True)
    expected = fitted.scale.ceiling - np.exp(fitted.scale.loss_log(z))
    expected = np.clip(expected, fitted.outcome.min(), fitted.outcome.max())
    forecast = fitted.predict(pairs.take(test))
    assert forecast.directed.T.ravel() == pytest.approx(expected, abs=1e-7)
    assert np.all(sd > 0)


def test_known_partners_are_known():
    examples = world(noise=0.02).examples
    folds = leave_one_task_out(examples.pairs)
    r = [correlation(f.mean, y) for f, y in held_out(examples, folds)]
    assert np.mean(r) > 0.8


def unseen(explained):
    """Mean r within pairs of two unseen models, over six worlds: one may look explained by luck."""
    found = []
    for seed in range(6):
        examples = world(12, explained=explained, noise=0.02, seed=seed).examples
        folds = leave_tasks_out(examples.pairs, 4, 4, 0)
        found += [correlation(f.mean, y) for f, y in held_out(examples, folds)]
    return np.nanmean(found)


def test_models_never_merged_are_told_by_scalars_and_metrics():
    assert unseen(0.95) > 0.7
    assert abs(unseen(0.0)) < 0.3


def test_intervals_cover_what_they_say():
    inside = []
    for seed in range(6):
        examples = world(10, explained=0.5, noise=0.2, seed=seed).examples
        for forecast, y in held_out(examples, leave_one_task_out(examples.pairs)):
            inside += (np.abs(y - forecast.mean) < 1.2816 * forecast.sd).tolist()
    assert 0.7 < np.mean(inside) < 0.92


def test_doubt_grows_with_what_is_not_known():
    examples = world(explained=0.5).examples
    touched = examples.pairs.touches(np.arange(12) >= 10)
    fitted = make("effects").fit(examples.take(touched == 0), seed=0)
    sd = [fitted.predict(examples.pairs.take(touched == count)).sd.mean() for count in range(3)]
    assert sd[0] < sd[1] < sd[2]


def test_pairs_far_from_any_in_training_have_finite_forecasts():
    examples = world(8, explained=0.9).examples
    pairs = examples.pairs
    fitted = make("effects").fit(examples.take(pairs.touches(np.arange(8) == 7) == 0), seed=0)
    far = replace(pairs, metrics=pairs.metrics * 1e3, scalars=pairs.scalars * 1e3)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        forecast = fitted.predict(far.take(pairs.touches(np.arange(8) == 7) == 1))
    assert np.isfinite(forecast.sd).all() and (forecast.sd > 0).all()
    assert (forecast.mean >= fitted.outcome.min()).all()
    assert (forecast.mean <= fitted.outcome.max()).all()


def test_written_and_read_it_forecasts_the_same():
    examples = world(8).examples
    fitted = make("effects").fit(examples.take(np.arange(20)), seed=0)
    again = make("effects").restore(json.loads(json.dumps(fitted.as_dict())))
    here, there = fitted.predict(examples.pairs), again.predict(examples.pairs)
    assert np.array_equal(here.mean, there.mean) and np.array_equal(here.sd, there.sd)


def test_order_of_pairs_and_of_models_does_not_matter():
    examples = world(8).examples
    pairs, order = examples.pairs, np.random.default_rng(5).permutation(28)
    flipped = replace(pairs.take(order), first=pairs.second[order], second=pairs.first[order])
    other = Examples(flipped, examples.directed[order][:, ::-1], examples.mean[order])
    here = make("effects").fit(examples, seed=0).predict(pairs)
    there = make("effects").fit(other, seed=0).predict(flipped)
    # sums in another order end the search for variances elsewhere, in its tolerance
    assert there.mean == pytest.approx(here.mean[order], abs=1e-4)
    assert there.directed == pytest.approx(here.directed[order][:, ::-1], abs=1e-4)


def test_means_alone_can_be_learnt_from():
    examples = world(10, noise=0.02).examples
    means = replace(examples, directed=np.full_like(examples.directed, np.nan))
    folds = leave_one_task_out(examples.pairs)
    held = held_out(means, folds)
    assert np.mean([correlation(f.mean, y) for f, y in held]) > 0.6
    assert all(f.directed is None for f, _ in held)


def test_without_metrics_and_scalars_it_is_a_model_of_partners():
    examples = world(10, noise=0.02).examples
    pairs = examples.pairs
    bare = replace(
        pairs, metric_names=(), metrics=np.zeros((45, 0)), scalar_names=(),
        scalars=np.zeros((10, 0)),
    )  # fmt: skip
    fitted = make("effects").fit(replace(examples, pairs=bare), seed=0)
    assert np.corrcoef(fitted.predict(bare).mean, examples.mean)[0, 1] > 0.9


def test_sharing_variances_hardly_changes_forecasts():
    examples = world(10, noise=0.1).examples
    folds = leave_one_task_out(examples.pairs)
    here, there = (
        crossvalidate(each, examples, folds, seed=0)
        for each in (make("effects"), make("effects").quick())
    )
    r = [correlation(a.mean, b.mean) for a, b in zip(here, there, strict=True)]
    assert min(r) > 0.95
    assert any(not np.array_equal(a.mean, b.mean) for a, b in zip(here, there, strict=True))


def test_shares_of_variance_add_up():
    fitted = make("effects").fit(world(8).examples, seed=0)
    assert sum(fitted.shares.values()) == pytest.approx(1.0)
    assert fitted.shares["own zero_shot"] + fitted.shares["own model"] > 0.4


def test_what_is_special_to_a_pair_is_told_by_its_category():
    found = world(12, noise=0.02, seed=1)
    pairs = found.examples.pairs
    special = np.random.default_rng(0).standard_normal((len(pairs), 2))
    names = ("subspace_overlap", "activation_cosine_similarity")
    pairs = replace(pairs, metric_names=names, metrics=special)
    loss = (1 - found.examples.directed) * np.exp(0.5 * special[:, [0]])
    examples = Examples(pairs, 1 - loss, (1 - loss).mean(axis=1))
    shares = make("effects").fit(examples, seed=0).shares
    assert shares["pair subspace"] > 0.05
    assert shares["pair activation"] < 0.1 * shares["pair subspace"]


@pytest.mark.parametrize("key", ["variances", "outcome", "pairs", "terms"])
def test_a_damaged_record_is_refused(key):
    held = json.loads(json.dumps(make("effects").fit(world(6).examples, seed=0).as_dict()))
    held[key] = {} if isinstance(held[key], dict) else held[key][:-1]
    with pytest.raises((KeyError, TypeError, ValueError)):
        make("effects").restore(held)
