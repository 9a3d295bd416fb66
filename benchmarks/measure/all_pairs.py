"""All pairs of N fine-tunes against what they must cost at least, and against one pair at a time.

    python benchmarks/measure/all_pairs.py FOLDER vit --models 20 --layers 12

Measured in one run, on the same files, with the same number of threads:

*floor*     per tensor: reading, one float64 Gram product of the stacked differences; per model and
            matrix: one thin spectral decomposition (the smaller Gram and numpy's ``eigh``)
*first*     ``miscible.measure``, all metrics of weights, nothing kept
*again*     the same with all decompositions kept
*one more*  N - 1 models are kept and one is new
*pairwise*  the protocol of 2601.22285's code: for each pair and matrix 16 thin SVDs; three pairs
            are timed and multiplied

Figures are written as JSON to FOLDER/NAME.json and printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from safetensors import safe_open

from models import FAMILIES, write

SVDS_A_PAIR = 16
TIMED_PAIRS = 3


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--keep", action="store_true", help="Keep the synthetic models.")
    chosen = parser.parse_args()
    name = f"{chosen.family}-{chosen.layers}x{chosen.models}"
    shapes = FAMILIES[chosen.family](chosen.layers)
    base, models = write(chosen.folder / name, shapes, chosen.models)
    figures: dict[str, object] = {
        "family": chosen.family, "layers": chosen.layers, "models": chosen.models,
        "pairs": chosen.models * (chosen.models - 1) // 2,
        "parameters": sum(int(np.prod(shape)) for shape in shapes.values()),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"), "load": os.getloadavg()[0],
    }  # fmt: skip
    figures |= ours(base, models, chosen.folder / name / "cache")
    figures |= floor(base, models)
    figures |= pairwise(base, models)
    figures["first / floor"] = figures["first_s"] / figures["floor_s"]  # type: ignore[operator]
    figures["pairwise / first"] = figures["pairwise_s"] / figures["first_s"]  # type: ignore[operator]
    text = json.dumps(figures, indent=2)
    (chosen.folder / f"{name}.json").write_text(text + "\n")
    print(text)
    if not chosen.keep:
        shutil.rmtree(chosen.folder / name)


def ours(base: Path, models: list[Path], cache: Path) -> dict[str, object]:
    """Return seconds and peak memory of miscible."""
    from miscible.measure.api import measure

    before = _peak()
    figures: dict[str, object] = {"first_s": timed(lambda: measure(base, models, cache=False))}
    figures["peak_gb"] = _peak()
    figures["peak_before_gb"] = before
    shutil.rmtree(cache, ignore_errors=True)
    measure(base, models[:-1], cache=cache)
    figures["one_more_s"] = timed(lambda: measure(base, models, cache=cache))
    figures["again_s"] = timed(lambda: measure(base, models, cache=cache))
    held = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    figures["cache_gb"] = held / 1e9
    shutil.rmtree(cache)
    return figures


def floor(base: Path, models: list[Path]) -> dict[str, object]:
    """Return seconds of reading, one Gram product a tensor, and one decomposition a matrix."""
    reading = product = spectral = 0.0
    files = [safe_open(p / "model.safetensors", framework="numpy") for p in (base, *models)]
    for name in files[0].keys():  # noqa: SIM118
        start = time.perf_counter()
        held = [file.get_tensor(name) for file in files]
        differences = np.empty((len(models), held[0].size))
        for row, tensor in zip(differences, held[1:], strict=True):
            np.subtract(tensor.reshape(-1), held[0].reshape(-1), out=row, dtype=np.float64)
        read = time.perf_counter()
        differences @ differences.T
        multiplied = time.perf_counter()
        if held[0].ndim == 2:
            for row in differences:
                matrix = row.reshape(held[0].shape)
                wide = matrix.shape[0] < matrix.shape[1]
                np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
        reading += read - start
        product += multiplied - read
        spectral += time.perf_counter() - multiplied
    return {
        "floor_s": reading + product + spectral, "floor_reading_s": reading,
        "floor_gram_s": product, "floor_spectral_s": spectral,
    }  # fmt: skip


def pairwise(base: Path, models: list[Path]) -> dict[str, object]:
    """Return the seconds that 16 SVDs a pair and matrix would take, from three pairs.

    One SVD is done for each matrix of both models of a pair, in float32 as that code does, and
    counted eight times.
    """
    count = len(models) * (len(models) - 1) // 2
    some = list(combinations(models, 2))[:TIMED_PAIRS]

    def run() -> None:
        for pair in some:
            files = [safe_open(p / "model.safetensors", framework="numpy") for p in (base, *pair)]
            for name in files[0].keys():  # noqa: SIM118
                origin = files[0].get_tensor(name)
                if origin.ndim == 2:
                    for file in files[1:]:
                        np.linalg.svd(file.get_tensor(name) - origin, full_matrices=False)

    seconds = timed(run) / len(some)
    return {
        "pairwise_s": seconds * SVDS_A_PAIR / 2 * count, "pairwise_timed_pairs": len(some),
        "pairwise_two_svds_a_matrix_s": seconds,
    }  # fmt: skip


def timed(work: object) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
