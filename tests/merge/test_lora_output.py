"""Merges written as LoRA adapters: what comes back, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.merge.lora_output import Combination, write_lora
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import LAYERS, WIDTH, tiny_tensors, write_adapter

MODULES = [f"model.layers.{i}.self_attn.{p}" for i in range(LAYERS) for p in ("q_proj", "v_proj")]
WEIGHTS = {f"{module}.weight" for module in MODULES}
NORM = "model.norm.weight"


def lora(folder: Path, rank: int, seed: int, modules: list[str] = MODULES) -> Path:
    generator = torch.Generator().manual_seed(seed)
    return write_adapter(
        folder,
        {
            module: (
                0.3 * torch.randn(rank, WIDTH, generator=generator),
                0.3 * torch.randn(WIDTH, rank, generator=generator),
            )
            for module in modules
        },
        lora_alpha=rank,
    )


def linear_merge(base: Path, *adapters: Path) -> VirtualCheckpoint:
    listed = "".join(
        f"  - {{model: {base}+{adapter}, parameters: {{weight: {0.7 - 0.3 * i}}}}}\n"
        for i, adapter in enumerate(adapters)
    )
    return VirtualCheckpoint.open(
        parse_recipe(f"merge_method: task_arithmetic\nbase_model: {base}\nmodels:\n{listed}")
    )


def changed(deltas: dict[str, torch.Tensor], **config: Any) -> tuple[Checkpoint, Checkpoint]:
    tensors = tiny_tensors(0)
    grown = {**tensors, **{name: tensors[name] + delta for name, delta in deltas.items()}}
    return MemoryCheckpoint("merge", grown, config=config), MemoryCheckpoint("base", tensors)


def matrix(seed: int, rows: int = WIDTH, columns: int = WIDTH) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_two_loras_come_back_at_the_sum_of_their_ranks(tiny_base: Path, tmp_path: Path) -> None:
    merge = linear_merge(tiny_base, lora(tmp_path / "a", 2, 1), lora(tmp_path / "b", 3, 2))
    base = FolderCheckpoint(tiny_base)
    report = write_lora(merge, base, tmp_path / "out", 5, base_model=str(tiny_base))
    assert {tensor.name for tensor in report.tensors} == WEIGHTS
    assert {tensor.rank for tensor in report.tensors} == {5}
    assert report.error < 1e-6
    assert not report.dropped
    back = AdaptedCheckpoint(base, LoraAdapter(tmp_path / "out"))
    for name in merge.tensors:
        assert torch.allclose(back.read(name), merge.read(name), rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("rank", [5, "exact", 2])
def test_peft_loads_what_was_written(tiny_base: Path, tmp_path: Path, rank: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    half = [module for module in MODULES if "layers.0" in module]
    merge = linear_merge(tiny_base, lora(tmp_path / "a", 2, 1), lora(tmp_path / "b", 3, 2, half))
    report = write_lora(merge, FolderCheckpoint(tiny_base), tmp_path / "out", rank)
    ranks = {tensor.name: tensor.rank for tensor in report.tensors}
    if rank == "exact":
        assert ranks == {f"{m}.weight": 5 if m in half else 2 for m in MODULES}
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, tmp_path / "out").merge_and_unload().state_dict()
    ours = AdaptedCheckpoint(FolderCheckpoint(tiny_base), LoraAdapter(tmp_path / "out"))
    for name in ours.tensors:
        assert torch.allclose(ours.read(name), merged[name], rtol=1e-5, atol=1e-6), name
        if rank != 2:
            assert torch.allclose(merge.read(name), merged[name], rtol=1e-5, atol=2e-6), name


def test_a_combination_is_held_from_its_factors(tiny_base: Path, tmp_path: Path) -> None:
    base = FolderCheckpoint(tiny_base)
    adapters = [LoraAdapter(lora(tmp_path / n, r, s)) for n, r, s in (("a", 2, 1), ("b", 3, 2))]
    weights = [0.25, -1.5]

    def combination(name: str) -> Combination | None:
        deltas = [adapter.delta(name) for adapter in adapters]
        return None if None in deltas else ([d for d in deltas if d is not None], weights)

    merge = linear_merge(tiny_base, *(adapter.folder for adapter in adapters))
    write_lora(merge, base, tmp_path / "out", "exact", combination=combination)
    written = LoraAdapter(tmp_path / "out")
    for name in WEIGHTS:
        deltas = [adapter.delta(name) for adapter in adapters]
        wanted = sum(w * d.dense(torch.float64) for w, d in zip(weights, deltas, strict=True))
        found = written.delta(name)
        assert found.a.shape[0] == 5
        assert torch.allclose(found.dense(torch.float64), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 40])
def test_the_reported_error_is_that_of_the_best_approximation(tmp_path: Path, rank: int) -> None:
    names = {MODULES[0] + ".weight": (1, WIDTH), "model.layers.1.mlp.up_proj.weight": (2, 24)}
    deltas = {name: matrix(seed, rows) for name, (seed, rows) in names.items()}
    merge, base = changed(deltas)
    report = write_lora(merge, base, tmp_path / "out", rank)
    lost = total = 0.0
    for tensor in report.tensors:
        delta = merge.read(tensor.name).double() - base.read(tensor.name).double()
        values = np.linalg.svd(delta.numpy(), compute_uv=False)
        error = float(np.sqrt((values[rank:] ** 2).sum() / (values**2).sum()))
        assert tensor.rank == min(rank, WIDTH)
        assert tensor.norm == pytest.approx(float(np.sqrt((values**2).sum())))
        assert tensor.error == pytest.approx(error, rel=1e-5, abs=3e-7)
        lost, total = lost + (values[rank:] ** 2).sum(), total + (values**2).sum()
    assert report.error == pytest.approx(float(np.sqrt(lost / total)), rel=1e-5, abs=3e-7)


def test_exact_finds_the_rank_of_a_dense_difference(tmp_path: Path) -> None:
    ranks = {MODULES[0] + ".weight": 1, MODULES[1] + ".weight": 4, MODULES[2] + ".weight": WIDTH}
    deltas = {
        name: matrix(i, WIDTH, rank) @ matrix(9 + i, rank)
        for i, (name, rank) in enumerate(ranks.items())
    }
    merge, base = changed(deltas)
    report = write_lora(merge, base, tmp_path / "out", "exact")
    assert {tensor.name: tensor.rank for tensor in report.tensors} == ranks
    assert report.error <= 1e-6
    adapter = LoraAdapter(tmp_path / "out")  # checks ranks against the config's patterns
    for name in ranks:
        wanted = merge.read(name) - base.read(name)
        assert torch.allclose(adapter.delta(name).dense(), wanted, atol=1e-5)


def test_what_no_linear_lora_holds_is_refused_or_dropped(tmp_path: Path) -> None:
    linear, norm = matrix(1), torch.ones(WIDTH)
    embedding = 0.1 * matrix(2, 14)
    deltas = {
        MODULES[0] + ".weight": linear, NORM: norm, "model.embed_tokens.weight": embedding,
    }  # fmt: skip
    merge, base = changed(deltas)
    with pytest.raises(MiscibleError, match=r"2 tensors differ.*'model\.norm\.weight' \(2\d\."):
        write_lora(merge, base, tmp_path / "out", 4)
    assert not list(tmp_path.iterdir())
    report = write_lora(merge, base, tmp_path / "out", WIDTH, drop_rest=True)
    share = (norm.norm() ** 2 + embedding.norm() ** 2).sqrt() / torch.cat(
        [delta.flatten() for delta in deltas.values()]
    ).norm()
    assert report.dropped.keys() == deltas.keys() - {MODULES[0] + ".weight"}
    assert report.dropped_share == pytest.approx(float(share), rel=1e-5)
    assert report.error == pytest.approx(float(share), rel=1e-5)
    assert "2 tensors that no LoRA" in (tmp_path / "out" / "README.md").read_text()
    assert set(LoraAdapter(tmp_path / "out").weights) == {MODULES[0] + ".weight"}


def test_rounding_is_no_difference(tmp_path: Path) -> None:
    tensors = tiny_tensors(0)
    noisy = {name: (tensor / 3) * 3 for name, tensor in tensors.items()}
    assert any(not noisy[name].equal(tensors[name]) for name in tensors)
    noisy[MODULES[0] + ".weight"] += matrix(1)
    merge, base = MemoryCheckpoint("merge", noisy), MemoryCheckpoint("base", tensors)
    report = write_lora(merge, base, tmp_path / "out", 3)
    assert [tensor.name for tensor in report.tensors] == [MODULES[0] + ".weight"]


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=14, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=8,
                   bos_token_id=0, eos_token_id=1)
    )  # fmt: skip
    model.save_pretrained(tmp_path / "base")
    base = FolderCheckpoint(tmp_path / "base")
    tensors = {name: base.read(name) for name in base.tensors}
    wide, square = "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"
    tensors[wide] += matrix(1, WIDTH, 2) @ matrix(2, 2, 3 * WIDTH)
    tensors[square] += matrix(3, WIDTH, 2) @ matrix(4, 2)
    merge = MemoryCheckpoint("merge", tensors)
    write_lora(merge, base, tmp_path / "out", 2)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["fan_in_fan_out"]
    ours = AdaptedCheckpoint(base, LoraAdapter(tmp_path / "out"))
    theirs = PeftModel.from_pretrained(model, tmp_path / "out").merge_and_unload().state_dict()
    for name in (wide, square):
        assert torch.allclose(ours.read(name), tensors[name], atol=1e-5)
        assert torch.allclose(theirs[name], tensors[name], atol=1e-5)


def test_modules_are_named_by_their_end_where_that_means_no_other(tmp_path: Path) -> None:
    deltas = {name: matrix(i) for i, name in enumerate(sorted(WEIGHTS))}
    del deltas[MODULES[1] + ".weight"]
    write_lora(*changed(deltas), tmp_path / "out", 2)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["target_modules"] == [MODULES[3], "q_proj"]


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 1e-4), ("float32", 0.0)])
def test_errors_are_those_of_the_factors_as_written(
    tmp_path: Path, dtype: str, least: float
) -> None:
    name = MODULES[0] + ".weight"
    merge, base = changed({name: matrix(1, WIDTH, 2) @ matrix(2, 2)})
    report = write_lora(merge, base, tmp_path / "out", 2, dtype=dtype)
    found = LoraAdapter(tmp_path / "out").delta(name)
    assert found.a.dtype == found.b.dtype == getattr(torch, dtype)
    delta = merge.read(name, torch.float64) - base.read(name, torch.float64)
    error = float((delta - found.dense(torch.float64)).norm() / delta.norm())
    assert report.error == pytest.approx(error)
    assert report.error >= least


def test_what_cannot_be_written(tmp_path: Path) -> None:
    merge, base = changed({MODULES[0] + ".weight": matrix(1)})
    for rank in (0, -1, True, 1.5, "full"):
        with pytest.raises(MiscibleError, match="is not a rank"):
            write_lora(merge, base, tmp_path / "out", rank)  # type: ignore[arg-type]
    with pytest.raises(MiscibleError, match="not a dtype"):
        write_lora(merge, base, tmp_path / "out", 2, dtype="int8")
    with pytest.raises(MiscibleError, match="no linear layer differs"):
        write_lora(base, base, tmp_path / "out", 2)
    short = MemoryCheckpoint("short", {NORM: torch.ones(WIDTH)})
    for pair in ((merge, short), (short, base)):
        with pytest.raises(IncompatibleModelsError, match="missing or of another shape"):
            write_lora(*pair, tmp_path / "out", 2)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(CheckpointError, match="exists already"):
        write_lora(merge, base, tmp_path / "out", 2)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_lora(merge, base, tmp_path / "file" / "out", 2)


def test_local_paths_stay_private(tmp_path: Path) -> None:
    tensors = tiny_tensors(0)
    base = MemoryCheckpoint("/home/someone/secret/base", tensors)
    grown = {**tensors, MODULES[0] + ".weight": matrix(1)}
    write_lora(MemoryCheckpoint("merge", grown), base, tmp_path / "out", 2)
    for name in ("README.md", "adapter_config.json"):
        text = (tmp_path / "out" / name).read_text()
        assert "secret" not in text
        assert "base" in text
