"""Any architecture merges by the names of its tensors alone, and loads where it came from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from architectures import FAMILIES, build, outputs
from miscible.errors import IncompatibleModelsError
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import FileCheckpoint, FolderCheckpoint
from miscible.models.memory import MemoryCheckpoint
from miscible.models.writer import write_checkpoint

State = dict[str, torch.Tensor]

LINEAR = """
merge_method: linear
models:
  - {model: a, parameters: {weight: 0.25}}
  - {model: b, parameters: {weight: 0.75}}
"""
SLERP = """
merge_method: slerp
base_model: a
models: [{model: a}, {model: b}]
parameters: {t: 0.5}
"""
TIES = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 0.5, density: 0.4}}
  - {model: b, parameters: {weight: 0.5, density: 0.4}}
"""


def variants(family: str, folder: Path) -> dict[str, Any]:
    """Save a base and two variants of it; return them by name."""
    found = {}
    for seed, name in enumerate(("base", "a", "b")):
        found[name] = model = build(family, 0)
        torch.manual_seed(seed)
        for tensor in model.parameters():
            tensor.add_(0.1 * seed * torch.randn_like(tensor))
        model.save_pretrained(folder / name)
    return found


def merged(recipe: str, folder: Path, family: str) -> tuple[Any, State]:
    """Merge, write, and load with transformers; return the model and what was written."""
    import transformers

    merge = VirtualCheckpoint.open(parse_recipe(recipe), relative_to=folder)
    write_checkpoint(merge, folder / "out")
    written: State = {}
    for file in (folder / "out").glob("*.safetensors"):
        written |= load_file(file)
    kind = getattr(transformers, FAMILIES[family][0])
    model, loading = kind.from_pretrained(folder / "out", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert not loading["mismatched_keys"]
    return model.eval(), written


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_is_the_average(family: str, tmp_path: Path) -> None:
    models = variants(family, tmp_path)
    merge, written = merged(LINEAR, tmp_path, family)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert written.keys() == a.keys()
    for name, tensor in written.items():
        if not tensor.is_floating_point():
            assert tensor.equal(a[name])
            continue
        expected = 0.25 * a[name].double() + 0.75 * b[name].double()
        assert torch.allclose(tensor.double(), expected, rtol=1e-6, atol=1e-7), name
    # The same through the models' own parameters, whatever names they are stored under.
    average = models["base"]
    halves = models["a"].state_dict(), models["b"].state_dict()
    average.load_state_dict(
        {
            name: 0.25 * halves[0][name] + 0.75 * halves[1][name]
            if tensor.is_floating_point()
            else tensor
            for name, tensor in average.state_dict().items()
        }
    )
    found = outputs(merge)
    assert found.isfinite().all()
    assert torch.allclose(found, outputs(average), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_slerp_and_ties_load(family: str, tmp_path: Path) -> None:
    variants(family, tmp_path)
    a, b, base = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b", "base"))
    model, written = merged(SLERP, tmp_path, family)
    assert outputs(model).isfinite().all()
    for name, tensor in written.items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor.double(), _slerp(a[name], b[name]), rtol=1e-5, atol=1e-5)
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    (tmp_path / "out").rmdir()
    model, written = merged(TIES, tmp_path, family)
    assert outputs(model).isfinite().all()
    for name, tensor in written.items():
        if tensor.is_floating_point():
            expected = _ties(base[name], a[name], b[name], 0.4)
            assert torch.allclose(tensor.double(), expected, rtol=1e-5, atol=1e-6), name


def _slerp(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # Shoemake's formula at t = 1/2 on the flattened tensors (mergekit's, float64).
    x, y = a.double(), b.double()
    nx, ny = x.norm(), y.norm()
    cosine = float((x * y).sum() / (nx * ny)) if min(nx, ny) > 1e-8 else 1.0
    if abs(cosine) > 0.9995:
        return (x + y) / 2
    angle = torch.tensor(cosine, dtype=torch.float64).acos()
    return (0.5 * angle).sin() / angle.sin() * (x + y)


def _ties(base: torch.Tensor, a: torch.Tensor, b: torch.Tensor, density: float) -> torch.Tensor:
    # 2306.01708, algorithm 1: trim, elect, disjoint mean of equal weights.
    trimmed = []
    for model in (a, b):
        delta = (model - base).double()
        keep = max(1, int(density * delta.numel()))
        least = delta.abs().flatten().sort(descending=True).values[keep - 1] if delta.numel() else 0
        trimmed.append(torch.where(delta.abs() >= least, delta, 0))
    stacked = torch.stack(trimmed)
    sign = torch.where(stacked.sum(0) >= 0, 1, -1)
    agrees = stacked.sign() == sign
    mean = (stacked * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    return base.double() + mean


def test_integers_must_be_equal() -> None:
    def model(name: str, steps: int) -> MemoryCheckpoint:
        state = {"bn1.num_batches_tracked": torch.tensor(steps), "bn1.weight": torch.ones(2),
                 "embeddings.position_ids": torch.arange(4)}  # fmt: skip
        return MemoryCheckpoint(name, state)

    recipe = parse_recipe(LINEAR)
    same = VirtualCheckpoint(recipe, {"a": model("a", 7), "b": model("b", 7)})
    assert same.read("bn1.num_batches_tracked").equal(torch.tensor(7))
    assert same.read("embeddings.position_ids").equal(torch.arange(4))
    other = VirtualCheckpoint(recipe, {"a": model("a", 7), "b": model("b", 8)})
    with pytest.raises(IncompatibleModelsError, match="num_batches_tracked"):
        other.read("bn1.num_batches_tracked")


UNET = {
    "conv_in.weight": (4, 3, 3, 3),
    "time_embedding.linear_1.weight": (8, 4),
    "down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3),
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.weight": (4, 4),
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0.bias": (4,),
    "down_blocks.1.resnets.0.norm1.weight": (4,),
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (16, 4),
    "up_blocks.1.resnets.2.conv_shortcut.weight": (4, 8, 1, 1),
    "conv_out.weight": (3, 4, 3, 3),
}


def test_single_files_without_a_config(tmp_path: Path) -> None:
    states = []
    for seed, name in enumerate("ab"):
        generator = torch.Generator().manual_seed(seed)
        states.append({k: torch.randn(s, generator=generator).half() for k, s in UNET.items()})
        save_file(states[-1], tmp_path / f"{name}.safetensors")
    models = {name: FileCheckpoint(tmp_path / f"{name}.safetensors") for name in "ab"}
    merge = VirtualCheckpoint(parse_recipe(LINEAR), models)
    for name in UNET:
        expected = 0.25 * states[0][name].float() + 0.75 * states[1][name].float()
        assert merge.read(name).equal(expected.half())


def test_gradients_run_over_each_stack() -> None:
    names = [f"{side}.block.{i}.layer.0.SelfAttention.q.weight"
             for side, n in (("encoder", 3), ("decoder", 2)) for i in range(n)]  # fmt: skip
    models = {name: MemoryCheckpoint(name, {n: torch.full((2, 2), value) for n in names})
              for name, value in (("a", 0.0), ("b", 1.0))}  # fmt: skip
    recipe = parse_recipe("""
merge_method: linear
models:
  - {model: a, parameters: {weight: [1, 0]}}
  - {model: b, parameters: {weight: [0, 1]}}
""")
    merge = VirtualCheckpoint(recipe, models)
    assert [float(merge.read(name)[0, 0]) for name in names] == [0, 0.5, 1, 0, 1]


def test_a_hundred_thousand_tensors_are_planned_in_seconds(tmp_path: Path) -> None:
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in range(64)
        for expert in range(521)
        for part in ("gate", "up", "down")
    ]
    entries = {
        name: {"dtype": "BF16", "shape": [2, 1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(4 * len(names))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(data)
    start = time.process_time()
    models = {name: FolderCheckpoint(tmp_path / name) for name in "ab"}
    plan = plan_merge(parse_recipe(LINEAR), models)
    assert len(plan.outputs) == len(names) > 100_000
    assert time.process_time() - start < 20
