"""All that is to be said of a predictor on one method, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.baselines import available
from miscible.predict.contract import Forecast, Predictor
from miscible.predict.pairs import Examples, Floats, PairTable, Target
from miscible.predict.threads import one_thread
from miscible.predict.validation.calibration import Coverage, calibrate
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import Fold, leave_one_task_out, leave_tasks_out
from miscible.predict.validation.intervals import (
    draw_tasks,
    interval,
    lkto_samples,
    loto_samples,
)
from miscible.predict.validation.null import Null, p_value, relabel
from miscible.predict.validation.result import Comparison, NullResult, Spread, Validation
from miscible.predict.validation.scores import score_lkto, score_loto
from miscible.predict.validation.settings import Settings
from miscible.progress import task


def validate(
    predictor: Predictor,
    table: PairTable,
    method: str,
    *,
    target: Target = "normalised",
    settings: Settings | None = None,
) -> Validation:
    """Validate a predictor on the merges of one method: scores, baselines, null, intervals.

    A way to validate for which there are too few tasks is left out, and why is said in the result.

    Raises:
        MiscibleError: if the method has too few merges to validate anything.
    """
    asked, examples = settings or Settings(), table.examples(method, target)
    with one_thread():
        return _Run(predictor, table, method, target, asked, examples).result()


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        table: PairTable,
        method: str,
        target: Target,
        settings: Settings,
        examples: Examples,
    ) -> None:
        self.predictor, self.table, self.method, self.target = predictor, table, method, target
        self.settings, self.examples = settings, examples
        self.skipped: dict[str, str] = {}
        self.loto = self._folds("loto") if settings.loto else []
        self.lkto = self._folds("lkto") if settings.k is not None else []
        if self.skipped and not self.loto and not self.lkto:
            raise MiscibleError(
                f"{method!r} cannot be validated: {next(iter(self.skipped.values()))}",
                fix="Measure and merge more pairs.",
            )

    def _folds(self, kind: str) -> list[Fold]:
        s, pairs = self.settings, self.examples.pairs
        try:
            if kind == "loto":
                return leave_one_task_out(pairs)
            assert s.k is not None
            return leave_tasks_out(pairs, s.k, s.draws, s.seed)
        except MiscibleError as error:
            self.skipped[kind] = str(error)
            return []

    def result(self) -> Validation:
        s, examples = self.settings, self.examples
        numbers = draw_tasks(examples, s.bootstrap, s.seed) if s.bootstrap else np.zeros((0, 1))
        runs = len(self.loto) + len(self.lkto)
        loto_runs: list[list[Forecast]] = []
        lkto_runs: list[list[Forecast]] = []
        with task(f"validate {self.method}", total=runs * s.seeds) as advance:
            for seed in range(s.seed, s.seed + s.seeds):
                loto_runs.append(crossvalidate(self.predictor, examples, self.loto, seed=seed))
                advance(len(self.loto))
                lkto_runs.append(crossvalidate(self.predictor, examples, self.lkto, seed=seed))
                advance(len(self.lkto))
        own = self._compare("", [f.mean for f in loto_runs[0]], [f.mean for f in lkto_runs[0]],
                            numbers)  # fmt: skip
        spread = {}
        if self.loto:
            each = [
                score_loto(self.loto, [f.mean for f in run], examples.mean) for run in loto_runs
            ]
            spread["loto_r_mean"] = Spread.of([score.r_mean for score in each])
        if self.lkto:
            blocks = [
                score_lkto(self.lkto, [f.mean for f in run], examples.mean) for run in lkto_runs
            ]
            spread["lkto_r"] = Spread.of([score.r for score in blocks])
            spread["lkto_skill"] = Spread.of([score.skill for score in blocks])
        return Validation(
            method=self.method,
            pairs=len(examples),
            tasks=int(examples.pairs.seen().sum()),
            own=own,
            baselines=self._baselines(numbers),
            null=self._null(own),
            coverage=self._coverage(loto_runs[0], lkto_runs[0]),
            seeds=spread,
            coefficients=dict(self.predictor.fit(examples, seed=s.seed).coefficients),
            skipped=self.skipped,
            forecasts={"loto": (self.loto, loto_runs[0]), "lkto": (self.lkto, lkto_runs[0])},
        )

    def _compare(
        self, title: str, loto: Sequence[Floats], lkto: Sequence[Floats], numbers: Floats
    ) -> Comparison:
        y, found = self.examples.mean, Comparison(title)
        if self.loto:
            found = replace(found, loto=score_loto(self.loto, loto, y))
        if self.lkto:
            found = replace(found, lkto=score_lkto(self.lkto, lkto, y))
        if not len(numbers):
            return found
        bounds = {}
        if self.loto:
            bounds["loto_r"] = interval(loto_samples(self.loto, loto, self.examples, numbers))
        if self.lkto:
            r, skill = lkto_samples(self.lkto, lkto, self.examples, numbers)
            bounds |= {"lkto_r": interval(r), "lkto_skill": interval(skill)}
        return replace(found, intervals=bounds)

    def _baselines(self, numbers: Floats) -> dict[str, Comparison]:
        found = {}
        for name, baseline in available(self.table.pairs).items():
            loto, lkto = (
                [
                    baseline.guess(self.examples.take(f.train), self.examples.pairs.take(f.test))
                    for f in folds
                ]
                for folds in (self.loto, self.lkto)
            )
            found[name] = self._compare(baseline.title, loto, lkto, numbers)
        return found

    def _null(self, own: Comparison) -> NullResult | None:
        s = self.settings
        if not s.null:
            return None
        held: Null = relabel(
            self.predictor.quick(), self.examples, self.table.pairs, self.loto, self.lkto,
            number=s.null, seed=s.seed, label=f"relabelled tables, {self.method}",
        )  # fmt: skip
        return NullResult(
            number=s.null,
            loto=held.loto,
            lkto=held.lkto,
            skill=held.skill,
            loto_p=p_value(own.loto.r_mean, held.loto) if own.loto else None,
            lkto_p=p_value(own.lkto.r, held.lkto) if own.lkto else None,
            skill_p=p_value(own.lkto.skill, held.skill) if own.lkto else None,
        )

    def _coverage(self, loto: Sequence[Forecast], lkto: Sequence[Forecast]) -> dict[str, Coverage]:
        found, level = {}, self.settings.level
        if self.loto:
            found["loto"] = calibrate(self.loto, loto, self.examples, level)
        if self.lkto:
            found["lkto"] = calibrate(self.lkto, lkto, self.examples, level)
        return found
