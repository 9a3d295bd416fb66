"""Covariances between directed merges: model i (*own*) after it was merged with j (*partner*).

Every source of variation is a known matrix times an unknown variance. Sources of the own and of
the partner's side are the model itself (any two merges that share it), its scalars, and its
profile; between the sides stand their products; then what is special to a pair, by category of
metrics. Products of covariances are those of products of effects (as between genotype and
environment: Jarquin et al., 2014); additive effects of both sides of a directed pair are those of
Hoff (1807.08038).

A source is named for its role: ``own ..``, ``partner ..``, ``own .. x partner ..``, ``pair ..``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from miscible.predict.pairs import Floats, Ints

MEDIANS = {"own": 1.0, "partner": 1.0, "products": 1.0, "pair": 0.1}
"""Prior medians of what the sources of a role add together, in units of the variance of outcomes.
What is special to a pair is expected to be less than what its models do with any partner."""


@dataclass(frozen=True)
class Similarity:
    """How alike T models are: float64 [T, T] each.

    Attributes:
        models: T.
        each: by each scalar, by its name; none if there are none or too many to be told apart.
        scalars: by all scalars, None if there are none.
        profile: by the general parts of the metrics that stand for what a model does.
        metrics: by the general parts of all metrics, each category counting the same.
    """

    models: int
    each: Mapping[str, Floats]
    scalars: Floats | None
    profile: Floats | None
    metrics: Floats | None

    @property
    def single(self) -> dict[str, Floats]:
        """What the effects of single models are explained by."""
        held = dict(self.each)
        if not held and self.scalars is not None:
            held["scalars"] = self.scalars
        return held if self.profile is None else {**held, "profile": self.profile}

    @property
    def known(self) -> Floats | None:
        """The mean of scalars and profile."""
        held = [part for part in (self.scalars, self.profile) if part is not None]
        return sum(held[1:], held[0]) / len(held) if held else None


@dataclass(frozen=True)
class Merges:
    """n directed merges.

    Attributes:
        own, partner: int64 [n], numbers of models.
        special: float64 [n, M] by category, standardised special parts of the pair's metrics.
    """

    own: Ints
    partner: Ints
    special: Mapping[str, Floats]


def covariances(left: Merges, right: Merges, alike: Similarity) -> dict[str, Floats]:
    """Return float64 [n, m] by source of variation."""
    same = np.eye(alike.models)

    def own(kernel: Floats) -> Floats:
        found: Floats = kernel[np.ix_(left.own, right.own)]
        return found

    def partner(kernel: Floats) -> Floats:
        found: Floats = kernel[np.ix_(left.partner, right.partner)]
        return found

    sources = {"own model": own(same), "partner model": partner(same)}
    for name, kernel in alike.single.items():
        sources[f"own {name}"], sources[f"partner {name}"] = own(kernel), partner(kernel)
    for name, by in (("metrics", alike.metrics), ("known", alike.known)):
        if by is not None:
            sources[f"own model x partner {name}"] = own(same) * partner(by)
            sources[f"own {name} x partner model"] = own(by) * partner(same)
            sources[f"own {name} x partner {name}"] = own(by) * partner(by)
    sources["pair"] = _same_pair(left, right)
    for category, values in left.special.items():
        sources[f"pair {category}"] = values @ right.special[category].T / values.shape[1]
    return sources


def medians(sources: Sequence[str]) -> Floats:
    """Return float64 [C], prior medians of the variances: a role's are shared out evenly."""
    roles = ["products" if " x " in name else name.partition(" ")[0] for name in sources]
    return np.array([MEDIANS[role] / roles.count(role) for role in roles])


def _same_pair(left: Merges, right: Merges) -> Floats:
    ends = [
        (np.minimum(side.own, side.partner), np.maximum(side.own, side.partner))
        for side in (left, right)
    ]
    same = (ends[0][0][:, None] == ends[1][0]) & (ends[0][1][:, None] == ends[1][1])
    found: Floats = same.astype(np.float64)
    return found
