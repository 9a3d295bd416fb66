"""Variances of known covariances."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import halfcauchy, multivariate_normal

from miscible.errors import MiscibleError
from miscible.predict.effects.variances import (
    MEAN_VARIANCE,
    Posterior,
    Scale,
    estimate,
)  # fmt: skip

MEDIANS = np.array([1.0, 0.1])


def problem(groups=25, size=6, seed=0):
    """One covariance of groups, one that explains nothing."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    same = (group[:, None] == group).astype(float)
    other = rng.permutation(len(group))
    z = 2.0 * rng.standard_normal(groups)[group] + rng.standard_normal(len(group))
    return z, np.stack([same, same[np.ix_(other, other)]])


def test_the_density_is_that_of_the_normal_distribution():
    z, kernels = problem(4, 3)
    matrix = 0.49 * kernels[0] + 0.09 * kernels[1] + 0.81 * np.eye(12) + MEAN_VARIANCE
    density = multivariate_normal(np.zeros(12), matrix).logpdf(z)
    expected = -density - 0.5 * 12 * np.log(2 * np.pi)
    for variance, median in ((0.49, 1.0), (0.09, 0.1)):
        # the density of log v: half-Cauchy of its root, times d sqrt(v) / d log v
        root = np.sqrt(variance)
        prior = halfcauchy(scale=np.sqrt(median)).pdf(root) * root / 2
        expected -= np.log(prior * np.pi * np.sqrt(median))
    found, _ = Posterior(z, kernels, MEDIANS)(np.log([0.49, 0.09, 0.81]))
    assert found == pytest.approx(expected, rel=1e-10)


def test_its_slope_is_the_slope():
    z, kernels = problem(5, 3)
    posterior = Posterior(z, kernels, MEDIANS)
    for variances in ([0.5, 0.5, 0.5], [1.2, 0.1, 0.3]):
        logs = np.log(variances)
        error = check_grad(lambda x: posterior(x)[0], lambda x: posterior(x)[1], logs)
        assert error < 1e-4 * np.linalg.norm(posterior(logs)[1])


def test_variances_are_found():
    z, kernels = problem(60, 6)
    found = estimate(z, kernels, MEDIANS)
    assert found.sources[0] == pytest.approx(4.0, rel=0.4)
    assert found.sources[1] < 0.2
    assert found.noise == pytest.approx(1.0, rel=0.2)


def test_effects_that_few_groups_do_not_show_are_not_zero():
    """Where three groups happen to agree, likelihood alone has no variance between them."""
    z, kernels = problem(3, 10)
    group = np.repeat(np.arange(3), 10)
    z -= np.array([z[group == n].mean() for n in range(3)])[group]
    assert estimate(z, kernels, MEDIANS).sources[0] > 0.01


def test_another_start_ends_at_the_same_variances():
    z, kernels = problem()
    cold = estimate(z, kernels, MEDIANS)
    warm = estimate(z, kernels, MEDIANS, estimate(*problem(seed=3), MEDIANS))
    density = Posterior(z, kernels, MEDIANS)
    ends = [density(np.log(np.append(each.sources, each.noise)))[0] for each in (cold, warm)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)
    assert warm.sources[0] == pytest.approx(cold.sources[0], rel=0.02)


def test_the_scale_goes_there_and_back():
    outcome = np.array([0.2, 0.9, 0.95, 0.5])
    scale = Scale.of(outcome)
    z = scale.forward(outcome)
    assert z.mean() == pytest.approx(0, abs=1e-12) and z.std() == pytest.approx(1)
    assert scale.ceiling - np.exp(scale.loss_log(z)) == pytest.approx(outcome)
    assert scale.ceiling > outcome.max()


def test_units_of_the_outcome_do_not_matter():
    outcome = np.array([0.2, 0.9, 0.95, 0.5])
    assert Scale.of(100 * outcome).forward(100 * outcome) == pytest.approx(
        Scale.of(outcome).forward(outcome)
    )


def test_outcomes_that_are_all_the_same_are_an_error():
    with pytest.raises(MiscibleError, match="same outcome"):
        Scale.of(np.full(5, 0.7))
