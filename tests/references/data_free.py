"""Merging methods that need no data, in numpy float64, straight from their papers.

Task vectors are arrays of one shape; a reference takes them all and returns the merged one. What a
paper does over all parameters of a model is done here over the one array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def tall_mask(vectors: Sequence[Array], task: int, threshold: float) -> Array:
    """2405.07813: |tau_t| >= lambda_t |tau_MTL - tau_t|."""
    others = sum(vector for j, vector in enumerate(vectors) if j != task)
    return np.abs(vectors[task]) >= threshold * np.abs(others)


def consensus_ta(vectors: Sequence[Array], thresholds: Sequence[float], k: int) -> Array:
    """2405.07813: keep what at least k TALL masks hold."""
    votes = sum(tall_mask(vectors, t, lam).astype(int) for t, lam in enumerate(thresholds))
    return np.where(votes >= k, sum(vectors), 0.0)


def pcb(vectors: Sequence[Array], weights: Sequence[float], ratio: float) -> Array:
    """2410.02396: intra- and inter-balancing, drop and rescale, with min-max normalisation."""
    flat = np.stack([vector.ravel() for vector in vectors])
    number, size = flat.shape

    def softmax(x: Array) -> Array:
        powers = np.exp(x)
        return powers / powers.sum()

    def norm(x: Array) -> Array:
        return (x - x.min()) / (x.max() - x.min())

    kept = []
    for i in range(number):
        intra = softmax(number * norm(flat[i] * flat[i]))
        inter = sum(softmax(norm(flat[i] * flat[j])) for j in range(number))
        beta = intra * inter
        threshold = np.sort(beta)[size - max(1, int(ratio * size))]
        kept.append(np.where(beta >= threshold, beta, 0.0))
    beta = np.stack(kept)
    divisor = beta.sum(axis=0)
    summed = (beta * np.asarray(weights)[:, None] * flat).sum(axis=0)
    merged = np.divide(summed, divisor, out=np.zeros(size), where=divisor > 0)
    return merged.reshape(vectors[0].shape)


def magmax(vectors: Sequence[Array]) -> Array:
    """2407.06322: tau^p = tau_k^p with k = argmax_i |tau_i^p|."""
    stacked = np.stack(vectors)
    winner = np.abs(stacked).argmax(axis=0)
    return np.take_along_axis(stacked, winner[None], axis=0)[0]


def emr_unified(vectors: Sequence[Array]) -> Array:
    """2405.17461: sign of the sum, largest magnitude of that sign."""
    sign = np.sign(sum(vectors))
    agreeing = [np.where(np.sign(vector) == sign, np.abs(vector), 0.0) for vector in vectors]
    return sign * np.max(agreeing, axis=0)


def emr_expert(vectors: Sequence[Array], task: int) -> Array:
    """2405.17461: mask = [tau_t tau_uni > 0], rescaler = sum |tau_t| / sum |mask tau_uni|."""
    unified = emr_unified(vectors)
    mask = vectors[task] * unified > 0
    rescaler = np.abs(vectors[task]).sum() / np.abs(mask * unified).sum()
    return rescaler * mask * unified


def wudi_loss(merged: Array, vectors: Sequence[Array]) -> float:
    """2503.08099: sum_i |(tau_m - tau_i) tau_i^T|_F^2 / |tau_i|_F^2."""
    return float(sum(np.square((merged - tau) @ tau.T).sum() / (tau**2).sum() for tau in vectors))


def wudi_closed(vectors: Sequence[Array]) -> Array:
    """The minimum of least norm of `wudi_loss`, as one least-squares problem.

    merged [K_1 .. K_n] = [tau_1 K_1 .. tau_n K_n] with K_i = tau_i^T / |tau_i|_F.
    """
    inputs = [tau.T / np.linalg.norm(tau) for tau in vectors]
    targets = [tau @ k for tau, k in zip(vectors, inputs, strict=True)]
    left, right = np.concatenate(inputs, axis=1), np.concatenate(targets, axis=1)
    return np.linalg.lstsq(left.T, right.T, rcond=1e-6)[0].T


def wudi_adam(vectors: Sequence[Array], steps: int, rate: float) -> Array:
    """2503.08099: Adam (1412.6980) on `wudi_loss` from the sum."""
    merged = sum(vectors)
    mean, square = np.zeros_like(merged), np.zeros_like(merged)
    for t in range(1, steps + 1):
        gradient = sum(2.0 * (merged - tau) @ tau.T @ tau / (tau**2).sum() for tau in vectors)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unbiased = square / (1.0 - 0.999**t)
        merged = merged - rate * (mean / (1.0 - 0.9**t)) / (np.sqrt(unbiased) + 1e-8)
    return merged
