"""What probing costs beside the bare forward passes, in CPU time of this process.

    python benchmarks/probe/cost.py demo:smollm2-135m-instruct [--compat] [--json FILE]

Twelve BLiMP paradigms and the tasks of EWT (parts of speech, features, relations, depths), all
layers, control task, bags of words, bootstrap. Data is read from ``MISCIBLE_SHARED_DATA`` (default
``../shared/data``). With ``--compat`` the reference protocol of Holmes is timed on some data sets
and layers, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from miscible.models import LiveModel, open_checkpoint
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.encode import Encoding, _Batch, _reads_of_texts, encode
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.plan import ProbePlan, Wave
from miscible.probe.run import ProbeOptions, _reads, layout_rows
from miscible.probe.scoring.task_rows import TaskRows

sys.path.insert(0, str(Path(__file__).parents[1]))
import blimp

COMPARED = ("upos", "deprel", "depth", "feature/Number", "feature/Tense")
"""Data sets on which the reference protocol is timed."""


def main() -> None:
    """Print the measurement as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--compat", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    live = LiveModel.load(open_checkpoint(args.model))
    plan = ProbePlan.build(datasets(args.pairs, args.examples), live)
    bare_seconds = cpu_seconds(lambda: bare(live, plan.waves))
    logits_seconds = cpu_seconds(lambda: bare(live, plan.waves, 0))
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
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "by data set": by_dataset,
    }
    if args.compat:
        found["one layer"] = compat(plan.waves[0], encodings[0], by_dataset)
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


def compat(wave: Wave, encoding: Encoding, ours: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return CPU seconds of the reference protocol at one layer, beside ours a layer."""
    last = Encoding(
        encoding.layers[-1:], encoding.states[:, -1:], encoding.log_probability, encoding.tokens
    )
    found = {}
    for layout in wave.layouts:
        name = layout.dataset.name
        if isinstance(layout, TaskLayout) and name.endswith(COMPARED):
            rows = TaskRows("m", layout, last, _reads(layout, wave.encoding))
            theirs = cpu_seconds(rows.add_reference_probes)
            each = ours[name] / len(encoding.layers)
            found[name] = {
                "holmes-compat": round(theirs, 2), "ours": round(each, 4),
                "ratio": round(theirs / each),
            }  # fmt: skip
    return found


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one run, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
