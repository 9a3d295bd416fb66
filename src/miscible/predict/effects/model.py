"""The predictor ``effects``: crossed effects of both models, what explains them, and doubt.

A merge's loss on the task of i after merging with j is, on the scale of
`miscible.predict.effects.variances`, the sum of an effect of i, an effect of j, and of products
and pair effects, each a Gaussian process with the covariances of
`miscible.predict.effects.covariance`. A model that was never merged has the effects that its
scalars and metrics let expect, and wide intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from miscible.predict.contract import Fitted, Forecast, Predictor, predictor
from miscible.predict.effects import variances as stored
from miscible.predict.effects.covariance import medians
from miscible.predict.effects.terms import Terms, means
from miscible.predict.effects.variances import Scale, Variances, estimate
from miscible.predict.pairs import Examples, Floats, Pairs
from miscible.predict.threads import one_thread

PROFILE = ("activation",)
"""Categories whose metrics say what a model does. What merging does to a model that was never
merged is read from these and its scalars; other metrics enter in products and pair effects."""
MOST_DIRECTED = 1500
"""Directed merges beyond which pairs are learnt from by their means alone."""
MOST_DOUBT = 4.0
"""Largest variance of the logarithm of a loss: with more, it may be anything as well."""
AT_ONCE = 256
"""Pairs that are forecast at once, to bound memory."""


@predictor("effects")
@dataclass(frozen=True)
class Effects(Predictor):
    """Crossed effects of both models, explained by scalars and metrics (a Gaussian process).

    Attributes:
        profile: categories of metrics; see `PROFILE`. All of them where a table has none of these.
        shared: whether sets that are fitted at once all take the variances of the first.
    """

    pools: ClassVar[bool] = True
    profile: tuple[str, ...] = PROFILE
    shared: bool = False

    def fit(self, train: Examples, *, seed: int) -> Fitted:
        """Estimate variances; *seed* changes nothing.

        Raises:
            MiscibleError: if all outcomes are the same.
        """
        return self.fit_many([train], seeds=[seed])[0]

    def fit_many(self, trains: Sequence[Examples], *, seeds: Sequence[int]) -> list[Fitted]:
        """Fit sets of much the same merges, each from where the one before it ended."""
        found: list[Fitted] = []
        start: FittedEffects | None = None
        with one_thread():
            for train in trains:
                start = self._fit(train, start)
                found.append(start)
        return found

    def _fit(self, train: Examples, start: FittedEffects | None) -> FittedEffects:
        terms = Terms.of(train.pairs, self.profile)
        directed = bool(np.isfinite(train.directed).all()) and 2 * len(train) <= MOST_DIRECTED
        outcome = train.directed.T.ravel() if directed else train.mean
        between = terms.between(train.pairs, train.pairs)
        sources = between if directed else means(between)
        near = start.variances if start is not None and start.sources == tuple(sources) else None
        scale, matrices = Scale.of(outcome), np.stack(list(sources.values()))
        if near is not None and self.shared:
            variances = near
        else:
            variances = estimate(scale.forward(outcome), matrices, medians(list(sources)), near)
        found = FittedEffects(
            terms, train.pairs, directed, outcome, tuple(sources), scale, variances
        )
        # With covariances at hand already, as `_posterior` would find it.
        found.__dict__["_posterior"] = found.solved(matrices)
        return found

    def quick(self) -> Predictor:
        """Return the predictor that estimates variances once for all folds of a table."""
        return replace(self, shared=True)

    def restore(self, held: Mapping[str, Any]) -> FittedEffects:
        """Return what was written."""
        return FittedEffects.from_dict(held)


@dataclass(frozen=True)
class FittedEffects(Fitted):
    """The effects of the models in training, and what others are expected to have.

    Attributes:
        terms: what is known of models and pairs.
        pairs: in training.
        directed: whether the scores on both tasks were learnt from, or their means.
        outcome: float64 [2 n] (first models, then second ones) or [n].
        sources: names of the C sources of variation.
        scale: on which effects add up.
        variances: how much each contributes.
    """

    terms: Terms
    pairs: Pairs
    directed: bool
    outcome: Floats
    sources: tuple[str, ...]
    scale: Scale
    variances: Variances

    def predict(self, pairs: Pairs) -> Forecast:
        """Return the outcome's median and standard deviation.

        Both scores of a merge lie below the ceiling by losses whose logarithms are Gaussian. A
        median beyond all outcomes in training is drawn back to the nearest of these.
        """
        with one_thread():
            parts = [
                self._predict(pairs.take(np.arange(at, min(at + AT_ONCE, len(pairs)))))
                for at in range(0, len(pairs), AT_ONCE)
            ]
        if not parts:
            return Forecast(np.zeros(0), np.zeros(0))
        mean, sd = (np.concatenate([getattr(p, key) for p in parts]) for key in ("mean", "sd"))
        held = [part.directed for part in parts if part.directed is not None]
        return Forecast(mean, sd, np.concatenate(held) if held else None)

    def _predict(self, pairs: Pairs) -> Forecast:
        across, within = self._sources(pairs, self.pairs), self._sources(pairs, pairs)
        factor, weights = self._posterior
        to_training = self.variances.matrix(across)
        middle = to_training @ weights
        covariance = self.variances.matrix(within)
        covariance -= to_training @ cho_solve(factor, to_training.T)
        covariance[np.diag_indices(len(covariance))] += self.variances.noise
        seen = np.log(self.scale.ceiling - self.outcome)
        middle = np.clip(self.scale.loss_log(middle), seen.min(), seen.max())
        covariance = np.clip(covariance * self.scale.spread**2, -MOST_DOUBT, MOST_DOUBT)
        median = self.scale.ceiling - np.exp(middle)
        loss = np.exp(middle + np.diag(covariance) / 2)
        spread = np.outer(loss, loss) * np.expm1(covariance)
        if not self.directed:
            return Forecast(median, np.sqrt(np.diag(spread)))
        n = len(pairs)
        variance = np.diag(spread)[:n] + np.diag(spread)[n:] + 2 * np.diag(spread[:n, n:])
        directed = median.reshape(2, n).T
        return Forecast(directed.mean(axis=1), np.sqrt(np.maximum(variance, 0.0)) / 2, directed)

    def _sources(self, left: Pairs, right: Pairs) -> Floats:
        found = self.terms.between(left, right)
        held = found if self.directed else means(found)
        return np.stack([held[name] for name in self.sources])

    @cached_property
    def _posterior(self) -> tuple[tuple[Floats, bool], Floats]:
        return self.solved(self._sources(self.pairs, self.pairs))

    def solved(self, covariances: Floats) -> tuple[tuple[Floats, bool], Floats]:
        """Return the factor of the training covariance, of [C, n, n], and weights [n]."""
        matrix = self.variances.matrix(covariances)
        matrix[np.diag_indices(len(matrix))] += self.variances.noise
        factor = cho_factor(matrix, lower=True)
        return factor, cho_solve(factor, self.scale.forward(self.outcome))

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of each source, and of noise, in the variance of the training merges."""
        held = self._sources(self.pairs, self.pairs)
        spread = [
            float(v * (np.trace(k) / len(k) - k.mean()))
            for v, k in zip(self.variances.sources, held, strict=True)
        ]
        total = sum(spread) + self.variances.noise
        found = dict(zip(self.sources, (part / total for part in spread), strict=True))
        return {**found, "noise": self.variances.noise / total}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: what was learnt from, and the variances."""
        pairs = self.pairs
        return {
            "terms": self.terms.as_dict(), "directed": self.directed,
            "outcome": self.outcome.tolist(), "sources": list(self.sources),
            "variances": stored.as_dict(self.scale, self.variances), "shares": dict(self.shares),
            "pairs": {
                "names": [list(names) for names in pairs.names()],
                "metrics": list(pairs.metric_names),
                "values": [[_number(v) for v in row] for row in pairs.metrics.tolist()],
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> FittedEffects:
        """Return what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not that.
        """
        terms = Terms.from_dict(held["terms"])
        pairs = _pairs(held["pairs"])
        directed, outcome = bool(held["directed"]), np.asarray(held["outcome"], dtype=np.float64)
        sources = tuple(str(name) for name in held["sources"])
        scale, variances = stored.from_dict(held["variances"])
        found = cls(terms, pairs, directed, outcome, sources, scale, variances)
        if len(outcome) != len(pairs) * (2 if directed else 1):
            raise ValueError("there are not as many outcomes as pairs")
        if len(found.variances.sources) != len(sources):
            raise ValueError("there are not as many variances as sources")
        return found


def _pairs(held: Mapping[str, Any]) -> Pairs:
    names = [(str(a), str(b)) for a, b in held["names"]]
    models = tuple(dict.fromkeys(name for pair in names for name in pair))
    place = {name: n for n, name in enumerate(models)}
    metrics = tuple(str(name) for name in held["metrics"])
    values = np.array(
        [[np.nan if v is None else float(v) for v in row] for row in held["values"]]
    ).reshape(len(names), len(metrics))
    first, second = (
        np.array([place[pair[side]] for pair in names], dtype=np.int64) for side in (0, 1)
    )
    return Pairs(models, first, second, metrics, values, (), np.zeros((len(models), 0)))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
