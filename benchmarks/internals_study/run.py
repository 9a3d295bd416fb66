"""The multilingual study of internals: the demo's parents and merges, six languages, all layers.

    python benchmarks/internals_study/run.py WORK_FOLDER [--results docs/data/internals-study]

Resumable: run it again to go on. Data is read from ``MISCIBLE_SHARED_DATA`` (default
``../shared/data``) and never copied into the project; what is kept are small tables of results.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
import yaml

from miscible.analyse import analyse
from miscible.demo.study import BASE, CHILDREN, adapter_folder
from miscible.report.page import write_report
from miscible.study import Study

sys.path.insert(0, str(Path(__file__).parents[1]))
import blimp

PAIRS = 60
EXAMPLES = 500
LANGUAGES = ("de", "es", "fi", "tr", "zh")
WORDS = "upos,deprel,depth"
MERGES = [
    {"method": ["linear", "ties", "dare_ties"], "dose": 0.5},
    {"method": "linear", "dose": [0.25, 0.75]},
]


def main() -> None:
    """Write the study file, run it, and keep its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--results", type=Path, default=Path("docs/data/internals-study"))
    arguments = parser.parse_args()
    data = Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data")).resolve()
    study = Study.open(write_study(arguments.work, data / "probing"))
    summary = study.run()
    print(f"{summary.done} steps computed, {summary.reused} reused, {len(summary.failed)} failed")
    for step, error in summary.failed:
        print(f"failed: {step}: {error}")
    write_report(study.tables(), arguments.work / "report.html")
    keep(study, arguments.results)


def write_study(work: Path, data: Path) -> Path:
    """Write the study file, and the first pairs of the BLiMP files, into *work*."""
    pairs = work / "blimp"
    blimp.unpack(data, pairs, PAIRS)
    treebanks = [next((data / "ud_pud").rglob(f"{language}_pud*")) for language in LANGUAGES]
    spec = {
        "name": "smollm2-inside",
        "base": BASE,
        "parents": {child: f"{BASE}+{adapter_folder(child)}" for child in CHILDREN},
        "merges": MERGES,
        "internals": {
            "datasets": [
                {"minimal_pairs": str(pairs.resolve())},
                {"conllu": f"{data / 'ud_en_ewt' / 'en_ewt-ud-dev.conllu.gz'}#upos,feature,deprel,"
                 "depth,tree_depth,distance"},
                *({"conllu": f"{path}#{WORDS}"} for path in treebanks),
            ],
            "limit": EXAMPLES,
            "control": True,
            "words": True,
        },
    }  # fmt: skip
    path = work / "study.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def keep(study: Study, results: Path) -> None:
    """Write the tables that the documentation page is made of."""
    results.mkdir(parents=True, exist_ok=True)
    tables = study.tables()
    analysis = analyse(tables)
    provenance = ["key", "code", "libraries", "seed", "dtype", "device", "wall_seconds"]
    scores = tables.scores.drop(columns=[*provenance, "fingerprint"])
    frames = {
        "layers": by_model(scores[scores["metric"].isin(["probe_accuracy", "probe_pearson"])]),
        "selectivity": by_model(scores[scores["metric"] == "probe_accuracy"], "selectivity"),
        "words": by_model(scores[scores["metric"].str.startswith("bag_of_words")]),
        "preferences": by_model(scores[scores["metric"] == "preference"]),
        "similarities": tables.similarities.drop(columns=[*provenance, "fingerprint"]).query(
            "layer == other_layer"
        ),
        "doses": tables.doses.drop(columns=[*provenance, "fingerprint"]),
        "differences": significant(analysis.dataset_maps),
        "depth": analysis.profile,
        "competences": analysis.competences.rows,
    }
    for name, frame in frames.items():
        frame.round(4).to_csv(results / f"{name}.csv", index=False)


def by_model(scores: pd.DataFrame, column: str = "estimate") -> pd.DataFrame:
    """Return a row a data set, metric and layer, and a column a model."""
    held = scores.assign(layer=scores["layer"].fillna(-1))
    keys = ["dataset", "metric", "layer"]
    return held.pivot_table(index=keys, columns="model", values=column, sort=False).reset_index()


def significant(maps: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that differ beyond noise, and for every map how many cells there are."""
    names = ["model", "reference"]
    cells = maps.groupby(names).size().rename("cells").reset_index()
    return maps[maps["q_value"] <= 0.05].merge(cells, on=names, how="right")


if __name__ == "__main__":
    main()
