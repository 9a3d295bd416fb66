"""What a data set costs at one layer: the reference protocol, as Lightning and bare, and ours.

Three programs see the same arrays of one layer, and CPU seconds are taken of one thread each:

* ``lightning``: the protocol as a PyTorch Lightning loop (``lightning_peer.py``), five seeds, in a
  virtual environment of its own; its fits alone, and its whole process, which starts anew for each
  data set as the reference's does;
* ``lean``: the same protocol in plain torch, our own ``holmes-compat`` mode, five seeds;
* ``ours``: an exact probe, its penalty chosen from seven, all layers at once and divided by their
  number, the median of three runs; or once with control labels, bag of words, and intervals from
  1,000 resamples.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from miscible.probe.encoding.encode import Encoding
from miscible.probe.encoding.tokens import Read
from miscible.probe.fit.held_out import Split
from miscible.probe.fit.holmes_compat import holmes_scores
from miscible.probe.fit.linear import cross_fit, threads_for
from miscible.probe.layout.pairs import PairLayout
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.plan import Wave
from miscible.probe.run import _reads
from miscible.probe.scoring.predictions import predict
from miscible.probe.scoring.task_rows import TaskRows

REQUIREMENT = "lightning==2.6.6"


def make_environment(folder: Path) -> None:
    """Install Lightning, with the versions of our own constraints, where it is missing."""
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
        pinned = Path(__file__).parents[2] / "constraints.txt"
        command = [folder / "bin" / "pip", "install", "--quiet", "-c", pinned, REQUIREMENT]
        subprocess.run(command, check=True)


def compare(
    wave: Wave, encoding: Encoding, everything: dict[str, float], peer: Path | None
) -> dict[str, dict[str, float]]:
    """Return CPU seconds a data set and layer, by data set.

    Args:
        wave, encoding: data sets, and what the model made of them.
        everything: our seconds of all layers with controls and intervals, by data set.
        peer: virtual environment with Lightning; None for the lean protocol alone.
    """
    found = {}
    for layout in wave.layouts:
        name = layout.dataset.name
        of = _pairs if isinstance(layout, PairLayout) else _task
        features, labels, split, alone = of(layout, wave, encoding)
        classes = len(layout.dataset.classes) if layout.dataset.kind == "classification" else 1
        last = np.ascontiguousarray(features[:, -1])
        marks = labels.astype(np.float32 if classes == 1 else np.int64)
        row = {"rows": len(last), "classes": classes}
        if peer is not None:
            row |= _lightning(peer, last, marks, classes, split)
        with threads_for(0):
            row["lean"] = cpu_seconds(lambda: holmes_scores(last, marks, classes, split))  # noqa: B023
        row["ours, the probe"] = median(cpu_seconds(alone) for _ in range(3)) / features.shape[1]
        row["ours, everything"] = everything[name] / features.shape[1]
        found[name] = {key: round(value, 4) for key, value in row.items()}
    return found


Case = tuple[np.ndarray, np.ndarray, Split, Callable[[], object]]


def _task(layout: TaskLayout, wave: Wave, encoding: Encoding) -> Case:
    rows = TaskRows("m", layout, encoding, _reads(layout, wave.encoding))
    features = rows._features(slice(0, len(encoding.layers)))
    fit = lambda: predict(features, layout.labels[None], layout)  # noqa: E731
    return features, layout.labels, layout.rounds[0], fit


def _pairs(layout: PairLayout, wave: Wave, encoding: Encoding) -> Case:
    # The protocol on one split; ours tests every pair once.
    pairs = layout.dataset.pairs
    good, bad = (
        wave.encoding.rows(Read(getattr(pair, which)) for pair in pairs)
        for which in ("good", "bad")
    )
    features = encoding.states[np.concatenate([good, bad])]
    truth, folds = np.repeat([True, False], len(pairs)), np.tile(layout.folds, 2)
    test, dev = folds == 0, folds == 1
    split = Split(*(np.flatnonzero(part) for part in (~(test | dev), dev, test)))
    return features, truth, split, lambda: cross_fit(features, truth[None], folds)


def _lightning(
    peer: Path, features: np.ndarray, labels: np.ndarray, classes: int, split: Split
) -> dict[str, float]:
    program = Path(__file__).with_name("lightning_peer.py")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, features=features, labels=labels, classes=classes, **split._asdict())
        command = [peer / "bin" / "python", program, path]
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**clean, "OMP_NUM_THREADS": "1"},
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return {"lightning, fits": told["fits"], "lightning, process": told["process"]}


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one run, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start
