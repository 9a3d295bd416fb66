"""Means on the sphere, on whole vectors in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def linear(x: Sequence[np.ndarray], weight: Sequence[float], normalize: bool = True) -> np.ndarray:
    """Sum of w x, over the sum of w."""
    total = sum(w * tensor for w, tensor in zip(weight, x, strict=True))
    return total / sum(weight) if normalize else total


def slerp(x: np.ndarray, y: np.ndarray, t: float, colinear: float = 0.9995) -> np.ndarray:
    """Shoemake, SIGGRAPH 1985, with the angle between x and y, on the raw vectors."""
    cosine = np.sum(x * y) / (np.linalg.norm(x) * np.linalg.norm(y))
    if abs(cosine) > colinear:
        return (1 - t) * x + t * y
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / np.sin(angle)


def multislerp(x: Sequence[np.ndarray], weight: Sequence[float]) -> np.ndarray:
    """Exponential map at the mean direction of the weighted sum of projected units."""
    norms = [np.linalg.norm(tensor) for tensor in x]
    units = [tensor / norm for tensor, norm in zip(x, norms, strict=True)]
    mean = sum(w * u for w, u in zip(weight, units, strict=True))
    mean = mean / np.linalg.norm(mean)
    step = sum(w * (u - np.sum(u * mean) * mean) for w, u in zip(weight, units, strict=True))
    size = np.linalg.norm(step)
    point = np.cos(size) * mean + np.sinc(size / np.pi) * step
    return point * sum(w * norm for w, norm in zip(weight, norms, strict=True))


def karcher_gradient(direction: np.ndarray, x: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of the logarithms of x at *direction*; zero at the Karcher mean."""
    point = direction / np.linalg.norm(direction)
    total = np.zeros_like(point)
    for tensor in x:
        unit = tensor / np.linalg.norm(tensor)
        angle = np.arccos(np.clip(np.sum(unit * point), -1, 1))
        tangent = unit - np.cos(angle) * point
        total += angle * tangent / np.linalg.norm(tangent)
    return total


def model_stock(d: Sequence[np.ndarray]) -> np.ndarray:
    """2403.19522: the mean delta times N c / (1 + (N - 1) c), c the mean cosine of all pairs."""
    pairs = [(i, j) for i in range(len(d)) for j in range(i)]
    cosine = np.mean(
        [np.sum(d[i] * d[j]) / (np.linalg.norm(d[i]) * np.linalg.norm(d[j])) for i, j in pairs]
    )
    return len(d) * cosine / (1 + (len(d) - 1) * cosine) * np.mean(d, axis=0)
