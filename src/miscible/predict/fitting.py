"""``miscible fit`` in Python: validate predictors of several methods, and fit them to all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.contract import Predictor, make
from miscible.predict.interpret.ablation import Ablation, Ablator
from miscible.predict.interpret.collinearity import Collinearity, collinearity
from miscible.predict.interpret.fingerprints import (
    Likeness,
    Weight,
    fingerprint,
    likenesses,
)
from miscible.predict.interpret.single import Correlation, single_correlations
from miscible.predict.pairs import Examples, Pairs, PairTable, Target
from miscible.predict.predictor_file import MethodPredictor, PredictorFile
from miscible.predict.threads import one_thread
from miscible.predict.validation.calibration import calibrate
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import FEWEST, leave_pairs_out
from miscible.predict.validation.result import Validation
from miscible.predict.validation.settings import Settings
from miscible.predict.validation.shared import shared_errors
from miscible.predict.validation.validate import validate

QUANTILES = 21
"""Of the outcomes in training that are kept."""
Ablate: TypeAlias = Literal["nothing", "categories", "stepwise"]
"""``categories``: without each, and with each alone; ``stepwise``: also feature by feature."""

KINDS = ("loto", "lkto")
PARTS = 10
"""Parts of the pairs that are left out in turn, for intervals of pairs of known models."""


@dataclass(frozen=True)
class Fit:
    """Validated predictors.

    Attributes:
        predictor: fitted to all pairs, to be written.
        validations: by method.
        left_out: methods without a predictor, and why.
        collinearity: of the features of all measured pairs.
        fingerprints: weights by method, of linear predictors.
        likenesses: of fingerprints of every two methods.
        singles: by method and feature, how it correlates with the outcome.
        ablations: by method, where asked for.
    """

    predictor: PredictorFile
    validations: Mapping[str, Validation]
    left_out: Mapping[str, str]
    collinearity: Collinearity
    fingerprints: Mapping[str, Mapping[str, Weight]]
    likenesses: Sequence[Likeness]
    singles: Mapping[str, Mapping[str, Correlation]]
    ablations: Mapping[str, Ablation] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``miscible fit --format json`` prints."""
        held = self.predictor
        return {
            "objective": held.objective,
            "target": held.target,
            "methods": {name: self._method(name) for name in self.validations},
            "methods_left_out": dict(self.left_out),
            "between_methods": [each.as_dict() for each in self.likenesses],
            "collinearity": self.collinearity.as_dict(),
            "exclusions": dict(held.exclusions),
            "settings": dict(held.settings),
        }

    def _method(self, name: str) -> dict[str, Any]:
        held = self.validations[name].as_dict()
        if self.fingerprints.get(name):
            held["stability"] = {m: w.as_dict() for m, w in self.fingerprints[name].items()}
        held["single"] = {m: r.as_dict() for m, r in self.singles.get(name, {}).items()}
        if name in self.ablations:
            held["ablation"] = self.ablations[name].as_dict()
        return held


def fit(
    table: PairTable,
    *,
    objective: str = "lasso",
    target: Target = "normalised",
    methods: Sequence[str] | None = None,
    settings: Settings | None = None,
    digests: Mapping[str, str] | None = None,
    measured: Mapping[str, Any] | None = None,
    ablate: Ablate = "nothing",
) -> Fit:
    """Validate and fit a predictor of each method.

    Args:
        methods: all that the table has if left out. Of these, one with too few merges is left
            out, and why is said; of those that are named, it is an error.
        digests: SHA-256 of the tables, kept in the predictor.
        measured: how their metrics were measured, as far as they say, likewise.
        ablate: see `Ablate`.

    Raises:
        UnknownNameError: if there is no such objective or method, with a suggestion.
        MiscibleError: if there is too little to learn from.
    """
    predictor, asked = make(objective), settings or Settings()
    if not table.methods:
        raise MiscibleError("there are no outcomes to learn from.")
    if methods is not None:
        for name in methods:
            table.examples(name, target)
    validations: dict[str, Validation] = {}
    fitted: dict[str, MethodPredictor] = {}
    prints: dict[str, dict[str, Weight]] = {}
    singles: dict[str, dict[str, Correlation]] = {}
    ablations: dict[str, Ablation] = {}
    left_out: dict[str, str] = {}
    for name in methods if methods is not None else table.methods:
        try:
            validations[name] = validate(predictor, table, name, target=target, settings=asked)
            examples = table.examples(name, target)
            fitted[name] = _fit(predictor, examples, validations[name], asked)
            with one_thread():
                singles[name] = single_correlations(
                    examples, table.pairs, null=asked.null, seed=asked.seed
                )
                if validations[name].coefficients:
                    prints[name] = fingerprint(predictor, examples, seed=asked.seed)
                if ablate != "nothing":
                    ablations[name] = _ablate(predictor, table, validations[name], examples, asked,
                                              stepwise=ablate == "stepwise")  # fmt: skip
        except MiscibleError as error:
            if methods is not None:
                raise
            left_out[name] = str(error)
    if not fitted:
        raise MiscibleError(f"no method can be predicted: {next(iter(left_out.values()))}")
    held = PredictorFile(
        objective, target, asked.level, _ranges(table.pairs),
        table.pairs.scalar_names, measured or {}, fitted, asked.as_dict(),
        table.counts, digests or {},
    )  # fmt: skip
    weights = {name: each.coefficients for name, each in validations.items() if each.coefficients}
    return Fit(
        held, validations, left_out, collinearity(table.pairs), prints, likenesses(weights),
        singles, ablations,
    )  # fmt: skip


def _fit(
    predictor: Predictor, examples: Examples, validation: Validation, settings: Settings
) -> MethodPredictor:
    with one_thread():
        known = float("nan")
        if len(examples) > 2 * FEWEST:
            folds = leave_pairs_out(examples.pairs, PARTS, settings.seed)
            forecasts = crossvalidate(predictor, examples, folds, seed=settings.seed)
            known = calibrate(folds, forecasts, examples, settings.level).scale
        scales = [
            validation.coverage[kind].scale if kind in validation.coverage else float("nan")
            for kind in KINDS
        ]
        one, both = (shared_errors(*validation.forecasts[kind], examples) for kind in KINDS)
        fitted = predictor.fit(examples, seed=settings.seed)
    quantiles = tuple(np.quantile(examples.mean, np.linspace(0, 1, QUANTILES)).tolist())
    widths = (known, scales[0], scales[1])
    merged = tuple(examples.pairs.names())
    return MethodPredictor(
        fitted, merged, quantiles, widths, (one, min(both, 0.5)), validation.as_dict()
    )


def _ablate(
    predictor: Predictor,
    table: PairTable,
    validation: Validation,
    examples: Examples,
    settings: Settings,
    *,
    stepwise: bool,
) -> Ablation:
    loto, lkto = (validation.forecasts[kind][0] for kind in KINDS)
    return Ablator(
        predictor, examples, table.pairs, loto, lkto, null=settings.null, seed=settings.seed
    ).run(stepwise=stepwise)


def _ranges(pairs: Pairs) -> dict[str, tuple[float, float]]:
    columns = {
        **dict(zip(pairs.metric_names, pairs.metrics.T, strict=True)),
        **dict(zip(pairs.scalar_names, pairs.scalars.T, strict=True)),
    }
    return {
        name: (float(np.nanmin(values)), float(np.nanmax(values)))
        for name, values in columns.items()
    }
