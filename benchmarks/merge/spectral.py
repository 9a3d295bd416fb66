"""Time Iso-C and TSV-Merge against plain implementations with full SVDs, at equal results.

Task matrices have the shapes of Qwen2-0.5B's layers and the spectrum that fine-tuning makes: noise
over all directions and a few dozen strong ones. Both sides see the same matrices, take turns in one
process with one thread, and are compared.

    python benchmarks/merge/spectral.py --layers 2 --write benchmarks/merge/spectral.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from miscible.merge.contract import METHODS, Context, Site
from miscible.merge.spaces import Deltas

LAYER = {
    "q_proj": (896, 896), "k_proj": (128, 896), "v_proj": (128, 896), "o_proj": (896, 896),
    "gate_proj": (4864, 896), "up_proj": (4864, 896), "down_proj": (896, 4864),
}  # fmt: skip
MODELS = 3


def task_matrices(shape: tuple[int, int], seed: int) -> list[torch.Tensor]:
    """Return noise plus 32 strong directions, up to ten times the edge of the noise, a model."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = shape
    edge = rows**0.5 + columns**0.5
    strong = edge * torch.logspace(1, 0, 32)
    found = []
    for _ in range(MODELS):
        noise = torch.randn(rows, columns, generator=generator)
        u, _ = torch.linalg.qr(torch.randn(rows, 32, generator=generator))
        v, _ = torch.linalg.qr(torch.randn(columns, 32, generator=generator))
        found.append(1e-4 * (noise + (u * strong) @ v.T))
    return found


def iso_c(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """Iso-C (2502.04959) as its equations are written."""
    u, s, vt = torch.linalg.svd(sum(deltas[1:], deltas[0]), full_matrices=False)
    return (u * s.mean()) @ vt


def tsv(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """TSV-Merge (2412.00081) as its algorithm is written."""
    us, ss, vs = [], [], []
    for delta in deltas:
        u, s, vt = torch.linalg.svd(delta, full_matrices=False)
        kept = len(s) // len(deltas)
        us.append(u[:, :kept])
        ss.append(s[:kept])
        vs.append(vt[:kept])
    left, _, left_t = torch.linalg.svd(torch.cat(us, dim=1), full_matrices=False)
    right, _, right_t = torch.linalg.svd(torch.cat(vs), full_matrices=False)
    return ((left @ left_t) * torch.cat(ss)) @ (right @ right_t)


def ours(name: str) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """Return the registered method with its defaults."""
    method = METHODS.get(name)
    values = {
        key: (p.default,) * MODELS if p.per_model else p.default
        for key, p in method.parameters.items()
    }
    return lambda deltas: method(Deltas(deltas), values, Context(Site("t"))).tensor


def timed(
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor], deltas: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, float]:
    """Return the result and the CPU seconds it took."""
    before = time.process_time()
    result = function(deltas)
    return result, time.process_time() - before


def main() -> None:
    """Print the table; write it with ``--write``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, plain in (("iso_c", iso_c), ("tsv", tsv)):
        method = ours(name)
        for function in (plain, method):  # what libraries set up at their first call
            function(task_matrices((256, 300), 0))
        rows = {tensor: [0.0, 0.0, 0.0] for tensor in LAYER}
        for layer in range(options.layers):
            for place, (tensor, shape) in enumerate(LAYER.items()):
                deltas = task_matrices(shape, 100 * layer + place)
                expected, slow = timed(plain, deltas)
                result, fast = timed(method, deltas)
                difference = float((result - expected).norm() / expected.norm())
                row = rows[tensor]
                rows[tensor] = [row[0] + slow, row[1] + fast, max(row[2], difference)]
        rows["all"] = [
            sum(row[0] for row in rows.values()),
            sum(row[1] for row in rows.values()),
            max(row[2] for row in rows.values()),
        ]
        for tensor, (slow, fast, difference) in rows.items():
            print(
                f"{name:6} {tensor:10} {slow:7.3f} {fast:7.3f} {slow / fast:5.1f} {difference:.1e}"
            )
        found[name] = {
            tensor: {
                "full_svd_cpu_s": round(slow, 4),
                "miscible_cpu_s": round(fast, 4),
                "ratio": round(slow / fast, 2),
                "relative_difference": float(f"{difference:.2g}"),
            }
            for tensor, (slow, fast, difference) in rows.items()
        }
    if options.write:
        report = {
            "layers": options.layers, "models": MODELS, "threads": 1, "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 2), "methods": found,
        }  # fmt: skip
        options.write.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
