"""Small models for the tests of measuring: two layers, an embedding, a norm, a convolution."""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]
SHAPES = {
    "embed_tokens.weight": (40, 16),
    "layers.0.self_attn.q_proj.weight": (16, 16),
    "layers.0.mlp.up_proj.weight": (24, 16),
    "layers.0.mlp.down_proj.weight": (16, 24),
    "layers.0.input_layernorm.weight": (16,),
    "layers.1.self_attn.q_proj.weight": (16, 16),
    "layers.1.mlp.up_proj.weight": (24, 16),
    "layers.1.mlp.gate.weight": (3, 16),
    "conv.weight": (4, 3, 2, 2),
    "norm.weight": (16,),
    "logit_scale": (),
}


def base_state(seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    """Return random weights."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()
    }


def child(base: State, seed: int, size: float = 0.1) -> State:
    """Return a fine-tune: the base and a random change, partly common to all fine-tunes."""
    own, common = base_state(1000 + seed), base_state(999)
    return {
        name: tensor + (size * (own[name] + 0.5 * common[name])).to(tensor.dtype)
        for name, tensor in base.items()
    }


def children(base: State, count: int) -> dict[str, State]:
    """Return some fine-tunes by name."""
    return {f"m{number}": child(base, number) for number in range(count)}
