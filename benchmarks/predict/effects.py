"""The effects model on the published measurements, with every task and without EMNIST.

    python benchmarks/predict/effects.py FOLDER docs/data/mergeability-reproduction 49

FOLDER has the tables of `reproduction.py`. Written is effects.csv, a row a method and set of tasks.
The last argument is the number of relabelled tables of each null.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
from reproduction import METHODS, published

from miscible.predict.contract import make
from miscible.predict.pairs import Floats, Outcomes, PairTable
from miscible.predict.validation.settings import Settings
from miscible.predict.validation.validate import Validation, validate

WITHOUT = "EMNIST"
"""It has no zero-shot score in these tables."""


def main(data: Path, out: Path, null: int) -> None:
    table = published(data)
    settings = Settings(null=null, seeds=1)
    rows = []
    for name, held in (("all", table), (f"without {WITHOUT}", without(table, WITHOUT))):
        for method in METHODS:
            start = time.process_time()
            found = validate(make("effects"), held, method, settings=settings)
            rows.append({"tasks": name, "method": method, **row(found)})
            print(name, method, f"{time.process_time() - start:.0f} s of CPU time", flush=True)
    with (out / "effects.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def without(table: PairTable, model: str) -> PairTable:
    """Return the table without the pairs of a model."""
    rows = np.array([model not in names for names in table.pairs.names()])
    outcomes = {}
    for method, held in table.outcomes.items():
        outcomes[method] = Outcomes(
            {target: values[rows] for target, values in held.directed.items()},
            {target: values[rows] for target, values in held.mean.items()},
        )
    return PairTable(table.pairs.take(rows), outcomes)


def row(found: Validation) -> dict[str, object]:
    loto, lkto, null, ends = found.own.loto, found.own.lkto, found.null, found.own.intervals
    partner, ratio = found.baselines["partners_mean"], found.baselines["zero_shot_ratio"]
    assert loto and lkto and partner.loto and ratio.lkto
    held: dict[str, object] = {
        "pairs": found.pairs, "loto_r": loto.r_mean,
        "loto_low": ends["loto_r"][0], "loto_high": ends["loto_r"][1],
        "partners_mean_loto_r": partner.loto.r_mean, "unseen_r": lkto.r,
        "unseen_low": ends["lkto_r"][0], "unseen_high": ends["lkto_r"][1],
        "unseen_skill": lkto.skill, "ratio_unseen_r": ratio.lkto.r,
        "ratio_unseen_skill": ratio.lkto.skill, "covered_80_loto": found.coverage["loto"].observed,
        "covered_80_unseen": found.coverage["lkto"].observed,
    }  # fmt: skip
    if null is not None:
        held |= {
            "null_loto_r": _mean(null.loto), "null_loto_p": null.loto_p,
            "null_unseen_r": _mean(null.lkto), "null_unseen_p": null.lkto_p,
            "null_unseen_skill": _mean(null.skill), "null_skill_p": null.skill_p,
            "relabellings": null.number,
        }  # fmt: skip
    return {
        key: f"{value:.4f}" if isinstance(value, float) else value for key, value in held.items()
    }


def _mean(values: Floats) -> float:
    return float(np.nanmean(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
