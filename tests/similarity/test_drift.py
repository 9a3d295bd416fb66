"""Geometry and displacement of layers: definitions, known values, and coverage of intervals."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.errors import IncompatibleModelsError
from miscible.similarity.drift import Geometry, displacement, geometry

FIELDS = ("norm", "effective_rank", "participation_ratio", "first_share", "mean_cosine")


def values(found: Geometry) -> dict[str, np.ndarray]:
    return {name: getattr(found, name).value for name in FIELDS}


def plainly(states: np.ndarray) -> dict[str, float]:
    """By the definitions, of one layer [reads, width]."""
    states = states.astype(np.float64)
    norms = np.linalg.norm(states, axis=1)
    singular = np.linalg.svd(states - states.mean(axis=0), compute_uv=False)
    singular = singular[singular > 1e-9 * singular[0]]
    shares, variances = singular / singular.sum(), singular**2
    cosines = (states / norms[:, None]) @ (states / norms[:, None]).T
    return {
        "norm": norms.mean(),
        "effective_rank": np.exp(-(shares * np.log(shares)).sum()),
        "participation_ratio": variances.sum() ** 2 / (variances**2).sum(),
        "first_share": variances[0] / variances.sum(),
        "mean_cosine": cosines[~np.eye(len(states), dtype=bool)].mean(),
    }


@pytest.mark.parametrize("width", [7, 60])
def test_equals_the_definitions(width) -> None:
    rng = np.random.default_rng(0)
    states = (rng.standard_normal((30, 3, width)) * rng.gamma(1, 1, width) + 0.3).astype("f4")
    found = values(geometry(states))
    for layer in range(3):
        for name, expected in plainly(states[:, layer]).items():
            assert found[name][layer] == pytest.approx(expected, rel=1e-9), name


def test_known_shapes() -> None:
    axes = np.concatenate([np.eye(8), -np.eye(8)])
    line = np.linspace(1, 2, 16)[:, None] * np.ones(8)
    found = values(geometry(np.stack([3 * axes, line], axis=1)))
    np.testing.assert_allclose(found["effective_rank"], [8, 1])
    np.testing.assert_allclose(found["participation_ratio"], [8, 1])
    np.testing.assert_allclose(found["first_share"], [1 / 8, 1])
    np.testing.assert_allclose(found["mean_cosine"], [-1 / 15, 1])
    np.testing.assert_allclose(found["norm"], [3, 1.5 * np.sqrt(8)])


@pytest.mark.parametrize("width", [6, 50])
def test_influences_are_derivatives_by_the_weight_of_a_read(width) -> None:
    """A read that is there 1001 times where others are 1000 times weighs 1 + 1 / 1000."""
    rng = np.random.default_rng(1)
    states = rng.standard_normal((10, 1, width)) * np.arange(1, width + 1) + 1
    found = geometry(states)
    for name in FIELDS[:4]:  # a mean over pairs knows copies from reads
        estimate = getattr(found, name)
        for read in (0, 7):
            moved = []
            for copies in (1001, 999):
                weights = np.full(10, 1000)
                weights[read] = copies
                moved.append(values(geometry(np.repeat(states, weights, axis=0)))[name][0])
            slope = (moved[0] - moved[1]) * 500
            assert estimate.influence[read, 0] == pytest.approx(slope, rel=2e-3, abs=1e-4), name


def test_intervals_cover_what_other_samples_give() -> None:
    rng = np.random.default_rng(0)
    spread = (np.arange(1, 25) ** -0.7)[:, None] * np.linalg.qr(rng.standard_normal((24, 24)))[0]
    change = 0.9 * np.eye(24) + 0.06 * rng.standard_normal((24, 24))
    found, samples = {}, 300
    for _ in range(samples):
        latent = np.repeat(rng.standard_normal((40, 24)), 2, axis=0)
        latent = np.sqrt(0.6) * latent + np.sqrt(0.4) * rng.standard_normal((80, 24))
        states = latent @ spread + 0.1
        both = geometry(np.stack([states, states @ change], axis=1), np.arange(80) // 2)
        estimates = {name: getattr(both, name)[0] for name in FIELDS}
        estimates |= {
            f"{name} ratio": getattr(both, name)[1].over(getattr(both, name)[0])
            for name in FIELDS[:4]
        }
        moved = displacement((states @ change)[:, None], states[:, None], np.arange(80) // 2)
        estimates |= {"cosine": moved.cosine[0], "distance": moved.distance[0]}
        for name, estimate in estimates.items():
            found.setdefault(name, []).append((estimate.value, *estimate.interval()))
    for name, rows in found.items():
        value, low, high = np.asarray(rows, dtype=np.float64).T
        covered = ((low <= value.mean()) & (value.mean() <= high)).mean()
        assert abs(covered - 0.95) < 0.05, name  # four standard errors


def test_a_ratio_of_equal_models_is_1() -> None:
    states = np.random.default_rng(0).standard_normal((20, 2, 5)).astype("f4")
    norm = geometry(states).norm
    ratio = geometry(2 * states).norm.over(norm)
    np.testing.assert_allclose(ratio.value, 2)
    np.testing.assert_allclose(ratio.interval(), 2)


def test_displacement_of_turned_and_scaled_states() -> None:
    states = np.random.default_rng(0).standard_normal((20, 1, 2))
    quarter = states @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    found = displacement(np.concatenate([quarter, 3 * states], axis=1), np.tile(states, (1, 2, 1)))
    np.testing.assert_allclose(found.cosine.value, [0, 1], atol=1e-12)
    np.testing.assert_allclose(found.distance.value, [np.sqrt(2), 2])
    np.testing.assert_allclose(found.distance.interval().high, [np.sqrt(2), 2])


def test_collapsed_layers_have_a_reason() -> None:
    states = np.random.default_rng(0).standard_normal((12, 4, 5)).astype("f4")
    states[3, 0, 2] = np.inf
    states[:, 1] = 1.5
    states[2, 2] = 0
    found = geometry(states)
    assert np.isfinite(found.norm.value).tolist() == [False, True, True, True]
    assert np.isfinite(found.effective_rank.value).tolist() == [False, False, True, True]
    assert np.isfinite(found.mean_cosine.value).tolist() == [False, True, False, True]
    assert found.norm.reason[0] == "1 of 12 reads are not finite"
    assert found.first_share.reason[1] == "the states are the same for all reads"
    assert found.mean_cosine.reason[2] == "1 of 12 reads are the zero vector"
    moved = displacement(states, states)
    assert np.isfinite(moved.cosine.value).tolist() == [False, True, False, True]
    assert geometry(states[:1]).norm.reason[3] == "1 read; at least 2 are needed"


def test_models_of_other_shapes_are_refused() -> None:
    states = np.zeros((4, 2, 3))
    with pytest.raises(IncompatibleModelsError, match="2 and 2 layers of width 3 and 5"):
        displacement(states, np.zeros((4, 2, 5)))
    with pytest.raises(ValueError, match="4 and 5 reads"):
        displacement(states, np.zeros((5, 2, 3)))
