"""Predictors as files: JSON, read without running anything that stands in them.

A file says which version wrote it and carries a digest of its content: another version's, or one
that was changed by hand, is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscible import __version__
from miscible.errors import DatasetError, MiscibleError, UnknownNameError, did_you_mean
from miscible.files import read_file
from miscible.predict.contract import Fitted, make
from miscible.predict.pairs import TARGETS, Floats, Ints, Pairs, Target
from miscible.predict.validation.calibration import half_width

FORMAT, VERSION = "miscible predictor", 1


@dataclass(frozen=True)
class Expected:
    """What is expected of n unmerged pairs.

    Attributes:
        mean, low, high: float64 [n], the outcome and its interval; NaN bounds where no validation
            says how wide an interval must be.
        unseen: int64 [n], models of the pair that no training pair had.
        directed: float64 [n, 2] or None, as in `Forecast`.
    """

    mean: Floats
    low: Floats
    high: Floats
    unseen: Ints
    directed: Floats | None


@dataclass(frozen=True)
class MethodPredictor:
    """The predictor of one merging method.

    Attributes:
        fitted: on all merged pairs.
        models: that have such a pair.
        quantiles: of the outcomes in training, at even steps from 0 to 1.
        scales: half-width of intervals by number of unseen models in a pair (0, 1, 2), NaN where
            it is not known; see `Coverage.scale`.
        validation: what `Validation.as_dict` said.
    """

    fitted: Fitted
    models: tuple[str, ...]
    quantiles: tuple[float, ...]
    scales: tuple[float, float, float]
    validation: Mapping[str, Any]

    def forecast(self, pairs: Pairs) -> Expected:
        """Return what is expected of pairs."""
        found = self.fitted.predict(pairs)
        known = set(self.models)
        new = np.array([name not in known for name in pairs.models], dtype=np.bool_)
        unseen = pairs.touches(new)
        half = half_width(found, 1.0) * np.array(self.scales)[unseen]
        return Expected(found.mean, found.mean - half, found.mean + half, unseen, found.directed)


@dataclass(frozen=True)
class PredictorFile:
    """Predictors of several methods, from the same tables.

    Attributes:
        objective: name of the predictor.
        target: scale of outcomes.
        level: coverage that intervals are made for.
        ranges: lowest and highest value in training by metric and scalar; what lies far outside is
            no case for this predictor.
        scalars: which of these are scalars of single models.
        measured: how metrics were measured, as far as the table says; see
            `miscible.predict.forecasting.comparable`.
        methods: predictor by method.
        settings: of the validation.
        exclusions: how many rows, cells or columns each rule concerned when tables were read.
        digests: SHA-256 of the tables.
    """

    objective: str
    target: Target
    level: float
    ranges: Mapping[str, tuple[float, float]]
    scalars: tuple[str, ...]
    measured: Mapping[str, str]
    methods: Mapping[str, MethodPredictor]
    settings: Mapping[str, Any]
    exclusions: Mapping[str, int]
    digests: Mapping[str, str]

    def method(self, name: str) -> MethodPredictor:
        """Return the predictor of a method.

        Raises:
            UnknownNameError: if there is none, with a suggestion.
        """
        if name not in self.methods:
            raise UnknownNameError(
                f"the predictor knows no method named {name!r}.",
                fix=did_you_mean(name, self.methods),
            )
        return self.methods[name]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with its digest."""
        held: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "miscible": __version__,
            "objective": self.objective,
            "target": self.target,
            "level": self.level,
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "scalars": list(self.scalars),
            "measured": dict(self.measured),
            "methods": {
                name: {
                    "fitted": each.fitted.as_dict(),
                    "models": list(each.models),
                    "quantiles": list(each.quantiles),
                    "scales": list(each.scales),
                    "validation": dict(each.validation),
                }
                for name, each in self.methods.items()
            },
            "settings": dict(self.settings),
            "exclusions": dict(self.exclusions),
            "tables": dict(self.digests),
        }
        held = finite(held)
        return {**held, "sha256": _digest(held)}


def write_predictor(path: Path, predictor: PredictorFile) -> None:
    """Write a predictor, whole or not at all.

    Raises:
        MiscibleError: if it cannot be written.
    """
    write_text(path, json.dumps(predictor.as_dict(), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MiscibleError: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise MiscibleError(f"it cannot be written: {error.strerror}.", where=str(path)) from error


def read_predictor(path: Path) -> PredictorFile:
    """Read a predictor.

    Raises:
        DatasetError: if it is none, of another version, or not as it was written.
    """
    try:
        held = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError("it is not a predictor: no valid JSON.", where=str(path)) from error
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise DatasetError(
            "it is not a predictor.", where=str(path), fix="Make one with 'miscible fit'."
        )
    if held.get("version") != VERSION:
        raise DatasetError(
            f"it is a predictor of format {held.get('version')!r}, from miscible "
            f"{held.get('miscible')!r}; this is miscible {__version__}, which reads {VERSION}.",
            where=str(path),
            fix="Fit it again with this version.",
        )
    stated = held.pop("sha256", None)
    if stated != _digest(held):
        raise DatasetError(
            "it is not as it was written: its content does not have the digest that it states.",
            where=str(path),
            fix="Fit it again.",
        )
    try:
        return _restored(held)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"it lacks something: {error}.", where=str(path)) from error


def _restored(held: Mapping[str, Any]) -> PredictorFile:
    predictor = make(held["objective"])
    if held["target"] not in TARGETS:
        raise ValueError(f"target {held['target']!r}")
    methods = {}
    for name, each in held["methods"].items():
        scales = [math.nan if s is None else float(s) for s in each["scales"]]
        if len(scales) != 3:
            raise ValueError("scales")
        methods[str(name)] = MethodPredictor(
            predictor.restore(each["fitted"]),
            tuple(str(model) for model in each["models"]),
            tuple(float(value) for value in each["quantiles"]),
            (scales[0], scales[1], scales[2]),
            each["validation"],
        )
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in held["ranges"].items()}
    return PredictorFile(
        held["objective"], held["target"], float(held["level"]), ranges,
        tuple(str(name) for name in held["scalars"]), dict(held["measured"]), methods,
        held["settings"], held["exclusions"], held["tables"],
    )  # fmt: skip


def finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _digest(held: Mapping[str, Any]) -> str:
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
