"""The geometric median: theorems of plane geometry, optimality, and streaming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.methods.direct import run, task_vectors
from miscible.merge.ops.median import median_coefficients


def median(points: list[tuple[float, ...]], weights: list[float] | None = None) -> np.ndarray:
    rows = np.array(points, dtype=np.float64)
    found = median_coefficients(rows @ rows.T, weights or [1.0] * len(rows))
    assert abs(sum(found) - 1.0) < 1e-12
    return np.asarray(found) @ rows


def cost(point: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> float:
    return float((np.linalg.norm(rows - point, axis=1) * weights).sum())


def test_the_middle_of_points_on_a_line() -> None:
    assert np.allclose(median([(0, 1), (1, 1), (9, 1)]), (1, 1), atol=1e-12)
    assert np.allclose(median([(9, 1), (0, 1), (1, 1), (5, 1), (2, 1)]), (2, 1), atol=1e-12)


def test_the_middle_of_a_segment_of_minima() -> None:
    assert np.allclose(median([(0, 1), (4, 1)]), (2, 1), atol=1e-12)
    assert np.allclose(median([(0, 1), (1, 1), (3, 1), (9, 1)]), (2, 1), atol=1e-12)
    assert np.allclose(median([(0, 1), (0, 1), (4, 1), (4, 1)]), (2, 1), atol=1e-12)


def test_the_diagonals_of_a_convex_quadrilateral_cross_in_it() -> None:
    # (0,0)-(4,4) and (4,0)-(1,3) lie on y = x and y = 4 - x.
    assert np.allclose(median([(0, 0), (4, 4), (4, 0), (1, 3)]), (2, 2), atol=1e-9)


def test_the_reflex_corner_of_a_quadrilateral() -> None:
    assert np.allclose(median([(0, 0), (4, 0), (0, 4), (1, 1)]), (1, 1), atol=1e-12)


def test_the_corner_of_an_angle_of_120_degrees_or_more() -> None:
    # Fermat's problem (Torricelli): the corner itself if its angle is 120 degrees or more.
    for degrees in (120.0, 150.0):
        angle = np.radians(degrees)
        corners = [(0.0, 0.0), (1.0, 0.0), (2 * np.cos(angle), 2 * np.sin(angle))]
        assert np.allclose(median(corners), (0, 0), atol=1e-12)


def test_all_sides_are_seen_under_120_degrees() -> None:
    corners = np.array([(0.0, 0.0), (3.0, 0.0), (1.0, 2.0)])
    rays = corners - median([tuple(corner) for corner in corners])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    assert np.allclose((rays @ rays.T)[np.triu_indices(3, 1)], -0.5, atol=1e-8)


def test_one_outlier_moves_the_median_little() -> None:
    points = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    near, far = median([*points, (2.0, 2.0)]), median([*points, (1e6, 1e6)])
    assert np.linalg.norm(near - far) < 1.0


def test_the_heavier_of_two_models_is_returned() -> None:
    one, two = task_vectors(2)
    assert run("geometric_median", [one, two], weight=[2.0, 1.0]).equal(one)
    assert torch.allclose(run("geometric_median", [one, two]), (one + two) / 2, rtol=1e-12)


def test_without_weight_nothing_is_merged() -> None:
    assert not run("geometric_median", task_vectors(), weight=[0.0, 0.0, 0.0]).any()


def test_copies_count_as_often_as_they_are_there() -> None:
    points = [(0.0, 0.0), (3.0, 0.0), (1.0, 2.0)]
    copied = median([*points, points[1], points[2], points[2]])
    assert np.allclose(copied, median(points, [1.0, 2.0, 3.0]), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 8),
    size=st.integers(1, 6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_no_other_point_is_better(seed: int, count: int, size: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, size)) * scale
    weights = generator.uniform(0.1, 2.0, count)
    found = np.asarray(median_coefficients(rows @ rows.T, list(weights)))
    assert (found >= 0).all()
    least = cost(found @ rows, rows, weights)
    others = [*rows, rows.mean(axis=0)]
    for size_of_step in (1e-4, 1e-2, 1.0):
        steps = generator.standard_normal((10, size)) * scale * size_of_step
        others += list(found @ rows + steps)
    assert all(least <= cost(other, rows, weights) * (1 + 1e-12) for other in others)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_vectors_that_differ_little(offset: float) -> None:
    points = np.array([(0.0, 0.0), (4.0, 4.0), (4.0, 0.0), (1.0, 3.0)]) + offset
    assert np.allclose(median([tuple(p) for p in points]) - offset, (2, 2), atol=1e-3)
