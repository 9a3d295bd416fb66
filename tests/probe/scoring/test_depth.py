"""Where along the layers: centre of gravity, best layer, distance of curves."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.probe.scoring.depth import best_layer, centre, centre_of_gravity, curve_distance


def bootstrap(items: np.ndarray, rng: np.random.Generator, count: int = 400) -> np.ndarray:
    draws = rng.multinomial(len(items), np.full(len(items), 1 / len(items)), count)
    return draws @ items / len(items)


def test_centre_of_gravity_by_hand() -> None:
    assert centre_of_gravity([0.5, 0.75, 0.75], 0.5) == 1.5
    assert centre_of_gravity([0.2, 0.5, 0.9], 0.5) == 2
    assert centre_of_gravity([1.0, 1.0, 1.0], [1.0, 0.0, 1.0]) == 1
    assert np.isnan(centre_of_gravity([0.5, 0.4], 0.5))
    assert np.isnan(centre_of_gravity([0.6, np.nan], 0.5))
    assert centre_of_gravity(np.ones((4, 3))).tolist() == [1, 1, 1, 1]


def test_the_centre_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    curve = np.array([0.5, 0.6, 0.9, 0.7])
    truth, held = float(centre_of_gravity(curve, 0.5)), 0
    for _ in range(200):
        items = (rng.random((300, 4)) < curve).astype(float)
        found = centre(items.mean(axis=0), bootstrap(items, rng), 0.5)
        held += found.interval.low <= truth <= found.interval.high
        assert found.undefined == 0
    assert held / 200 > 0.88  # four standard errors below .95


def test_a_curve_at_its_baseline_has_no_centre() -> None:
    found = centre(np.array([0.4, 0.5]), np.array([[0.5, 0.5], [0.5, 0.4], [0.5, 0.6]]), 0.5)
    assert np.isnan(found.layer) and np.isnan(found.interval).all()
    assert found.undefined == pytest.approx(2 / 3)


def test_a_clear_best_layer() -> None:
    rng = np.random.default_rng(0)
    items = (rng.random((400, 4)) < [0.5, 0.6, 0.9, 0.7]).astype(float)
    found = best_layer(items.mean(axis=0), bootstrap(items, rng))
    assert (found.layer, found.low, found.high, found.rivals) == (2, 2, 2, (2,))
    assert found.share.tolist() == [0, 0, 1, 0]


def test_a_plateau_has_rivals() -> None:
    rng = np.random.default_rng(0)
    rivals = np.zeros(5)
    for _ in range(200):
        items = (rng.random((300, 5)) < [0.5, 0.8, 0.8, 0.8, 0.5]).astype(float)
        found = best_layer(items.mean(axis=0), bootstrap(items, rng))
        assert found.layer in found.rivals and found.low <= found.layer <= found.high
        rivals[list(found.rivals)] += 1
    assert (rivals[1:4] > 0.85 * 200).all() and (rivals[[0, 4]] == 0).all()


def test_no_best_layer_of_nan() -> None:
    found = best_layer(np.array([0.5, np.nan]), np.ones((3, 2)))
    assert found.layer is None and found.rivals == () and np.isnan(found.share).all()


def test_distance_of_known_curves() -> None:
    first, second = np.array([0.5, 0.7, 0.9]), np.array([0.5, 0.9, 0.5])
    found = curve_distance(
        first, second, np.tile(first, (5, 1)), np.tile(second, (5, 1)), baseline=0.5
    )
    assert found.mean == pytest.approx(0.2 / 3)
    assert found.distance == pytest.approx(np.sqrt((0.2**2 + 0.4**2) / 3))
    assert found.shift == pytest.approx((0.2 + 0.8) / 0.6 - 1)
    assert found.mean_interval == pytest.approx((found.mean, found.mean))
    assert found.distance_interval == pytest.approx((found.distance, found.distance))


def test_models_of_other_depth_are_compared_at_relative_depth() -> None:
    first, second = np.linspace(0.5, 1, 4), np.linspace(0.5, 1, 7)
    found = curve_distance(first, second, np.tile(first, (3, 1)), np.tile(second, (3, 1)), 0.5)
    np.testing.assert_allclose([found.mean, found.distance, found.shift], 0, atol=1e-12)


def test_intervals_of_distances_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    first, second = np.array([0.5, 0.6, 0.8, 0.9]), np.array([0.5, 0.7, 0.7, 0.8])
    truth = np.array([
        (first - second).mean(), np.sqrt(((first - second) ** 2).mean()),
        centre_of_gravity(first, 0.4) - centre_of_gravity(second, 0.4),
    ])  # fmt: skip
    held, alarms = np.zeros(3), 0
    for _ in range(200):
        ones, others, again = (
            (rng.random((300, 4)) < curve).astype(float) for curve in (first, second, first)
        )
        weights = rng.multinomial(300, np.full(300, 1 / 300), 400) / 300
        means = [items.mean(axis=0) for items in (ones, others, again)]
        drawn = [weights @ items for items in (ones, others, again)]
        found = curve_distance(means[0], means[1], drawn[0], drawn[1], 0.4)
        lows, highs = np.transpose(
            [found.mean_interval, found.distance_interval, found.shift_interval]
        )
        held += (lows <= truth) & (truth <= highs)
        same = curve_distance(means[0], means[2], drawn[0], drawn[2], 0.4)
        alarms += same.distance_interval.low > 0
    assert (held / 200 > 0.88).all(), held / 200
    assert alarms / 200 < 0.11, alarms / 200


def test_resamples_must_be_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 resamples"):
        curve_distance(np.ones(2), np.ones(2), np.ones((3, 2)), np.ones((2, 2)))
