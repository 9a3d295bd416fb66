"""What probing costs beside the bare forward passes, in CPU time of this process.

    python benchmarks/probe/cost.py demo:smollm2-135m-instruct [--lightning VENV] [--json FILE]

Twelve BLiMP paradigms and the tasks of EWT (parts of speech, features, relations, depths), all
layers, control task, bags of words, bootstrap. Data is read from ``MISCIBLE_SHARED_DATA`` (default
``../shared/data``). The reference protocol of Holmes is timed on each of the data sets at one layer
(``protocols.py``), with ``--lightning`` also as a Lightning loop, in a virtual environment that is
made where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from miscible.models import LiveModel, open_checkpoint
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.encode import Encoding, _Batch, _reads_of_texts, encode
from miscible.probe.plan import ProbePlan, Wave
from miscible.probe.run import ProbeOptions, layout_rows

sys.path.insert(0, str(Path(__file__).parents[1]))
import blimp
from protocols import compare, cpu_seconds, make_environment


def main() -> None:
    """Print the measurement as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--lightning", type=Path, metavar="VENV")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.lightning:
        make_environment(args.lightning)
    loads = [os.getloadavg()[0]]
    live = LiveModel.load(open_checkpoint(args.model))
    plan = ProbePlan.build(datasets(args.pairs, args.examples), live)
    bare_seconds = cpu_seconds(lambda: bare(live, plan.waves))
    logits_seconds = cpu_seconds(lambda: bare(live, plan.waves, 0))
    loads.append(os.getloadavg()[0])
    options = ProbeOptions(control=True, words=True)
    encodings: list[Encoding] = []
    encoding_seconds = cpu_seconds(
        lambda: encodings.extend(encode(live, wave.encoding) for wave in plan.waves)
    )
    by_dataset = {}
    for wave, encoding in zip(plan.waves, encodings, strict=True):
        for layout in wave.layouts:
            work = lambda: layout_rows("m", layout, wave.encoding, encoding, options)  # noqa: B023, E731
            by_dataset[layout.dataset.name] = round(cpu_seconds(work), 2)
    probing = sum(by_dataset.values())
    found: dict[str, Any] = {
        "model": args.model,
        "layers": len(encodings[0].layers),
        "data sets": len(by_dataset),
        "texts": sum(len(wave.encoding.texts) for wave in plan.waves),
        "tokens": sum(len(s.ids) for wave in plan.waves for s in wave.encoding.sequences),
        "bare forward passes": round(bare_seconds, 1),
        "bare, with the logits of all tokens": round(logits_seconds, 1),
        "encoding": round(encoding_seconds, 1),
        "probing": round(probing, 1),
        "total over bare": round((encoding_seconds + probing) / bare_seconds, 2),
        "CPU s a data set and layer": round(probing / len(by_dataset) / 31, 4),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "threads": torch.get_num_threads(),
        "by data set": by_dataset,
    }
    print(json.dumps(found, indent=2), file=sys.stderr, flush=True)
    found["one layer"] = {
        name: row
        for wave, encoding in zip(plan.waves, encodings, strict=True)
        for name, row in compare(wave, encoding, by_dataset, args.lightning).items()
    }
    found["load"] = [*loads, os.getloadavg()[0]]
    text = json.dumps(found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def datasets(pairs: int, examples: int) -> Sequence[ProbeDataset]:
    """Return the data sets of the measurement."""
    data = Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data")) / "probing"
    with tempfile.TemporaryDirectory() as folder:
        blimp.unpack(data, Path(folder) / "blimp")
        held = open_datasets([f"minimal_pairs:{folder}/blimp"], SourceOptions(limit=pairs))
    treebank = data / "ud_en_ewt" / "en_ewt-ud-dev.conllu.gz"
    return [*held, *open_datasets([f"conllu:{treebank}"], SourceOptions(limit=examples))]


def bare(live: LiveModel, waves: Sequence[Wave], logits: int = 1) -> None:
    """Run the model over all texts, and nothing else: by default the last position's logits."""
    with torch.inference_mode():
        for wave in waves:
            reads = _reads_of_texts(wave.encoding)
            for indices in wave.encoding.batches:
                batch = _Batch.build(wave.encoding, indices, reads, live.device)
                live.model(**batch.inputs, use_cache=False, logits_to_keep=logits)


if __name__ == "__main__":
    main()
