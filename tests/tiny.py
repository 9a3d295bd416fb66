"""Tiny models made on the spot: a two-layer Llama with a word-level tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = ["the", "a", "cat", "cats", "dog", "dogs", "sees", "see", "sleeps", "sleep", "."]
WIDTH, LAYERS, HEADS, INNER = 16, 2, 2, 24


def tiny_tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Return the weights of a tiny Llama with tied embeddings."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.2).to(dtype)

    tensors = {"model.embed_tokens.weight": draw(len(WORDS) + 3, WIDTH)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{prefix}.self_attn.{name}.weight"] = draw(WIDTH, WIDTH)
        tensors[f"{prefix}.mlp.gate_proj.weight"] = draw(INNER, WIDTH)
        tensors[f"{prefix}.mlp.up_proj.weight"] = draw(INNER, WIDTH)
        tensors[f"{prefix}.mlp.down_proj.weight"] = draw(WIDTH, INNER)
        tensors[f"{prefix}.input_layernorm.weight"] = 1 + draw(WIDTH)
        tensors[f"{prefix}.post_attention_layernorm.weight"] = 1 + draw(WIDTH)
    tensors["model.norm.weight"] = 1 + draw(WIDTH)
    return tensors


def write_model(
    folder: Path, tensors: dict[str, torch.Tensor], *, words: list[str] | None = None
) -> Path:
    """Write a tiny model folder with these weights."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = tensors["model.embed_tokens.weight"].shape[0]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": rows, "tie_word_embeddings": True,
        "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, words or WORDS)
    return folder


def write_tokenizer(folder: Path, words: list[str]) -> None:
    """Write a word-level fast tokenizer."""
    special = ["<s>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, token in enumerate(special)
    ]  # fmt: skip
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "pad_token": "</s>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_adapter(
    folder: Path,
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]],
    *,
    base: str = "base",
    **config: object,
) -> Path:
    """Write a LoRA adapter; *factors* maps module names to (A, B)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for module, (a, b) in factors.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = next(iter(factors.values()))[0].shape[0]
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": rank,
        "lora_alpha": 2 * rank, "bias": "none", "fan_in_fan_out": False,
        "target_modules": sorted({module.rpartition(".")[2] for module in factors}),
        **config,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
