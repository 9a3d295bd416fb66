"""All pairs of N fine-tunes against what they must cost at least, and against one pair at a time.

    python benchmarks/measure/all_pairs.py FOLDER vit --models 20 --layers 12

Measured on the same files, one after the other, each in a process of one thread, as CPU seconds:

*floor*     per tensor: one float64 Gram product of the stacked differences; per model and matrix:
            one thin spectral decomposition (the smaller Gram and numpy's ``eigh``). Reading and
            subtracting, which the floor needs too, is told apart.
*first*     ``miscible.measure``, all metrics of weights, nothing kept, start-up included
*pairwise*  the protocol of 2601.22285's code: for each pair and matrix 16 thin SVDs. Timed on the
            matrices of one layer and on those outside of layers, for three pairs; multiplied by
            the number of layers and pairs
*memory*    peak of *first* for each number of models in ``--memory``, with ``--memory-layers``
            layers: what it needs does not depend on depth

Figures are written as JSON to FOLDER/NAME.json and printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from models import FAMILIES, write

SVDS_A_PAIR = 16
TIMED_PAIRS = 3
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--memory", default="5,10,20")
    parser.add_argument("--memory-layers", type=int, default=1)
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="Keep the synthetic models.")
    chosen = parser.parse_args()
    name = f"{chosen.family}-{chosen.layers}x{chosen.models}"
    shapes = FAMILIES[chosen.family](chosen.layers)
    if chosen.part:  # the models are there: drawing them again would be the peak of its memory
        folders = [chosen.folder / name / f"m{n:02d}" for n in range(chosen.models)]
        print(json.dumps(PARTS[chosen.part](chosen.folder / name / "base", folders)))
        return
    write(chosen.folder / name, shapes, chosen.models)
    figures: dict[str, object] = {
        "family": chosen.family, "layers": chosen.layers, "models": chosen.models,
        "pairs": chosen.models * (chosen.models - 1) // 2,
        "parameters": sum(int(np.prod(shape)) for shape in shapes.values()),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    for part in ("first", "floor", "pairwise"):
        figures |= _in_process(chosen, part, chosen.layers, chosen.models)
    figures["first / floor"] = figures["first_s"] / figures["floor_s"]  # type: ignore[operator]
    with_reading = figures["floor_s"] + figures["reading_s"]  # type: ignore[operator]
    figures["first / (floor and reading)"] = figures["first_s"] / with_reading  # type: ignore[operator]
    figures["pairwise / first"] = figures["pairwise_s"] / figures["first_s"]  # type: ignore[operator]
    for count in filter(None, chosen.memory.split(",")):
        few = f"{chosen.family}-{chosen.memory_layers}x{count}"
        write(chosen.folder / few, FAMILIES[chosen.family](chosen.memory_layers), int(count))
        held = _in_process(chosen, "first", chosen.memory_layers, int(count))
        figures[f"peak_gb_{count}_models"] = held["peak_gb"]
    figures["load_after"] = os.getloadavg()[0]
    text = json.dumps(figures, indent=2)
    (chosen.folder / f"{name}.json").write_text(text + "\n")
    print(text)
    if not chosen.keep:
        for folder in chosen.folder.glob(f"{chosen.family}-*x*"):
            if folder.is_dir():
                shutil.rmtree(folder)


def first(base: Path, models: list[Path]) -> dict[str, object]:
    """Return what miscible takes, and its peak memory."""
    from miscible.measure.api import measure

    start = time.process_time()
    measure(base, models, cache=False)
    return {
        "first_s": time.process_time() - start,
        "peak_gb": _peak(),
    }


def floor(base: Path, models: list[Path]) -> dict[str, object]:
    """Return what reading, one Gram product a tensor, and one decomposition a matrix take."""
    reading = product = spectral = 0.0
    files = [safe_open(p / "model.safetensors", framework="pt") for p in (base, *models)]
    for name in files[0].keys():  # noqa: SIM118
        start = time.process_time()
        origin = files[0].get_tensor(name).to(torch.float64).numpy()
        differences = np.empty((len(models), origin.size))
        for row, file in zip(differences, files[1:], strict=True):
            tensor = file.get_tensor(name).to(torch.float64).numpy()
            np.subtract(tensor, origin, out=row.reshape(origin.shape))
        read = time.process_time()
        differences @ differences.T
        multiplied = time.process_time()
        if origin.ndim == 2:
            for row in differences:
                matrix = row.reshape(origin.shape)
                wide = matrix.shape[0] < matrix.shape[1]
                np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
        reading += read - start
        product += multiplied - read
        spectral += time.process_time() - multiplied
    return {
        "floor_s": product + spectral, "reading_s": reading, "floor_gram_s": product,
        "floor_spectral_s": spectral,
    }  # fmt: skip


def pairwise(base: Path, models: list[Path]) -> dict[str, object]:
    """Return what 16 SVDs a pair and matrix would take.

    One SVD is done for each matrix of both models of a pair, in float32 as that code does, and
    counted eight times.
    """
    count = len(models) * (len(models) - 1) // 2
    some = list(combinations(models, 2))[:TIMED_PAIRS]
    inside = outside = 0.0
    layers = 1
    for pair in some:
        files = [safe_open(p / "model.safetensors", framework="pt") for p in (base, *pair)]
        for name in files[0].keys():  # noqa: SIM118
            number = name.partition("layers.")[2].partition(".")[0]
            layers = max(layers, int(number or 0) + 1)
            origin = files[0].get_tensor(name).float()
            if origin.ndim != 2 or number not in ("", "0"):
                continue
            start = time.process_time()
            for file in files[1:]:
                difference = file.get_tensor(name).float() - origin
                np.linalg.svd(difference.numpy(), full_matrices=False)
            inside += (time.process_time() - start) if number else 0.0
            outside += 0.0 if number else time.process_time() - start
    seconds = (inside * layers + outside) / len(some)
    return {
        "pairwise_s": seconds * SVDS_A_PAIR / 2 * count, "pairwise_timed_pairs": len(some),
        "pairwise_two_svds_a_matrix_s": seconds,
    }  # fmt: skip


def _peak() -> float:
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


PARTS = {"first": first, "floor": floor, "pairwise": pairwise}


def _in_process(
    chosen: argparse.Namespace, part: str, layers: int, models: int
) -> dict[str, object]:
    command = [sys.executable, __file__, str(chosen.folder), chosen.family, "--part", part]
    command += ["--layers", str(layers), "--models", str(models)]
    done = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
