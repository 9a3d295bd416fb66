"""What the full validation of one method costs: 190 pairs, LOTO, 40 sets of five tasks, 199 nulls.

    python benchmarks/predict/validation.py FOLDER benchmarks/predict/validation.json [OBJECTIVE]

FOLDER has the tables of `reproduction.py`. Kept are CPU and wall seconds and the load before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from miscible.predict.contract import make
from miscible.predict.tables import read_tables
from miscible.predict.validation.settings import Settings
from miscible.predict.validation.validate import validate

METHOD = "weight_avg"


def main(data: Path, out: Path, objective: str) -> None:
    table = read_tables(data / "metrics_ViT-B-16.csv", data / "performance_ViT-B-16.csv")
    predictor = make(objective)
    predictor.fit(table.examples(METHOD), seed=0)  # loads the compiled loops
    load, cpu, wall = os.getloadavg()[0], time.process_time(), time.monotonic()
    settings = Settings()
    found = validate(predictor, table, METHOD, settings=settings)
    held = json.loads(out.read_text()) if out.is_file() else {}
    held[objective] = {
        "pairs": found.pairs, "features": len(table.pairs.metric_names), **settings.as_dict(),
        "cpu_s": round(time.process_time() - cpu, 1), "wall_s": round(time.monotonic() - wall, 1),
        "load": round(load, 1),
    }  # fmt: skip
    out.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    print(held[objective])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "lasso")
