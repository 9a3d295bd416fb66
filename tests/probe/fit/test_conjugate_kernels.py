"""Conjugate gradients against a solver."""

from __future__ import annotations

import numpy as np

from miscible.probe.fit import conjugate_kernels


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_variables() -> None:
    rng = np.random.default_rng(2)
    classes, rows, width, penalty = 3, 12, 2, np.float32(0.5)
    features = rng.normal(size=(rows, width)).astype(np.float32)
    change = np.empty((classes, rows), np.float32)

    def filled(ahead: np.ndarray, image: np.ndarray) -> None:
        # A loss of half the squared scores: the residual changes as the scores do.
        weights = ahead[: classes * width].reshape(classes, width)
        change[:] = weights @ features.T + ahead[classes * width :, None]
        image[: classes * width] = (change @ features).ravel()

    size = classes * (width + 1)
    hessian = np.empty((size, size))
    for k in range(size):
        unit, image = np.zeros(size, np.float32), np.zeros(size, np.float32)
        unit[k] = 1
        filled(unit, image)
        image[: classes * width] += penalty * unit[: classes * width]
        image[classes * width :] = change.sum(axis=1)
        hessian[:, k] = image
    right = rng.normal(size=size)
    diagonal = np.diag(hessian).astype(np.float32)
    left, step, image = right.astype(np.float32), np.zeros(size, np.float32), np.zeros_like(unit)
    ahead = left / diagonal
    length = np.float32(left @ ahead)
    for _ in range(size):
        filled(ahead, image)
        length, norm = conjugate_kernels.follow(
            change, ahead, image, penalty, diagonal, step, left, length
        )
    assert 0 <= norm < 1e-4
    np.testing.assert_allclose(step, np.linalg.solve(hessian, right), rtol=1e-3, atol=1e-4)


def test_a_direction_without_curvature_goes_nowhere() -> None:
    change, flat = np.zeros((2, 3), np.float32), np.zeros(6, np.float32)
    step, ones = np.zeros(6, np.float32), np.ones(6, np.float32)
    told = conjugate_kernels.follow(
        change, flat, flat.copy(), np.float32(0), ones, step, ones.copy(), np.float32(1)
    )
    assert told == (0, -1) and (step == 0).all()
