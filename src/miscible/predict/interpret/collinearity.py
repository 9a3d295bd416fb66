"""Metrics that repeat one another: whose weights say nothing by themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from miscible.predict.features import Scaling, feature_matrix, feature_names
from miscible.predict.pairs import Pairs

RANK = 1e-6
"""Part of the largest singular value below which a direction is none, but rounding: metrics often
come from single precision."""
REPEATS = 1 - 1e-9
"""|r| of two metrics that are one and the same up to rounding."""
EXPLAINED = 0.99
"""Share of a metric's variance that others explain, from which on it is told."""


@dataclass(frozen=True)
class Collinearity:
    """How far features can be told apart, over all measured pairs.

    Attributes:
        features, rank: how many there are, and how many are linearly independent.
        condition: largest over smallest singular value of the standardised features, of those
            that are not 0.
        groups: metrics that are the same up to sign, shift and scale.
        explained: metrics (outside of groups) of which others explain more than `EXPLAINED`.
    """

    features: int
    rank: int
    condition: float
    groups: tuple[tuple[str, ...], ...]
    explained: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "explained": dict(self.explained)}

    def sentences(self) -> list[str]:
        """Return what is to be said, a sentence each."""
        said = [
            f"{self.rank} of {self.features} features are linearly independent; condition number "
            f"{self.condition:.3g}."
        ]
        said += [
            f"{', '.join(group)} are one and the same: do not read their weights apart."
            for group in self.groups
        ]
        if self.explained:
            names = ", ".join(f"{name} ({share:.3f})" for name, share in self.explained)
            said.append(f"Nearly all of these is in other metrics (share of variance): {names}.")
        return said


def collinearity(pairs: Pairs) -> Collinearity:
    """Say how far the features of measured pairs can be told apart."""
    names = feature_names(pairs)
    features = feature_matrix(pairs, names)
    scaling = Scaling.of(features)
    used = np.flatnonzero(scaling.scale > 0)
    scaled = scaling.apply(features)[:, used]
    names = [names[n] for n in used]
    if not names:
        return Collinearity(0, 0, float("nan"), (), ())
    singular = np.linalg.svd(scaled, compute_uv=False)
    there = singular[singular > RANK * singular[0]]
    r = scaled.T @ scaled / len(scaled)
    groups: list[tuple[str, ...]] = []
    first: list[int] = []
    for n in range(len(names)):
        if any(abs(r[n, other]) > REPEATS for other in range(n)):
            continue
        first.append(n)
        twins = [m for m in range(n + 1, len(names)) if abs(r[n, m]) > REPEATS]
        if twins:
            groups.append(tuple(names[m] for m in (n, *twins)))
    explained = []
    if len(scaled) >= 2 * len(first):
        for n in first:
            others = scaled[:, [m for m in first if m != n]]
            if others.shape[1]:
                fit = others @ np.linalg.lstsq(others, scaled[:, n], rcond=RANK)[0]
                share = 1 - float(((scaled[:, n] - fit) ** 2).sum() / (scaled[:, n] ** 2).sum())
                if share > EXPLAINED:
                    explained.append((names[n], share))
    condition = float(there[0] / there[-1])
    return Collinearity(len(names), len(there), condition, tuple(groups), tuple(explained))
