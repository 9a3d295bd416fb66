"""What probing costs beside the bare forward pass, in CPU time of this process.

python benchmarks/probe/cost.py demo:smollm2-135m-instruct --data templates --limit 60
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

from miscible.models import LiveModel, open_checkpoint
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.encode import _Batch, encode
from miscible.probe.plan import ProbePlan
from miscible.probe.rows import DatasetRows


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of some runs: other processes only ever add to it."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the measurement as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", action="append")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--datasets", type=int, default=12, help="the first so many data sets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--control", action="store_true")
    args = parser.parse_args()

    live = LiveModel.load(open_checkpoint(args.model))
    options = SourceOptions(limit=args.limit)
    datasets = open_datasets(args.data or ["templates"], options)[: args.datasets]
    plan = ProbePlan.build(datasets, live)

    def bare() -> None:
        with torch.inference_mode():
            for wave in plan.waves:
                for indices in wave.encoding.batches:
                    batch = _Batch.build(wave.encoding, indices, live.device)
                    live.model(**batch.inputs, use_cache=False)

    def ours() -> None:
        for wave in plan.waves:
            encode(live, wave.encoding)

    def fit() -> None:
        for wave, encoding in zip(plan.waves, encodings, strict=True):
            for layout in wave.layouts:
                good = wave.encoding.indices(pair.good for pair in layout.dataset.pairs)
                bad = wave.encoding.indices(pair.bad for pair in layout.dataset.pairs)
                DatasetRows("model", layout, encoding, good, bad).add_probes(args.control)

    encodings = [encode(live, wave.encoding) for wave in plan.waves]
    forward = cpu_seconds(bare, args.repeats)
    encoding = cpu_seconds(ours, args.repeats)
    probes = cpu_seconds(fit, args.repeats)
    report = {
        "model": live.name,
        "threads": torch.get_num_threads(),
        "datasets": len(datasets),
        "texts": sum(len(wave.encoding.texts) for wave in plan.waves),
        "tokens": sum(len(s.ids) for wave in plan.waves for s in wave.encoding.sequences),
        "layers": len(encodings[0].layers),
        "bare_forward_s": forward,
        "encode_s": encoding,
        "encode_overhead": encoding / forward - 1,
        "fit_s": probes,
        "fit_over_forward": probes / forward,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
