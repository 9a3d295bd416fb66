"""Ablations: what a predictor loses without a category of metrics, and what one is worth alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from miscible.predict.contract import Predictor
from miscible.predict.pairs import Examples, Floats, Pairs
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import Fold
from miscible.predict.validation.null import p_value, relabel, relabellings
from miscible.predict.validation.scores import score_lkto, score_loto
from miscible.progress import task

MODELS, OTHER = "models", "other"
"""Categories of scalars of single models, and of metrics that are not registered."""
SUFFIXES = ("_mean", "_gap")
"""What a metric in both directions is called after."""
STEPWISE_NULL = 19
"""Most relabelled tables on which steps are chosen anew: each takes as long as the table itself."""


def categories(pairs: Pairs) -> dict[str, list[str]]:
    """Return the metrics and scalars of a table by category of the registry of metrics."""
    from miscible.measure.contract import METRICS

    found: dict[str, list[str]] = {}
    for name in pairs.metric_names:
        stems = [name, *(name.removesuffix(s) for s in SUFFIXES if name.endswith(s))]
        known = next((METRICS.get(stem).category for stem in stems if stem in METRICS), OTHER)
        found.setdefault(known, []).append(name)
    if pairs.scalar_names:
        found[MODELS] = list(pairs.scalar_names)
    return found


@dataclass(frozen=True)
class Scored:
    """A predictor on some of the features.

    Attributes:
        what: which.
        features: their number.
        loto_r, lkto_r, lkto_skill: its scores, NaN where not validated so.
        null_r, p: mean LOTO r of relabelled tables and how it compares, NaN where not asked for.
    """

    what: str
    features: int
    loto_r: float
    lkto_r: float
    lkto_skill: float
    null_r: float = float("nan")
    p: float = float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Ablation:
    """All ablations of the predictor of one method.

    Attributes:
        everything: with all features.
        without, alone: with all but one category, and with one alone.
        eliminated: what was left out, from all features, one at a time: always the feature whose
            loss hurts least. Each row is the predictor after that step. Steps are chosen on the
            folds that they are scored on, which flatters them; their null chooses as many steps
            anew on every relabelled table, and is flattered likewise.
        added: likewise from none, always the one that helps most.
        relabellings: of the null of steps; 0 if it has none.
    """

    everything: Scored
    without: Sequence[Scored]
    alone: Sequence[Scored]
    eliminated: Sequence[Scored]
    added: Sequence[Scored]
    relabellings: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "everything": self.everything.as_dict(),
            "without": [each.as_dict() for each in self.without],
            "alone": [each.as_dict() for each in self.alone],
            "eliminated": [each.as_dict() for each in self.eliminated],
            "added": [each.as_dict() for each in self.added],
            "steps_null_number": self.relabellings,
        }


class Ablator:
    """Scores of a predictor on subsets of the features, on fixed folds.

    Args:
        predictor: fitted anew for every subset.
        examples: of one method.
        among: all measured pairs, for relabelling.
        loto, lkto: folds; either may be empty.
        null: relabelled tables for everything, and for categories alone and left out; for steps
            at most `STEPWISE_NULL` of them.
        seed: of fits and relabellings.
    """

    def __init__(
        self,
        predictor: Predictor,
        examples: Examples,
        among: Pairs,
        loto: Sequence[Fold],
        lkto: Sequence[Fold],
        *,
        null: int = 0,
        seed: int = 0,
    ) -> None:
        self.predictor, self.examples, self.among = predictor, examples, among
        self.loto, self.lkto, self.null, self.seed = loto, lkto, null, seed

    def run(self, *, stepwise: bool = True) -> Ablation:
        """Return all ablations; *stepwise* ones take F^2 / 2 validations each, and a null as many
        for every relabelled table.
        """
        groups, pairs = categories(self.examples.pairs), self.examples.pairs
        names = [*pairs.metric_names, *pairs.scalar_names]
        by_category = len(groups) if len(groups) > 1 else 0
        steps = len(names) * (len(names) + 1) if stepwise else 0
        number = min(self.null, STEPWISE_NULL) if stepwise and self.loto else 0
        with task("ablations", total=2 * by_category + steps * (1 + number)) as advance:
            without, alone = [], []
            for group, held in groups.items():
                if by_category:
                    rest = [name for name in names if name not in held]
                    without.append(self.score(f"without {group}", rest, null=self.null))
                    alone.append(self.score(f"{group} alone", held, null=self.null))
                    advance(2)
            eliminated = self._eliminate(names, advance) if stepwise else []
            added = self._add(names, advance) if stepwise else []
            if number:
                wrong = [each.steps(names, advance) for each in self._relabelled(number)]
                away, toward = (np.array(held) for held in zip(*wrong, strict=True))
                eliminated, added = _against(eliminated, away), _against(added, toward)
        everything = self.score("everything", names, null=self.null)
        return Ablation(everything, without, alone, eliminated, added, number)

    def steps(self, names: Sequence[str], advance: Any) -> tuple[list[float], list[float]]:
        """Return LOTO r after every step of elimination, and of addition."""
        away, toward = self._eliminate(names, advance), self._add(names, advance)
        return [each.loto_r for each in away], [each.loto_r for each in toward]

    def score(self, what: str, names: Sequence[str], *, null: int = 0) -> Scored:
        """Score the predictor on some features."""
        examples = self._only(names)
        loto_r = lkto_r = skill = null_r = p = float("nan")
        if self.loto:
            loto_r = self._loto_r(names)
        if self.lkto:
            guesses = [
                f.mean for f in crossvalidate(self.predictor, examples, self.lkto, seed=self.seed)
            ]
            held = score_lkto(self.lkto, guesses, examples.mean)
            lkto_r, skill = held.r, held.skill
        if null and self.loto:
            among = self.among.only(names)
            nulls = relabel(
                self.predictor, examples, among, self.loto, [], number=null, seed=self.seed,
                label=f"relabelled tables, {what}",
            ).loto  # fmt: skip
            null_r, p = float(nulls.mean()), p_value(loto_r, nulls)
        return Scored(what, len(names), loto_r, lkto_r, skill, null_r, p)

    def _relabelled(self, number: int) -> Iterator[Ablator]:
        held = self.examples
        for order in relabellings(held.pairs, number, self.seed):
            wrong = replace(held, pairs=held.pairs.relabelled(order, self.among))
            yield Ablator(self.predictor.quick(), wrong, self.among, self.loto, [], seed=self.seed)

    def _only(self, names: Sequence[str]) -> Examples:
        held = self.examples
        return Examples(held.pairs.only(names), held.directed, held.mean)

    def _loto_r(self, names: Sequence[str]) -> float:
        examples = self._only(names)
        guesses = [
            f.mean for f in crossvalidate(self.predictor, examples, self.loto, seed=self.seed)
        ]
        return score_loto(self.loto, guesses, examples.mean).r_mean

    def _eliminate(self, names: Sequence[str], advance: Any) -> list[Scored]:
        kept, found = list(names), []
        while len(kept) > 1 and self.loto:
            each = [self._loto_r([m for m in kept if m != name]) for name in kept]
            advance(len(kept))
            out = kept[int(np.nanargmax(each))]
            kept.remove(out)
            found.append(self.score(f"- {out}", kept))
        return found

    def _add(self, names: Sequence[str], advance: Any) -> list[Scored]:
        kept, left, found = list[str](), list(names), list[Scored]()
        while left and self.loto:
            each = [self._loto_r([*kept, name]) for name in left]
            advance(len(left))
            best = left[int(np.nanargmax(each))]
            kept.append(best)
            left.remove(best)
            found.append(self.score(f"+ {best}", kept))
        return found


def _against(steps: Sequence[Scored], null: Floats) -> list[Scored]:
    """Return steps beside their null, LOTO r of [N, steps]."""
    return [
        replace(each, null_r=float(np.nanmean(held)), p=p_value(each.loto_r, held))
        for each, held in zip(steps, null.T, strict=True)
    ]
