"""Predictors as files: JSON, read without running anything that stands in them.

A file says which version wrote it and carries a digest of its content: another version's, or one
that was changed by hand, is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miscible import __version__
from miscible.documents import json_text, plain, write_text
from miscible.errors import DatasetError, UnknownNameError
from miscible.files import read_file
from miscible.predict.contract import Fitted, make
from miscible.predict.pairs import TARGETS, Target

FORMAT, VERSION = "miscible predictor", 3
MAKE = "Make one with 'miscible fit'."


@dataclass(frozen=True)
class MethodPredictor:
    """The predictor of one merging method.

    Attributes:
        fitted: on all merged pairs.
        merged: names of these pairs; what comes of another merge is news to the predictor.
        quantiles: of the outcomes in training, at even steps from 0 to 1.
        scales: half-width of intervals by number of unseen models in a pair (0, 1, 2), NaN where
            it is not known; see `Coverage.scale`.
        shared: correlation of the errors of two pairs that share an unseen model, where that is
            the only one, and where both are unseen; see `shared_errors`.
        validation: what `Validation.as_dict` said.
    """

    fitted: Fitted
    merged: tuple[tuple[str, str], ...]
    quantiles: tuple[float, ...]
    scales: tuple[float, float, float]
    shared: tuple[float, float]
    validation: Mapping[str, Any]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have a merged pair, in alphabetical order."""
        return tuple(sorted({name for pair in self.merged for name in pair}))


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
    measured: Mapping[str, Any]
    methods: Mapping[str, MethodPredictor]
    settings: Mapping[str, Any]
    exclusions: Mapping[str, int]
    digests: Mapping[str, str]

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
                    "merged": [list(pair) for pair in each.merged],
                    "quantiles": list(each.quantiles),
                    "scales": list(each.scales),
                    "shared": list(each.shared),
                    "validation": dict(each.validation),
                }
                for name, each in self.methods.items()
            },
            "settings": dict(self.settings),
            "exclusions": dict(self.exclusions),
            "tables": dict(self.digests),
        }
        held = plain(held)
        return {**held, "sha256": _digest(held)}


def write_predictor(path: Path, predictor: PredictorFile) -> None:
    """Write a predictor, whole or not at all.

    Raises:
        MiscibleError: if it cannot be written.
    """
    write_text(path, json_text(predictor.as_dict(), indent=1))


def read_predictor(path: Path) -> PredictorFile:
    """Read a predictor.

    Raises:
        DatasetError: if it is none, of another version, or not as it was written.
    """
    try:
        held = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            "it is not a predictor: no valid JSON.", where=str(path), fix=MAKE
        ) from error
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise DatasetError("it is not a predictor.", where=str(path), fix=MAKE)
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
    except UnknownNameError as error:
        raise UnknownNameError(
            error.what, where=str(path), fix=f"{error.fix} Install the package that has it."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DatasetError(
            f"it lacks something, or has something else in its place: {error}.",
            where=str(path),
            fix=MAKE,
        ) from error


def _restored(held: Mapping[str, Any]) -> PredictorFile:
    predictor = make(held["objective"])
    if held["target"] not in TARGETS:
        raise ValueError(f"target {held['target']!r}")
    if not held["methods"]:
        raise ValueError("no method")
    methods = {}
    for name, each in held["methods"].items():
        scales = [math.nan if s is None else float(s) for s in each["scales"]]
        shared = [float(value) for value in each["shared"]]
        if len(scales) != 3 or len(shared) != 2 or len(each["quantiles"]) < 2:
            raise ValueError("scales and quantiles")
        _check_validation(each["validation"])
        methods[str(name)] = MethodPredictor(
            predictor.restore(each["fitted"]),
            tuple((str(a), str(b)) for a, b in each["merged"]),
            tuple(float(value) for value in each["quantiles"]),
            (scales[0], scales[1], scales[2]),
            (shared[0], shared[1]),
            each["validation"],
        )
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in held["ranges"].items()}
    return PredictorFile(
        held["objective"], held["target"], float(held["level"]), ranges,
        tuple(str(name) for name in held["scalars"]), dict(held["measured"]), methods,
        held["settings"], held["exclusions"], held["tables"],
    )  # fmt: skip


def _check_validation(held: Mapping[str, Any]) -> None:
    for name in ("loto", "lkto", "null", "intervals", "baselines"):
        if not isinstance(held[name] or {}, Mapping):
            raise TypeError(f"the validation's {name}")


def _digest(held: Mapping[str, Any]) -> str:
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
