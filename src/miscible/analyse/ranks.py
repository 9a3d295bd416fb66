"""Do behaviour and internals rank the models alike?

Rank correlations over the models of a study, with the caveats that such a study needs: its models
are few, and those of one merge method are kin. Intervals therefore resample families, not models,
and the null exchanges whole families: each family receives the internals of a random other one,
its models a random draw of that one's models (all of them before any is repeated). Families of
unequal size keep this test near its level even where models of one family are near copies (in
simulations 2 to 7 % at 5 %), where exchanging single models claims up to three times too often.
What none of this can mend is that merges of two parents lie near one line between them: a high
correlation in such a study says that both measures see that line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from miscible.analyse.collapse import collapsed_merges
from miscible.analyse.correlation import kendall, rearranged, spearman
from miscible.analyse.multiplicity import benjamini_hochberg
from miscible.analyse.panel import Floats, LayerChoice
from miscible.analyse.resample import Resampling, interval
from miscible.analyse.taxonomy import Unit, by_unit, distinct_metrics, reduce_layers

if TYPE_CHECKING:
    from miscible.analyse.tables import StudyTables

FEWEST_MODELS = 5
FEWEST_FAMILIES = 3
PERMUTATIONS = 1999


@dataclass(frozen=True, slots=True)
class RankRow:
    """One rank correlation; the columns of `rank_correlations`.

    Attributes:
        dataset, metric: of behaviour.
        unit, unit_metric: of internals (a data set, phenomenon or competence).
        layer: which layers stand for internals.
        collapsed: whether collapsed merges are among the models.
        n_models, n_families: what the correlation is over.
        tau, tau_low, tau_high, tau_p: Kendall's tau-b, positive when better goes with better, its
            family-bootstrap interval, and two-sided p from exchanged families.
        rho, rho_low, rho_high, rho_p: the same for Spearman's rho.
        tau_p_models: p of tau if all models were exchangeable; too small where families differ.
        tau_p_bh: *tau_p* corrected over all pairs by Benjamini-Hochberg.
        reason: why there is no correlation, else empty.
    """

    dataset: str
    metric: str
    unit: str
    unit_metric: str
    layer: str
    collapsed: bool
    n_models: int
    n_families: int
    tau: float = np.nan
    tau_low: float = np.nan
    tau_high: float = np.nan
    tau_p: float = np.nan
    rho: float = np.nan
    rho_low: float = np.nan
    rho_high: float = np.nan
    rho_p: float = np.nan
    tau_p_models: float = np.nan
    tau_p_bh: float = np.nan
    reason: str = ""


COLUMNS = [field.name for field in fields(RankRow)]


def rank_correlations(
    tables: StudyTables,
    *,
    unit: Unit = "phenomenon",
    layer: LayerChoice = "mean",
    options: Resampling | None = None,
) -> pd.DataFrame:
    """Return a `RankRow` for each behaviour score and unit of internals.

    If merges have collapsed there are two rows a pair, with and without them.

    Args:
        tables: the study.
        unit: what internals are averaged over.
        layer: which layer stands for all; not ``each``.
        options: resampling.

    Raises:
        ValueError: if *layer* is ``each``.
    """
    if layer == "each":
        raise ValueError("a correlation over models needs one layer: last, best or mean.")
    options = options or Resampling()
    scores = tables.scores
    behaviour = _matrix(scores[scores["domain"] == "behaviour"], ["dataset", "metric"])
    inside = distinct_metrics(scores[scores["domain"] == "internals"])
    inside = reduce_layers(inside, layer)
    internals = _matrix(by_unit(inside, unit), ["unit", "metric"]) if len(inside) else {}
    broken = collapsed_merges(tables)
    models = list(tables.models["model"])
    rows: list[RankRow] = []
    for with_collapsed in (True, False) if broken else (True,):
        held = [name for name in models if with_collapsed or name not in broken]
        schemes = _Schemes(tables.family, options)
        for outer, x in behaviour.items():
            for inner, y in internals.items():
                row = _correlate(x.reindex(held), y.reindex(held), schemes)
                rows.append(RankRow(*outer, *inner, layer, with_collapsed, **row))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if not frame.empty:
        grouped = frame.groupby("collapsed")["tau_p"]
        frame["tau_p_bh"] = grouped.transform(lambda p: benjamini_hochberg(p.to_numpy()))
    return frame


class _Draws(NamedTuple):
    weights: Floats
    exchanged: NDArray[np.intp]
    free: NDArray[np.intp]


class _Schemes:
    """Resampling weights and permutations, made once for each set of models."""

    def __init__(self, family: Mapping[str, str], options: Resampling) -> None:
        self.family, self.options = family, options
        self._held: dict[tuple[str, ...], _Draws] = {}

    def of(self, models: Sequence[str]) -> _Draws:
        key = tuple(models)
        if key not in self._held:
            codes, _ = pd.factorize(np.array([self.family[name] for name in models], dtype=object))
            rng = self.options.rng("ranks")
            n = int(codes.max()) + 1
            counts = rng.multinomial(n, [1 / n] * n, size=self.options.resamples)
            families = [np.flatnonzero(codes == code) for code in range(n)]
            exchanged = np.stack([_exchange(families, rng) for _ in range(PERMUTATIONS)])
            free = rng.permuted(np.tile(np.arange(len(models)), (PERMUTATIONS, 1)), axis=1)
            self._held[key] = _Draws(counts[:, codes].astype(float), exchanged, free)
        return self._held[key]


def _exchange(families: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> NDArray[np.intp]:
    order = np.empty(sum(map(len, families)), dtype=np.intp)
    for own, other in zip(families, rng.permutation(len(families)), strict=True):
        given = families[other]
        rounds = -(-len(own) // len(given))
        order[own] = np.concatenate([rng.permutation(given) for _ in range(rounds)])[: len(own)]
    return order


def _matrix(scores: pd.DataFrame, keys: list[str]) -> dict[tuple[str, str], pd.Series]:
    sign = np.where(scores["higher_is_better"], 1.0, -1.0)
    aligned = scores.assign(aligned=sign * scores["estimate"])
    return {
        (str(key[0]), str(key[1])): held.drop_duplicates("model").set_index("model")["aligned"]
        for key, held in aligned.groupby(keys, sort=True)
    }


def _correlate(x: pd.Series, y: pd.Series, schemes: _Schemes) -> dict[str, Any]:
    both = pd.DataFrame({"x": x, "y": y}).dropna()
    models = [str(name) for name in both.index]
    n_families = len({schemes.family[name] for name in models})
    held: dict[str, Any] = {"n_models": len(models), "n_families": n_families}
    if len(models) < FEWEST_MODELS:
        return held | {"reason": f"only {len(models)} models have both scores"}
    a, b = both["x"].to_numpy(dtype=float), both["y"].to_numpy(dtype=float)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        side = "behaviour" if np.ptp(a) == 0 else "internals"
        return held | {"reason": f"{side} is the same for all models"}
    draws, one = schemes.of(models), np.ones((1, a.size))
    null = rearranged(b, a, draws.exchanged)
    for name, weighted, shuffled in zip(("tau", "rho"), (kendall, spearman), null, strict=True):
        observed = float(weighted(a, b, one)[0])
        held[name] = observed
        if n_families >= FEWEST_FAMILIES:
            low, high = interval(weighted(a, b, draws.weights)[:, None], schemes.options.level)
            held[f"{name}_low"], held[f"{name}_high"] = float(low[0]), float(high[0])
            held[f"{name}_p"] = _p_value(observed, shuffled)
    held["tau_p_models"] = _p_value(held["tau"], rearranged(b, a, draws.free)[0])
    return held


def _p_value(observed: float, null: Floats) -> float:
    null = null[np.isfinite(null)]
    return float((1 + (np.abs(null) >= abs(observed) - 1e-10).sum()) / (1 + null.size))
