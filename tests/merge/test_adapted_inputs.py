"""Adapters of every kind merge to what their written-out models merge to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import open_checkpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import WIDTH, write_adapter

Q = "model.layers.0.self_attn.q_proj"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROWS = 14


def draw(*shape: int) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


KINDS: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    "dora": ({f"{Q}.lora_magnitude_vector": 1 + draw(WIDTH)}, {"use_dora": True}),
    "saved": (
        {"model.norm.weight": 1 + draw(WIDTH),
         "model.layers.1.mlp.up_proj.weight": draw(24, WIDTH)},
        {"modules_to_save": ["norm", "up_proj"]},
    ),
    "tokens": (
        {"model.embed_tokens.token_adapter.trainable_tokens_delta": draw(2, WIDTH)},
        {"trainable_token_indices": [3, 5]},
    ),
    "embedding of a tied base": (
        {"model.embed_tokens.lora_embedding_A": draw(3, ROWS),
         "model.embed_tokens.lora_embedding_B": draw(WIDTH, 3)},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("method", "parameters"),
    [("task_arithmetic", {}), ("ties", {"density": 0.5}), ("linear", {})],
)
def test_merges_to_what_its_written_out_model_does(
    tiny_base: Path,
    tiny_children: list[Path],
    tmp_path: Path,
    kind: str,
    method: str,
    parameters: dict[str, float],
) -> None:
    extra, config = KINDS[kind]
    folder = write_adapter(tmp_path / "lora", {Q: (draw(3, WIDTH), draw(WIDTH, 3))}, **config)
    file = folder / "adapter_model.safetensors"
    own = {f"base_model.model.{name}": tensor for name, tensor in extra.items()}
    save_file({**load_file(file), **own}, file)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 3

    base, adapted = open_checkpoint(str(tiny_base)), open_checkpoint(f"{tiny_base}+{folder}")
    other = open_checkpoint(str(tiny_children[0]))
    written = MemoryCheckpoint(
        "written",
        {name: adapted.read(name) for name in adapted.tensors},
        config=adapted.config,
        folder=tiny_base,
    )
    merges = [
        VirtualCheckpoint(_recipe(method, parameters), {"base": base, "a": model, "b": other})
        for model in (adapted, written)
    ]
    assert merges[0].tensors == merges[1].tensors
    assert (HEAD in merges[0].tensors) == ("tied" in kind)
    changed = 0
    for name in merges[0].tensors:
        found, wanted = (merge.read(name) for merge in merges)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=2e-6), name
        changed += name in base.tensors and not found.equal(base.read(name))
    assert changed


def _recipe(method: str, parameters: dict[str, float]) -> Recipe:
    given = "".join(f", {name}: {value}" for name, value in parameters.items())
    models = [f"{{model: {name}, parameters: {{weight: 0.6{given}}}}}" for name in "ab"]
    base = "" if method == "linear" else "base_model: base\n"
    return parse_recipe(f"merge_method: {method}\n{base}models: [{', '.join(models)}]\n")


def test_the_base_may_be_adapted(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", {Q: (draw(3, WIDTH), draw(WIDTH, 3))})
    models: dict[str, Checkpoint] = {
        "base": open_checkpoint(f"{tiny_base}+{folder}"),
        "a": open_checkpoint(str(tiny_base)),
    }
    recipe = parse_recipe(
        "merge_method: task_arithmetic\nbase_model: base\n"
        "models: [{model: a, parameters: {weight: 1}}]\n"
    )
    merge = VirtualCheckpoint(recipe, models)
    for name in merge.tensors:
        assert torch.allclose(merge.read(name), models["a"].read(name), atol=1e-6)
