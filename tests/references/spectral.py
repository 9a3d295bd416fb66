"""Spectral merging methods as their papers write them, with full SVDs in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Matrices = Sequence[np.ndarray]


def svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u, s and v of the thin decomposition."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u, s, vt.T


def polar(matrix: np.ndarray) -> np.ndarray:
    """Return u v^T: the solution of the orthogonal Procrustes problem."""
    u, _, v = svd(matrix)
    return u @ v.T


def tsv(d: Matrices) -> np.ndarray:
    """TSV-Merge (2412.00081), algorithm 1."""
    parts = [svd(delta) for delta in d]
    kept = min(d[0].shape) // len(d)
    u = np.hstack([u[:, :kept] for u, _, _ in parts])
    v = np.hstack([v[:, :kept] for _, _, v in parts])
    s = np.concatenate([s[:kept] for _, s, _ in parts])
    return polar(u) @ np.diag(s) @ polar(v).T


def iso_c(d: Matrices) -> np.ndarray:
    """Iso-C (2502.04959), section 4.1."""
    u, s, v = svd(sum(d))
    return s.mean() * u @ v.T


def iso_cts(d: Matrices, common: float = 0.8) -> np.ndarray:
    """Iso-CTS (2502.04959), section 4.2: common directions, then each task's own beyond them."""
    rank = min(d[0].shape)
    own = round((rank - int(common * rank)) / len(d))
    shared = rank - own * len(d)
    u, s, v = svd(sum(d))
    left, values, right = [u[:, :shared]], [s[:shared]], [v[:, :shared]]
    for delta in d:
        rest = delta - u[:, :shared] @ u[:, :shared].T @ delta
        ui, si, vi = svd(rest)
        left.append(ui[:, :own])
        values.append(si[:own])
        right.append(vi[:, :own])
    mean = np.concatenate(values).mean()
    return mean * polar(np.hstack(left)) @ polar(np.hstack(right)).T


def star(d: Matrices, eta: float = 0.4) -> np.ndarray:
    """STAR (2502.10339): least rank with a share of the nuclear norm, rescaled, averaged."""
    total = np.zeros(d[0].shape)
    for delta in d:
        u, s, v = svd(delta)
        rank = next(k for k in range(1, len(s) + 1) if s[:k].sum() >= eta * s.sum())
        scale = s.sum() / s[:rank].sum()
        total += scale * u[:, :rank] @ np.diag(s[:rank]) @ v[:, :rank].T
    return total / len(d)


def boosted(merged: np.ndarray, beta: float) -> np.ndarray:
    """Subspace Boosting (2506.16506), algorithm 1."""
    u, s, v = svd(merged)
    cut = next(k for k in range(len(s)) if s[: k + 1].sum() >= beta * s.sum())
    return u @ np.diag(np.maximum(s, s[cut])) @ v.T


def knots(d: Matrices, merge: Callable[[Matrices], np.ndarray]) -> np.ndarray:
    """KnOTS (2410.19735), section 4, with the singular values within the parts."""
    u, s, v = svd(np.hstack(d))
    keep = s > 1e-5 * s[0]
    width = d[0].shape[1]
    turned = (s * v)[:, keep].T
    parts = [turned[:, i * width : (i + 1) * width] for i in range(len(d))]
    return u[:, keep] @ merge(parts)


def core_space(b: Matrices, a: Matrices, merge: Callable[[Matrices], np.ndarray]) -> np.ndarray:
    """Core Space (2509.17786), section 3: matrices b_i a_i in the bases of the stacked factors."""
    u, su, _ = svd(np.hstack(b))
    _, sv, v = svd(np.vstack(a))
    u, v = u[:, su > 1e-5 * su[0]], v[:, sv > 1e-5 * sv[0]]
    core = merge([u.T @ bi @ ai @ v for bi, ai in zip(b, a, strict=True)])
    return u @ core @ v.T
