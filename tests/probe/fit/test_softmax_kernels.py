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
