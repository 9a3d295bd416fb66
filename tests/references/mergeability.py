"""Mergeability metrics of weights, straight from their definitions: whole models, full SVDs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

State = Mapping[str, torch.Tensor]


def task_vectors(base: State, one: State, two: State) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (name, tau_1, tau_2) of every floating-point tensor, float64."""
    return [
        (name, (one[name].double() - held.double()).numpy(),
         (two[name].double() - held.double()).numpy())
        for name, held in base.items() if held.is_floating_point()
    ]  # fmt: skip


def metrics(base: State, one: State, two: State) -> dict[str, float]:
    """Return all metrics of section 1 of 2601.22285 that read weights, and the sign conflicts."""
    tensors = task_vectors(base, one, two)
    first = np.concatenate([a.ravel() for _, a, _ in tensors])
    second = np.concatenate([b.ravel() for _, _, b in tensors])
    a, b = np.linalg.norm(first), np.linalg.norm(second)
    cosine = first @ second / (a * b)
    s1, s2 = np.linalg.svd(np.stack([first, second]), compute_uv=False)
    rank = _effective_rank(first, second)
    layers = [(x.ravel(), y.ravel()) for _, x, y in tensors]
    layers = [(x, y) for x, y in layers if min(np.linalg.norm(x), np.linalg.norm(y)) >= 1e-10]
    weights = [np.linalg.norm(x) + np.linalg.norm(y) for x, y in layers]
    layerwise = np.average([_effective_rank(x, y) for x, y in layers], weights=weights)
    product = first * second
    return {
        "task_vector_cosine_similarity": cosine,
        "task_vector_l2_distance": np.linalg.norm(first - second),
        "task_vector_dot_product": first @ second,
        "weight_space_angle": math.degrees(math.acos(np.clip(cosine, -1, 1))),
        "task_vector_magnitude_ratio": min(a, b) / max(a, b),
        "effective_rank": rank,
        "effective_rank_mergeability_score": np.clip(2 - rank, 0, 1),
        "stable_rank": (s1 + s2) ** 2 / (s1**2 + s2**2),
        "spectral_gap": (s1 - s2) / s1,
        "singular_value_ratio": s2 / s1,
        "layerwise_effective_rank": layerwise,
        "layerwise_effective_rank_mergeability_score": np.clip(2 - layerwise, 0, 1),
        "sign_conflict_rate": (product < 0).sum() / (product != 0).sum(),
        "mass_weighted_sign_conflict": -product[product < 0].sum() / np.abs(product).sum(),
        "signed_effective_rank_mergeability_score": np.copysign(2 - rank, cosine),
        "smaller_task_vector_norm": min(a, b),
        "larger_task_vector_norm": max(a, b),
        **_subspaces([(x, y) for _, x, y in tensors if x.ndim == 2]),
    }


def _subspaces(matrices: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one, two in matrices:
        u1, s1, v1 = np.linalg.svd(one, full_matrices=False)
        u2, s2, v2 = np.linalg.svd(two, full_matrices=False)
        k = min(10, len(s1))
        p, q = s1[:100] / s1.sum(), s2[:100] / s2.sum()
        top, bottom = v1[:k] @ v2[:k].T, v1[-k:] @ v2[-k:].T
        values = {
            "singular_value_overlap": p @ q / (np.linalg.norm(p) * np.linalg.norm(q)),
            "subspace_overlap": np.linalg.norm(u1[:, :k].T @ u2[:, :k]) / k,
            "right_subspace_overlap_top_k": np.linalg.norm(top) / math.sqrt(k),
            "right_subspace_overlap_bottom_k": np.linalg.norm(bottom) / math.sqrt(k),
            "interaction_matrix_overlap_top_k":
                np.mean(np.linalg.svd(top, compute_uv=False) ** 2),
            "interaction_matrix_overlap_bottom_k":
                np.mean(np.linalg.svd(bottom, compute_uv=False) ** 2),
        }  # fmt: skip
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _effective_rank(first: np.ndarray, second: np.ndarray) -> float:
    values = np.linalg.svd(np.stack([first, second]), compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
