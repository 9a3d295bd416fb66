"""Merging full checkpoints loads neither torch nor the compiler of the kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
sys.argv = ["miscible", "merge", "recipe.yml", "out", "--format", "quiet", "--threads", "2"]
from miscible.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "transformers", "numba", "scipy", "pandas", "huggingface_hub"} & set(sys.modules)
print(",".join(sorted(heavy)))
"""


def test_light_imports(tiny_base: Path, tiny_children: list[Path], tmp_path: Path) -> None:
    one, two = tiny_children
    (tmp_path / "recipe.yml").write_text(
        f"merge_method: ties\nbase_model: {tiny_base}\nparameters: {{density: 0.5, weight: 1}}\n"
        f"models: [{{model: {one}}}, {{model: {two}}}]\n"
    )
    loaded = []
    for _ in range(2):  # the first run of all may compile
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        loaded.append(done.stdout.strip())
        (tmp_path / "out").rename(tmp_path / f"out{len(loaded)}")
    assert loaded[-1] == ""
    first, second = ((tmp_path / f"out{n}" / "model.safetensors").read_bytes() for n in (1, 2))
    assert first == second
