"""The compiled parts of a step against their definitions."""

from __future__ import annotations

import numpy as np

from miscible.probe.fit import softmax_kernels


def test_exponentials_to_the_last_digits_but_one() -> None:
    values = np.linspace(-87, 0, 200_001).astype(np.float32)
    found = values.copy()
    softmax_kernels._exponentiate(found)
    np.testing.assert_allclose(found, np.exp(values.astype(np.float64)), rtol=3e-7)


def test_derivatives_are_those_of_a_softmax_whatever_the_size_of_logits() -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(4, 30)) * 50).astype(np.float32)
    labels = rng.integers(4, size=30)
    residual, curvature = np.empty_like(logits), np.empty(4, np.float32)
    workspace, chances = np.empty((4, 30), np.float32), np.empty_like(logits)
    softmax_kernels.differentiate(logits, labels, chances, workspace, residual, curvature)
    wide = logits.astype(np.float64)
    expected = np.exp(wide - wide.max(axis=0))
    expected /= expected.sum(axis=0)
    np.testing.assert_allclose(curvature, (expected * (1 - expected)).mean(axis=1), atol=1e-6)
    expected[labels, np.arange(30)] -= 1
    np.testing.assert_allclose(residual, expected, atol=1e-6)


def test_the_direction_is_that_of_the_inverse_update_of_bfgs() -> None:
    rng = np.random.default_rng(1)
    size, pairs = 6, 4
    root = rng.normal(size=(size, size))
    hessian = root @ root.T + np.eye(size)
    diagonal = np.diag(hessian).astype(np.float32)
    steps = rng.normal(size=(pairs, size))
    changes = steps @ hessian
    count = 6  # the newest pair is that of place 1, the oldest of place 2
    order = [2, 3, 0, 1]
    newest_step, newest = steps[1], changes[1]
    inverse = np.diag(newest_step @ newest / (newest @ (newest / diagonal)) / diagonal)
    for at in order:
        step, change = steps[at], changes[at]
        away = np.eye(size) - np.outer(step, change) / (step @ change)
        inverse = away @ inverse @ away.T + np.outer(step, step) / (step @ change)
    gradient = rng.normal(size=size)
    direction = np.empty(size, np.float32)
    softmax_kernels.descend(
        gradient.astype(np.float32),
        diagonal,
        steps.astype(np.float32),
        changes.astype(np.float32),
        (steps * changes).sum(axis=1).astype(np.float32),
        count,
        direction,
    )
    np.testing.assert_allclose(direction, -inverse @ gradient, rtol=1e-3, atol=1e-3)


def test_what_is_remembered_is_true_of_another_penalty() -> None:
    rng = np.random.default_rng(2)
    steps, hessian = rng.normal(size=(3, 5)).astype(np.float32), np.diag(np.arange(1.0, 6))
    changes = (steps @ hessian).astype(np.float32)
    products = (steps * changes).sum(axis=1)
    softmax_kernels.shift(steps, changes, products, 9, np.float32(0.5), 4)  # the last one is free
    more = hessian + np.diag([0.5, 0.5, 0.5, 0.5, 0])
    np.testing.assert_allclose(changes, steps @ more, rtol=1e-5)
    np.testing.assert_allclose(products, (steps * (steps @ more)).sum(axis=1), rtol=1e-5)


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
        length, norm = softmax_kernels.follow(
            change, ahead, image, penalty, diagonal, step, left, length
        )
    assert 0 <= norm < 1e-4
    np.testing.assert_allclose(step, np.linalg.solve(hessian, right), rtol=1e-3, atol=1e-4)


def test_a_direction_without_curvature_goes_nowhere() -> None:
    change, flat = np.zeros((2, 3), np.float32), np.zeros(6, np.float32)
    step, ones = np.zeros(6, np.float32), np.ones(6, np.float32)
    told = softmax_kernels.follow(
        change, flat, flat.copy(), np.float32(0), ones, step, ones.copy(), np.float32(1)
    )
    assert told == (0, -1) and (step == 0).all()
