"""Merges from calibration data as the papers define them, in float64 numpy.

Layers are y = x W' with W [out, in] and inputs X [tokens, in].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def fisher_merge(
    weights: Sequence[Array], fishers: Sequence[Array], shares: Sequence[float]
) -> Array:
    """2111.09832: theta = sum lambda_i F_i theta_i / sum lambda_i F_i, element by element."""
    above = sum(s * f * w for s, f, w in zip(shares, fishers, weights, strict=True))
    below = sum(s * f for s, f in zip(shares, fishers, strict=True))
    return np.asarray(above / below)


def softmax_fisher(weight: Array, inputs: Array, labels: Array) -> Array:
    """Return the diagonal empirical Fisher of softmax regression with logits x W'.

    d log p(y | x) / dW = (onehot(y) - p) x'.
    """
    logits = inputs @ weight.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gradients = (np.eye(len(weight))[labels] - p)[:, :, None] * inputs[:, None, :]
    return np.asarray((gradients**2).mean(axis=0))


def regmean_by_least_squares(
    weights: Sequence[Array], inputs: Sequence[Array], shares: Sequence[float]
) -> Array:
    """2212.09849: argmin_W sum_i lambda_i / n_i |X_i W' - X_i W_i'|^2, solved on the inputs."""
    rows, targets = [], []
    for weight, x, share in zip(weights, inputs, shares, strict=True):
        scale = np.sqrt(share / len(x))
        rows.append(scale * x)
        targets.append(scale * x @ weight.T)
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0].T


def reduced_gram(inputs: Array, ratio: float) -> Array:
    """2212.09849: alpha G + (1 - alpha) diag(G)."""
    gram = inputs.T @ inputs / len(inputs)
    return np.asarray(ratio * gram + (1 - ratio) * np.diag(np.diag(gram)))


def regmean(weights: Sequence[Array], inputs: Sequence[Array], ratio: float) -> Array:
    """The closed form of RegMean: W = (sum W_i G_i) (sum G_i)^-1."""
    grams = [reduced_gram(x, ratio) for x in inputs]
    above = sum(w @ g for w, g in zip(weights, grams, strict=True))
    return np.asarray(above @ np.linalg.inv(sum(grams)))


def regmean_plus_plus(
    networks: Sequence[Sequence[Array]], inputs: Sequence[Array], ratio: float
) -> list[Array]:
    """2508.03121 for relu networks without biases: merge in order, on merged layers' outputs."""
    merged = []
    streams = list(inputs)
    for layer in range(len(networks[0])):
        weight = regmean([network[layer] for network in networks], streams, ratio)
        merged.append(weight)
        streams = [np.maximum(x @ weight.T, 0) for x in streams]
    return merged


def mean_entropy(logits: Array) -> float:
    """Return the mean of -sum p log p over rows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    return float(-(p * np.log(p)).sum(axis=-1).mean())
