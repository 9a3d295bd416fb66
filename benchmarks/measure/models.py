"""Synthetic bases and fine-tunes in the shapes of real models, for timing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]


def vit(layers: int = 12) -> Shapes:
    """Return the shapes of the vision tower of CLIP ViT-B/16 (768 wide, 3072 inside)."""
    width, inner = 768, 3072
    shapes: Shapes = {
        "vision_model.embeddings.class_embedding": (width,),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 16, 16),
        "vision_model.embeddings.position_embedding.weight": (197, width),
        "vision_model.post_layernorm.weight": (width,),
        "visual_projection.weight": (512, width),
    }
    for layer in range(layers):
        prefix = f"vision_model.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{prefix}.self_attn.{name}.weight"] = (width, width)
            shapes[f"{prefix}.self_attn.{name}.bias"] = (width,)
        shapes[f"{prefix}.mlp.fc1.weight"] = (inner, width)
        shapes[f"{prefix}.mlp.fc1.bias"] = (inner,)
        shapes[f"{prefix}.mlp.fc2.weight"] = (width, inner)
        shapes[f"{prefix}.mlp.fc2.bias"] = (width,)
        shapes[f"{prefix}.layer_norm1.weight"] = (width,)
        shapes[f"{prefix}.layer_norm2.weight"] = (width,)
    return shapes


def smollm2(layers: int = 30) -> Shapes:
    """Return the shapes of SmolLM2-135M (576 wide, 1536 inside, 49,152 tokens, tied)."""
    width, inner, keys = 576, 1536, 192
    shapes: Shapes = {"model.embed_tokens.weight": (49152, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": (width, width),
            f"{prefix}.self_attn.k_proj.weight": (keys, width),
            f"{prefix}.self_attn.v_proj.weight": (keys, width),
            f"{prefix}.self_attn.o_proj.weight": (width, width),
            f"{prefix}.mlp.gate_proj.weight": (inner, width),
            f"{prefix}.mlp.up_proj.weight": (inner, width),
            f"{prefix}.mlp.down_proj.weight": (width, inner),
            f"{prefix}.input_layernorm.weight": (width,),
            f"{prefix}.post_attention_layernorm.weight": (width,),
        }
    return shapes


FAMILIES = {"vit": vit, "smollm2": smollm2}


def write(folder: Path, shapes: Shapes, count: int, seed: int = 0) -> tuple[Path, list[Path]]:
    """Write a base and fine-tunes in bfloat16, as folders that are not there yet; return them.

    A fine-tune adds noise of 2 % of the base's size, and a part that all of them share.
    """
    base = dict(_draw(shapes, seed, 0.05))
    common = dict(_draw(shapes, seed + 1, 0.0005))
    paths = [_write(folder / "base", base)]
    for number in range(count):
        path = folder / f"m{number:02d}"
        if not (path / "model.safetensors").is_file():
            own = _draw(shapes, seed + 2 + number, 0.001)
            _write(path, {name: base[name] + common[name] + change for name, change in own})
        paths.append(path)
    return paths[0], paths[1:]


def _draw(shapes: Shapes, seed: int, size: float) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in shapes.items():
        yield name, size * torch.randn(shape, generator=generator)


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "model.safetensors").is_file():
        (path / "config.json").write_text("{}")
        rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        save_file(rounded, path / "model.safetensors")
    return path
