"""Which merges to try next, by a predictor file, and by what came of merges since it was written.

The file holds no training tables, so that the predictor is not fitted anew: its forecasts are
corrected by what the new outcomes say of its errors (`miscible.predict.forecasting.conditioning`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from miscible.errors import MiscibleError
from miscible.predict.contract import Forecast
from miscible.predict.forecasting.asked import Asked, ask
from miscible.predict.forecasting.conditioning import Errors
from miscible.predict.forecasting.forecast import Abstention, Rule, abstentions
from miscible.predict.forecasting.knowledge import MethodKnowledge
from miscible.predict.forecasting.suggestion import (
    Aim,
    Suggestion,
    Suggestions,
    check_aims,
    doubt_told,
    expected_improvement,
    gain_told,
)
from miscible.predict.outcome_table import read_outcomes
from miscible.predict.pairs import Floats, Ints
from miscible.predict.predictor_file import PredictorFile
from miscible.predict.tables import outcomes_of

if TYPE_CHECKING:
    from miscible.measure.api import AnyModel
    from miscible.measure.calibrate import Calibration, Source

NO_MATCH = (Rule.COMPARABLE, Rule.INSIDE)
"""A pair to which one of these applies is none that the predictor can be asked about. By the
others it knows too little of the pair, which is no reason not to learn of it."""


def suggest_by(
    predictor: PredictorFile | Path | str,
    base: AnyModel | None = None,
    models: Sequence[AnyModel] | Mapping[str, AnyModel] = (),
    *,
    budget: int,
    aim: Aim = "gain",
    outcomes: Path | None = None,
    above: float | None = None,
    measured: Path | Mapping[str, Any] | None = None,
    scalars: Path | None = None,
    methods: Sequence[str] | None = None,
    level: float | None = None,
    calibration: Calibration | Source | None = None,
) -> Suggestions:
    """Propose merges by a predictor file; add their outcomes to *outcomes* and ask again.

    Args:
        budget: how many merges to propose.
        aim: see `Aim`. For ``gain``, merges that the predictor abstains from are left out, as in
            `miscible.predict.forecasting.api.forecast`; for ``information`` those of `NO_MATCH`.
        outcomes: a table of merges since the fit; those in training may stand there too.
        above: count gains from here, instead of from the best of *outcomes*, or from the best in
            training if there are none.
        predictor, base, models, measured, scalars, methods, level, calibration: as in `forecast`.

    Raises:
        UnknownNameError: for a method that the predictor does not know, with a suggestion.
        MiscibleError: for what cannot be read, or if nothing is left to try.
    """
    check_aims(budget, above)
    asked = ask(
        predictor, base, models, measured=measured, scalars=scalars, methods=methods, level=level,
        calibration=calibration,
    )  # fmt: skip
    found = _outcomes(asked, outcomes)
    held = [_Known.of(asked, method, found[method]) for method in asked.methods]
    if not any(len(each.open) for each in held):
        raise MiscibleError(
            "there is nothing to suggest: all pairs were merged.",
            fix="Give models, or metrics of pairs, that might be merged.",
        )
    threshold, best = _threshold(held, above)
    left_out: Counter[str] = Counter()
    for each in held:
        each.count_left_out(aim, left_out)
    if aim == "gain":
        merges = _gains(held, budget, threshold, asked.level)
    else:
        merges = _informative(held, budget, asked.level)
    learnt = {each.method: len(each.news) for each in held if len(each.news)}
    return Suggestions(
        aim, threshold, best, tuple(merges), sum(len(each.open) for each in held),
        _rule(aim, held, asked.predictor), learnt, asked.level, dict(left_out), asked.excluded,
        asked.told(), asked.comparability.notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Known:
    """One method: what is known of all pairs, after the outcomes that are news.

    Attributes:
        outcome: float64 [n], NaN where there is none.
        news, open: rows of pairs from whose outcome was learnt, and of those without one.
        stretch: of intervals; see `Errors.stretch`.
        doubts: of all pairs.
    """

    method: str
    known: MethodKnowledge
    names: Sequence[tuple[str, str]]
    errors: Errors
    outcome: Floats
    news: Ints
    open: Ints
    stretch: float
    forecast: Forecast
    doubts: Sequence[Abstention | None]

    @classmethod
    def of(cls, asked: Asked, method: str, outcome: Floats) -> _Known:
        known, pairs, names = asked.known[method], asked.pairs, asked.pairs.names()
        trained = np.array([pair in known.merged for pair in names], dtype=np.bool_)
        there = np.isfinite(outcome)
        asked.counts["outcomes to which the predictor was fitted"] += int((there & trained).sum())
        asked.counts["merges that were made in training"] += int((~there & trained).sum())

        def doubts_of(width: Floats) -> list[Abstention | None]:
            return abstentions(known, pairs, width, asked.level, asked.comparability)

        sound = _sound(doubts_of(np.zeros(len(pairs))), NO_MATCH)
        news = np.flatnonzero(there & ~trained & sound)
        lost = int((there & ~trained & ~sound).sum())
        asked.counts["outcomes of pairs that cannot be forecast (nothing learnt of them)"] += lost
        errors = Errors.of(known, pairs)
        mean, sd = errors.given(news, outcome[news])
        stretch = errors.stretch(news, outcome[news])
        forecast = Forecast(mean, stretch * sd)
        width = 2 * norm.ppf((1 + asked.level) / 2) * forecast.sd
        return cls(
            method, known, names, errors, outcome, news, np.flatnonzero(~there & ~trained),
            stretch, forecast, doubts_of(width),
        )  # fmt: skip

    def candidates(self, aim: Aim) -> Ints:
        """Return the rows that may be suggested."""
        return self.open[_sound(self.doubts, _rules(aim))[self.open]]

    def count_left_out(self, aim: Aim, counts: Counter[str]) -> None:
        """Count the others, by rule."""
        for row in self.open:
            doubt = self.doubts[row]
            if doubt is not None and doubt.rule in _rules(aim):
                counts[f"{self.method}: {doubt.rule}"] += 1

    def suggestion(self, row: int, value: float, level: float, why: str) -> Suggestion:
        (low,), (high,) = self.known.interval(
            Forecast(self.forecast.mean[[row]], self.forecast.sd[[row]]), level
        )
        a, b = self.names[row]
        mean = float(self.forecast.mean[row])
        return Suggestion(a, b, self.method, value, mean, float(low), float(high), why)


def _outcomes(asked: Asked, path: Path | None) -> dict[str, Floats]:
    """Return the outcomes of all pairs by method, NaN where there is none."""
    pairs = asked.pairs
    nothing = np.full(len(pairs), np.nan)
    if path is None:
        return dict.fromkeys(asked.methods, nothing)
    rows = read_outcomes(path, asked.counts)
    known = [row for row in rows if row.method in asked.known]
    asked.counts["outcomes of methods that the predictor does not know"] += len(rows) - len(known)
    scalars = dict(zip(pairs.models, pairs.scalars.tolist(), strict=True))
    held = outcomes_of(pairs, known, pairs.scalar_names, scalars, asked.counts)
    target = asked.predictor.target
    found = {m: held[m].mean[target] if m in held else nothing for m in asked.methods}
    made = [row for row in known if not row.failed and row.method in asked.methods]
    if made and not any(np.isfinite(values).any() for values in found.values()):
        raise MiscibleError(
            f"none of the outcomes is a {target} score of a pair that was measured.",
            where=str(path),
            fix="Name models as in the metrics. Normalised scores need norm_acc_a and norm_acc_b, "
            "or acc_a, acc_b and a table of models with the column finetuned.",
        )
    return found


def _rules(aim: Aim) -> tuple[Rule, ...]:
    return tuple(Rule) if aim == "gain" else NO_MATCH


def _sound(doubts: Sequence[Abstention | None], rules: Sequence[Rule]) -> npt.NDArray[np.bool_]:
    return np.array([each is None or each.rule not in rules for each in doubts], dtype=np.bool_)


def _threshold(held: Sequence[_Known], above: float | None) -> tuple[float, str]:
    if above is not None:
        return above, "as asked"
    best = [
        (float(each.outcome[row]), f"{' with '.join(each.names[row])} by {each.method}")
        for each in held
        for row in np.flatnonzero(np.isfinite(each.outcome)).tolist()
    ]
    if best:
        return max(best)
    return max(float(each.known.quantiles[-1]) for each in held), "the best merge in training"


def _gains(held: Sequence[_Known], budget: int, threshold: float, level: float) -> list[Suggestion]:
    found: list[tuple[float, float, _Known, int]] = []
    for each in held:
        mean, sd = each.forecast.mean, each.forecast.sd
        gains = expected_improvement(mean, sd, threshold)
        rows = each.candidates("gain")
        found += [(float(gains[row]), float(mean[row]), each, int(row)) for row in rows]
    found.sort(key=lambda merge: (-merge[0], -merge[1]))
    return [
        each.suggestion(row, gain, level, gain_told(gain, threshold))
        for gain, _, each, row in found[:budget]
    ]


def _informative(held: Sequence[_Known], budget: int, level: float) -> list[Suggestion]:
    sds = {each.method: each.forecast.sd for each in held}
    chosen: dict[str, list[int]] = {each.method: [] for each in held}
    found: list[Suggestion] = []
    while len(found) < budget:
        left = [
            (float(np.nan_to_num(sds[each.method][row])), each, int(row))
            for each in held
            for row in each.candidates("information")
            if row not in chosen[each.method]
        ]
        if not left:
            break
        value, each, row = max(left, key=lambda merge: merge[0])
        chosen[each.method].append(row)
        taken = np.array([*each.news, *chosen[each.method]], dtype=np.int64)
        sds[each.method] = (
            each.stretch * each.errors.given(taken, each.errors.forecast.mean[taken])[1]
        )
        times = Counter(name for pair in each.known.merged for name in pair)
        times.update(name for place in each.news.tolist() for name in each.names[place])
        why = doubt_told(value, each.names[row], times)
        found.append(each.suggestion(row, value, level, why))
    return found


def _rule(aim: Aim, held: Sequence[_Known], predictor: PredictorFile) -> str:
    what = "expected gain" if aim == "gain" else "how little is known of their outcome"
    number = sum(len(each.news) for each in held)
    said = f"by {what}, from the {predictor.objective} forecasts of the file"
    if not number:
        return f"{said}; there is no outcome yet that it was not fitted to."
    if not any(any(each.known.shared) for each in held):
        return (
            f"{said}; its errors on held-out tasks have nothing in common, so that what "
            "came of a merge changes no other forecast."
        )
    outcomes = "1 outcome" if number == 1 else f"{number} outcomes"
    return f"{said}, corrected by {outcomes} that it was not fitted to."
