"""One table out of what `miscible fit --format json` says, as CSV and as Markdown.

    miscible fit --metrics metrics.csv --outcomes outcomes.csv --models models.csv \
        --validate loto,lkto:4 --format json > fits/lasso-score.json      (and so on)
    python benchmarks/language_models/predictability.py fits RESULTS_FOLDER

A file is called OBJECTIVE-TARGET.json: the target is ``score`` or ``gain``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from summary import show

BASELINES = {
    "partners_mean": "partner's mean",
    "zero_shot_ratio": "base/own score",
    "best_metric": "best metric",
}
SCORES = ("loto_r", "lkto_r", "lkto_skill")
LARGEST = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("fits", type=Path, help="folder of OBJECTIVE-TARGET.json")
    parser.add_argument("results", type=Path, help="folder of predictability.csv")
    arguments = parser.parse_args()
    rows, weights = [], []
    for path in sorted(arguments.fits.glob("*-*.json")):
        objective, target = path.stem.split("-")
        for method, held in json.loads(path.read_text())["methods"].items():
            about = {"target": target, "objective": objective, "method": method}
            rows.append({**about, **scores(held)})
            weights.append({**about, "metrics": strongest(held)})
    table = pd.DataFrame(rows)
    table.to_csv(arguments.results / "predictability.csv", index=False, float_format="%.4g")
    for (target, objective), held in table.groupby(["target", "objective"], sort=False):
        show(f"{objective}, {target}", markdown(held))
    show("Largest coefficients", pd.DataFrame(weights))


def scores(held: dict[str, Any]) -> dict[str, float]:
    """Return the scores of one method's predictor, of baselines and of the null."""
    intervals, null = held["intervals"], held["null"]
    found = {
        "loto_r": held["loto"]["r_mean"],
        "loto_low": intervals["loto_r"][0], "loto_high": intervals["loto_r"][1],
        "null_loto_r": null["loto_r_mean"], "null_loto_p": null["p"],
        "unseen_r": held["lkto"]["r"], "unseen_skill": held["lkto"]["skill"],
        "skill_low": intervals["lkto_skill"][0], "skill_high": intervals["lkto_skill"][1],
        "null_unseen_p": null["lkto_p"],
        "coverage_of_80": held["interval_coverage"]["observed"],
    }  # fmt: skip
    for name in BASELINES:
        # Without the models' own scores there is no baseline of them.
        baseline = held["baselines"].get(name, dict.fromkeys(SCORES, math.nan))
        found |= {
            f"{name}_loto_r": baseline["loto_r"],
            f"{name}_unseen_r": baseline["lkto_r"],
            f"{name}_unseen_skill": baseline["lkto_skill"],
        }
    return found


def strongest(held: dict[str, Any]) -> str:
    """Return the largest coefficients as a sentence."""
    every = sorted(held["coefficients"].items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {value:+.4f}" for name, value in every[:LARGEST] if value)


def markdown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that a page shows."""

    def both(r: str, low: str, high: str) -> list[str]:
        columns = table[[r, low, high]].itertuples(index=False)
        return [f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in columns]

    found: dict[str, Any] = {
        "method": table["method"], "LOTO r": both("loto_r", "loto_low", "loto_high"),
        "null (p)": [
            f"{r:.2f} ({p:.3f})"
            for r, p in table[["null_loto_r", "null_loto_p"]].itertuples(index=False)
        ],
    }  # fmt: skip
    for name, title in BASELINES.items():
        found[title] = table[f"{name}_loto_r"].map(_cell)
    found["unseen r"] = table["unseen_r"].map(_cell)
    found["unseen skill"] = both("unseen_skill", "skill_low", "skill_high")
    found["base/own score, unseen r / skill"] = [
        f"{_cell(r)} / {_cell(skill)}"
        for r, skill in table[
            ["zero_shot_ratio_unseen_r", "zero_shot_ratio_unseen_skill"]
        ].itertuples(index=False)
    ]
    return pd.DataFrame(found)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    main()
