"""Debiased CKA against the papers' formulas entry by entry, and its intervals against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.similarity import hsic
from miscible.similarity.cka import linear_cka


def unbiased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Equation 5 of Song et al. (2012), from Gram matrices made entry by entry."""
    n = len(first)
    k = np.array([[float(a @ b) for b in first] for a in first])
    m = np.array([[float(a @ b) for b in second] for a in second])
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    ones = np.ones(n)
    product = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + product - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))


def cka_of(first: np.ndarray, second: np.ndarray) -> float:
    own, other = unbiased_hsic(first, first), unbiased_hsic(second, second)
    return unbiased_hsic(first, second) / np.sqrt(own * other)


def reference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first.astype(np.float64), second.astype(np.float64)
    return np.array([
        [cka_of(first[:, i], second[:, j]) for j in range(second.shape[1])]
        for i in range(first.shape[1])
    ])  # fmt: skip


def related(reads: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """States of two models with 3 and 4 layers, of width 9 and 5, that share six features."""
    rng = np.random.default_rng(seed)
    core = rng.standard_normal((reads, 6))
    first, second = (
        np.stack([core @ rng.standard_normal((6, width)) for _ in range(layers)], axis=1)
        for layers, width in ((3, 9), (4, 5))
    )
    first += rng.standard_normal(first.shape)
    second += rng.standard_normal(second.shape) + 30
    return first.astype(np.float32), second.astype(np.float32)


@pytest.mark.parametrize("route", ["grams", "features", "cheaper"])
def test_equals_the_formula(route) -> None:
    first, second = related(23)
    found = linear_cka(first, second, route=route)
    assert found.value.shape == (3, 4) and found.influence.shape == (23, 3, 4)
    np.testing.assert_allclose(found.value, reference(first, second), atol=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
def test_both_routes_agree(grouped, monkeypatch) -> None:
    first, second = related(70)
    groups = np.random.default_rng(1).integers(0, 20, 70) if grouped else None
    grams = linear_cka(first, second, groups, route="grams")
    features = linear_cka(first, second, groups, route="features")
    monkeypatch.setattr(hsic, "BLOCK_BYTES", 8 * 70 * 7 * 3)  # three rows at once
    blocks = linear_cka(first, second, groups, route="grams")
    for other in (features, blocks):
        np.testing.assert_allclose(other.value, grams.value, atol=1e-13)
        np.testing.assert_allclose(other.influence, grams.influence, atol=1e-13)


@pytest.mark.parametrize("route", ["grams", "features"])
def test_influences_are_what_leaving_a_group_out_changes(route) -> None:
    first, second = related(17)
    groups = np.asarray([*"abcdeffdaa", *"ghijklm"])
    found = linear_cka(first, second, groups, route=route)
    for place, group in enumerate(np.unique(groups)):
        rest = groups != group
        expected = reference(first, second) - reference(first[rest], second[rest])
        np.testing.assert_allclose(
            found.influence[place], rest.mean() * expected, atol=1e-10
        )  # fmt: skip


def test_rotation_scale_and_offset_change_nothing() -> None:
    rng = np.random.default_rng(0)
    states = rng.standard_normal((40, 1, 8))
    turned = 1e-3 * states @ np.linalg.qr(rng.standard_normal((8, 8)))[0] + 5
    found = linear_cka(states, turned)
    np.testing.assert_allclose(found.value, 1, atol=1e-12)
    np.testing.assert_allclose(found.interval(), 1, atol=1e-10)


def test_unrelated_wide_layers_are_not_alike() -> None:
    # The plain estimate of these is about .9.
    rng = np.random.default_rng(0)
    found = linear_cka(rng.standard_normal((60, 8, 500)), rng.standard_normal((60, 8, 400)))
    assert abs(found.value.mean()) < 0.02


def test_intervals_cover_the_population_value() -> None:
    """Linear HSIC of a population is |Σxy|², so that the truth of a Gaussian model is known."""
    rng = np.random.default_rng(3)
    width, reads, samples = 12, 60, 300
    mixing = rng.standard_normal((width, width))
    near, far = (np.eye(width) + size * rng.standard_normal((width, width)) for size in (0.1, 0.3))
    covariance = mixing.T @ mixing

    def population(change: np.ndarray) -> float:
        own, cross = change.T @ covariance @ change, covariance @ change
        return (cross**2).sum() / np.sqrt((covariance**2).sum() * (own**2).sum())

    truth = np.array([population(near), population(far)])
    held = np.zeros(3)
    for _ in range(samples):
        states = rng.standard_normal((reads, width)) @ mixing
        found = linear_cka(states[:, None], np.stack([states @ near, states @ far], axis=1))
        low, high = found.interval()
        held[:2] += ((low <= truth) & (truth <= high))[0]
        low, high = found[:, 0].minus(found[:, 1]).interval()
        held[2] += low[0] <= truth[0] - truth[1] <= high[0]
    # Four standard errors of a share of .95 among 300.
    assert (np.abs(held / samples - 0.95) < 0.05).all()


def test_layers_that_say_nothing_have_a_reason() -> None:
    first, second = related(30)
    first[4, 0, 1] = np.nan
    first[:, 1] = 7.25
    second[:, 2] = 0
    second[1:, 3] = second[0, 3]
    second[0, 3] += 1
    found = linear_cka(first, second)
    assert np.isfinite(found.value).tolist() == [
        [False] * 4,
        [False] * 4,
        [True, True, False, False],
    ]
    assert found.reason[0, 0] == "1 of 30 reads are not finite"
    assert found.reason[1, 0] == found.reason[2, 2] == "the states are the same for all reads"
    assert found.reason[2, 3] == "all reads but one or two are the same"
    assert (found.reason[2, :2] == "").all()
    assert np.isnan(found.interval().low).tolist() == np.isnan(found.value).tolist()


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_too_few_reads_have_a_reason(reads) -> None:
    first, second = related(30)
    found = linear_cka(first[:reads], second[:reads])
    assert np.isnan(found.value).all()
    assert found.reason[0, 0] == f"{reads} read{'s' * (reads != 1)}; at least 4 are needed"


def test_without_enough_groups_there_is_no_interval() -> None:
    first, second = related(30)
    for groups in (np.zeros(30), np.arange(30) < 28):  # one group; a rest of two reads
        found = linear_cka(first, second, groups)
        np.testing.assert_allclose(found.value, reference(first, second), atol=1e-10)
        assert np.isnan(found.interval()).all()


def test_unpaired_input_is_refused() -> None:
    first, second = related(30)
    with pytest.raises(ValueError, match="reads"):
        linear_cka(first, second[1:])
    with pytest.raises(ValueError, match="labels of shape"):
        linear_cka(first, second, [1, 2])
    with pytest.raises(ValueError, match="not \\[reads, layers, width\\]"):
        linear_cka(first[:, 0], second)
