"""Methods that choose between models element by element, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sce(d: Sequence[np.ndarray], select_topk: float = 1.0) -> np.ndarray:
    """SCE (2408.07990): select by variance, calculate weights, erase the minority sign."""
    stacked = np.stack(d)
    if select_topk < 1:
        variance = stacked.var(axis=0).astype(np.float32)  # so that equals are equal
        count = int(select_topk * np.count_nonzero(variance))
        chosen = np.argsort(-variance.ravel(), kind="stable")[:count]
        mask = np.zeros(variance.size)
        mask[chosen] = 1
        stacked = stacked * mask.reshape(variance.shape)
    weight = np.array([np.mean(delta**2) for delta in stacked])
    weight = weight / weight.sum()
    result = np.zeros(stacked.shape[1:])
    for place in np.ndindex(result.shape):
        values = stacked[(slice(None), *place)]
        agree = values > 0 if values.sum() >= 0 else values < 0
        if agree.any():
            result[place] = (weight[agree] @ values[agree]) / weight[agree].sum()
    return result


def ram(d: Sequence[np.ndarray], epsilon: float, r: float = 0.0, alpha: float = 0.0) -> np.ndarray:
    """RAM and RAM+ (2601.13572): own changes whole and enlarged, shared ones averaged."""
    stacked = np.stack(d)
    changed = np.abs(stacked) > epsilon
    owners = changed.sum(axis=0)
    result = np.zeros(stacked.shape[1:])
    for delta, mask in zip(stacked, changed, strict=True):
        own, joint = mask & (owners == 1), mask & (owners > 1)
        ratio = joint.sum() / own.sum() if own.any() else 0.0
        result[own] += delta[own] * (1 + r * np.clip(ratio, 0, alpha))
        result[joint] += delta[joint] / owners[joint]
    return result


def nearswap(d: np.ndarray, t: float) -> np.ndarray:
    """The difference, times t / |d| where that is below 1."""
    return np.array([x * np.clip(t / max(abs(x), 1e-6), 0, 1) for x in d.ravel()]).reshape(d.shape)


def arcee_fusion(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x where |x - b| KL(softmax x, softmax b) of its row is an outlier, else b."""
    p, q = (np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True) for z in (x, b))
    importance = np.abs(x - b) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    low, middle, high = np.quantile(importance, [0.25, 0.5, 0.75], method="lower")
    return np.where(importance >= middle + 1.5 * (high - low), x, b)
