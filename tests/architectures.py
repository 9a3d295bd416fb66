"""Tiny random models of many families, built from transformers' own configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

VOCABULARY, WIDTH, INNER, IMAGE = 40, 16, 24, 8

_BLOCKS = {
    "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
_TEXT = {**_BLOCKS, "vocab_size": VOCABULARY, "max_position_embeddings": 32}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1,
            "pad_token_id": None}  # fmt: skip
_PICTURE = {**_BLOCKS, "image_size": IMAGE, "patch_size": 4}
_TWO_SIDED = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", _DECODER),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", {**_DECODER, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_DECODER, "head_dim": 6}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", _DECODER),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**_DECODER, "head_dim": 6}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**_DECODER, "pad_token_id": 0}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 2, "n_head": 4,
              "n_positions": 32, "bos_token_id": 0, "eos_token_id": 1}),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _TEXT),
    "bloom": ("BloomForCausalLM", "BloomConfig",
              {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": 2, "n_head": 4}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**_DECODER, "num_local_experts": 4}),
    "qwen2-moe": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig",
                  {**_DECODER, "moe_intermediate_size": 8, "num_experts": 4,
                   "shared_expert_intermediate_size": 8, "num_experts_per_tok": 2}),
    "mamba": ("MambaForCausalLM", "MambaConfig",
              {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "state_size": 4,
               "num_hidden_layers": 2}),
    "bert": ("BertForMaskedLM", "BertConfig", _TEXT),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig",
                   {"vocab_size": VOCABULARY, "dim": WIDTH, "hidden_dim": INNER, "n_layers": 2,
                    "n_heads": 4, "max_position_embeddings": 32}),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig",
                   {**_TEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
                    "cls_token_id": 1, "sep_token_id": 2}),
    "t5": ("T5ForConditionalGeneration", "T5Config",
           {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 4, "d_ff": INNER, "num_layers": 2,
            "num_heads": 4, "decoder_start_token_id": 0}),
    "bart": ("BartForConditionalGeneration", "BartConfig",
             {**_TWO_SIDED, "max_position_embeddings": 32}),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig",
                {**_TWO_SIDED, "num_mel_bins": 8, "max_source_positions": 10,
                 "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1,
                 "eos_token_id": 2, "decoder_start_token_id": 1}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**_PICTURE, "num_labels": 3}),
    "swin": ("SwinForImageClassification", "SwinConfig",
             {"image_size": IMAGE, "patch_size": 2, "embed_dim": 8, "depths": [2, 2],
              "num_heads": [2, 4], "window_size": 2, "num_labels": 3}),
    "resnet": ("ResNetForImageClassification", "ResNetConfig",
               {"embedding_size": 8, "hidden_sizes": [8, WIDTH], "depths": [2, 2],
                "num_labels": 3}),
    "clip": ("CLIPModel", "CLIPConfig",
             {"text_config": {**_TEXT, "bos_token_id": 0, "pad_token_id": 1,
                              "eos_token_id": VOCABULARY - 1},
              "vision_config": _PICTURE, "projection_dim": 8}),
}  # fmt: skip
"""Class, config class and config by family."""


def build(family: str, seed: int) -> Any:
    """Return a model of random weights in evaluation mode; nothing in it is 0 or 1 by default."""
    import transformers

    kind, config, values = FAMILIES[family]
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(getattr(transformers, config)(**values)).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(0.5 + torch.rand_like(buffer))
    return model.requires_grad_(False)


def outputs(model: Any) -> torch.Tensor:
    """Return what a model answers to a fixed input: logits, or similarities of CLIP."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(3, VOCABULARY - 1, (2, 6), generator=generator)
    pixels = torch.randn(2, 3, IMAGE, IMAGE, generator=generator)
    main = model.main_input_name
    kind = type(model).__name__
    feeds: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
        "input_ids": lambda: {"input_ids": ids},
        "pixel_values": lambda: {"pixel_values": pixels},
        "input_features": lambda: {
            "input_features": torch.randn(2, 8, 20, generator=generator), "decoder_input_ids": ids,
        },
    }  # fmt: skip
    feed = feeds[main]()
    if kind == "CLIPModel":
        feed = {"input_ids": ids, "pixel_values": pixels}
    if kind.startswith(("T5", "Bart")):
        feed["decoder_input_ids"] = ids.flip(1)
    with torch.no_grad():
        found = model(**feed)
    return found.logits_per_image if kind == "CLIPModel" else found.logits
