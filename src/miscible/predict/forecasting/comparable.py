"""Whether metrics were measured in the way that the predictor's were."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miscible.errors import DatasetError
from miscible.files import read_file
from miscible.measure.contract import METRICS, Metric

RUN = ("activations", "gradients", "midpoints")
"""What metrics need that depends on calibration data."""
COVERED = 0.1
"""How far the share of the base that a metric covers may lie from those in training."""

How = Mapping[str, Any]
"""What values depend on beside the models, as plain data; what is not known is not in it:

* ``base``, ``parameters``: name of the common base, and number of its parameters;
* ``definitions``: by metric, the version of its definition;
* ``compat``: whether unchanged matrices count as in the code of 2601.22285;
* ``coverage``: by metric, the least and the largest share of the base's parameters that entered;
* ``calibration``: ``key`` of the ``data`` over which models were run, what these are in words,
  ``seed`` of their draw, ``layer`` of the states, and ``dtype``.
"""


@dataclass(frozen=True)
class Comparability:
    """How a measurement compares with that of the training pairs.

    Attributes:
        otherwise: by metric, why its values are no match for those in training.
        uncovered: likewise of single pairs, their models in alphabetical order.
        notes: what differs, or is not known, and is no reason to abstain.
    """

    otherwise: Mapping[str, str] = field(default_factory=dict)
    uncovered: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def doubts(self, a: str, b: str) -> dict[str, str]:
        """Return by metric why the values of a pair are no match."""
        return {**self.uncovered.get((min(a, b), max(a, b)), {}), **self.otherwise}


def measured_how(measured: Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what values depend on, see `How`. Tables do not say; of those nothing is returned.

    Raises:
        DatasetError: if a file of JSON cannot be read.
    """
    held = _document(measured)
    if held is None:
        return {}
    found: dict[str, Any] = {}
    if isinstance(held.get("base"), str):
        found["base"] = held["base"]
    if isinstance(held.get("parameters"), int):
        found["parameters"] = held["parameters"]
    if isinstance(held.get("compat"), bool):
        found["compat"] = held["compat"]
    if isinstance(held.get("definitions"), Mapping):
        found["definitions"] = {str(k): v for k, v in held["definitions"].items()}
    shares: dict[str, list[float]] = {}
    for _, _, metric, share in _coverage(held):
        shares.setdefault(metric, []).append(share)
    found["coverage"] = {name: [min(each), max(each)] for name, each in shares.items()}
    run = held.get("calibration")
    if isinstance(run, Mapping) and "key" in run:
        sets = [each for each in run.get("data") or [] if isinstance(each, Mapping)]
        found["calibration"] = {
            "key": str(run["key"]), "data": ", ".join(map(_set_told, sets)),
            "layer": run.get("layer"), "dtype": run.get("dtype"), "seed": run.get("seed"),
        }  # fmt: skip
    return found


def compare(then: How, measured: Path | Mapping[str, Any]) -> Comparability:
    """Compare a measurement with that of the training pairs; what either does not say is no doubt.

    Values are no match where, in this order, the definition of the metric has changed, unchanged
    matrices were counted otherwise, models were run over other data, states were taken at another
    layer, or (of single pairs) the metric covers another share of the base.

    Args:
        then: how the training pairs were measured.
        measured: pairs that were measured now.

    Raises:
        DatasetError: if a file of JSON cannot be read.
    """
    now = measured_how(measured)
    otherwise: dict[str, str] = {}
    for applies, why in _differences(then, now):
        for metric in METRICS:
            if applies(metric):
                otherwise.setdefault(metric.name, why(metric))
    return Comparability(otherwise, _uncovered(then, measured), tuple(_notes(then, now)))


Difference = tuple[Callable[[Metric], bool], Callable[[Metric], str]]


def _differences(then: How, now: How) -> list[Difference]:
    was, are = then.get("definitions", {}), now.get("definitions", {})
    found: list[Difference] = [
        (
            lambda m: m.name in was and m.name in are and was[m.name] != are[m.name],
            lambda m: f"its definition is version {are[m.name]}, in training {was[m.name]}.",
        )
    ]
    if {"compat"} <= then.keys() & now.keys() and then["compat"] != now["compat"]:
        what = {True: "counted", False: "left out"}
        told = (
            f"matrices that no model changes were {what[now['compat']]}, in training "
            f"{what[then['compat']]} ('measure --compat')."
        )
        found.append((lambda m: m.category == "subspace", lambda m: told))
    ran, runs = then.get("calibration"), now.get("calibration")
    if ran and runs:
        other = f"its models were run over other calibration data ({_told(runs)}; in training "
        if ran["key"] != runs["key"]:
            found.append((lambda m: m.needs in RUN, lambda m: f"{other}{_told(ran)})."))
        if ran["layer"] != runs["layer"]:
            layers = f"states are those of layer {runs['layer']}, in training {ran['layer']}."
            found.append((lambda m: m.needs == "activations", lambda m: layers))
    return found


def _uncovered(
    then: How, measured: Path | Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, str]]:
    ranges, held = then.get("coverage", {}), _document(measured)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for a, b, metric, share in _coverage(held or {}):
        low, high = ranges.get(metric, (0.0, 1.0))
        if low - COVERED <= share <= high + COVERED:
            continue
        seen = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
        why = f"it covers {share:.0%} of the base's parameters, in training {seen}."
        found.setdefault((min(a, b), max(a, b)), {})[metric] = why
    return found


def _notes(then: How, now: How) -> list[str]:
    if not then:
        return ["the training tables do not say how metrics were measured: it was not compared."]
    if not now:
        return ["the table of metrics does not say how they were measured: it was not compared."]
    found = []
    if "base" in then and "base" in now and then["base"] != now["base"]:
        found.append(f"the models' base is {now['base']}, in training {then['base']}.")
    if then.get("parameters") != now.get("parameters"):
        found.append(
            f"the models' base has {now.get('parameters', 0):,} parameters, in training "
            f"{then.get('parameters', 0):,}: another architecture."
        )
    ran, runs = then.get("calibration"), now.get("calibration")
    if ran and runs and ran["dtype"] != runs["dtype"]:
        found.append(f"models were run in {runs['dtype']}, in training in {ran['dtype']}.")
    return found


def _document(measured: Path | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if isinstance(measured, Path):
        if measured.suffix.lower() != ".json":
            return None
        try:
            measured = json.loads(read_file(measured))
        except (ValueError, RecursionError) as error:
            raise DatasetError("it is not JSON.", where=str(measured)) from error
    return measured if isinstance(measured, Mapping) else None


def _coverage(held: Mapping[str, Any]) -> list[tuple[str, str, str, float]]:
    """Return both models, the metric and the share of the base that entered, of every value."""
    found: list[tuple[str, str, str, float]] = []
    for pair in held.get("pairs", []):
        for metric, value in pair["metrics"].items():
            if not isinstance(value, Mapping) or value.get("value") is None:
                continue
            share = value.get("coverage")
            if isinstance(share, float | int) and math.isfinite(share):
                found.append((str(pair["a"]), str(pair["b"]), str(metric), float(share)))
    return found


def _told(run: Mapping[str, Any]) -> str:
    """Say over which data models were run."""
    return f"{run['data'] or run['key'][:8]}, seed {run['seed']}"


def _set_told(held: Mapping[str, Any]) -> str:
    samples, tokens = held.get("samples"), held.get("tokens")
    size = f"{samples} samples" + (f", {tokens} tokens" if tokens else "")
    owner = f" of {held['owner']}" if held.get("owner") else ""
    return f"{held.get('name')}{owner} with {size}"
