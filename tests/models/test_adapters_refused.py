"""Adapters that contradict themselves, their config or their base are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from miscible.errors import AdapterError
from miscible.models import open_checkpoint
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from miscible.models.memory import MemoryCheckpoint
from tiny import WIDTH, WORDS

ROWS = len(WORDS) + 3
Q = "model.layers.0.self_attn.q_proj"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def write(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    a, b = torch.ones(2, WIDTH), torch.ones(WIDTH, 2)
    factors = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b}
    save_file(
        {f"base_model.model.{key}": value for key, value in {**factors, **tensors}.items()
         if value.numel()},
        folder / "adapter_model.safetensors",
    )  # fmt: skip
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


V = "model.layers.0.self_attn.v_proj"
NOTHING = torch.empty(0)
ONE_D, TWO_D = torch.ones(WIDTH), torch.ones(WIDTH, WIDTH)


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({f"{V}.weight": TWO_D}, {}, "nor does the config speak of it"),
        ({f"{V}.bias": ONE_D}, {}, "nor does the config speak of it"),
        ({f"{V}.lora_E": TWO_D}, {"modules_to_save": ["v_proj"]}, "nor does the config speak"),
        ({f"{V}.hada_w1_a": TWO_D}, {}, "nor does the config speak of it"),
        ({f"{Q}.lora_magnitude_vector": ONE_D}, {}, "has magnitudes, its config says otherwise"),
        ({}, {"use_dora": True}, "has no magnitudes"),
        ({f"{Q}.lora_magnitude_vector": ONE_D[:5]}, {"use_dora": True}, "5 magnitudes for 16"),
        ({f"{Q}.lora_B.bias": ONE_D}, {}, r"its config says otherwise \(lora_bias\)"),
        ({f"{Q}.base_layer.bias": ONE_D[:3]}, {"bias": "all"}, "a bias of shape"),
        ({f"{Q}.base_layer.weight": ONE_D}, {}, "a saved weight of"),
        ({f"{V}.base_layer.weight": TWO_D}, {}, "only one of its two factors"),
        ({f"{Q}.lora_B.weight": NOTHING}, {}, "only one of its two factors"),
        ({f"{Q}.lora_A.default.weight": torch.ones(2, WIDTH)}, {}, "twice"),
        ({f"{Q}.lora_embedding_A": torch.ones(2, WIDTH)}, {}, "only one of its two factors"),
        ({f"{Q}.lora_A.weight": torch.ones(3, WIDTH)}, {}, "differ in rank"),
        ({f"{Q}.lora_A.weight": torch.ones(2, WIDTH, 3)}, {}, "which no layer has"),
        ({f"{Q}.lora_A.weight": torch.ones(4, 8, 3, 3),
          f"{Q}.lora_B.weight": torch.ones(8, 2, 1, 1)}, {"r": 4}, "in groups"),
        ({f"{Q}.weight": TWO_D}, {"modules_to_save": ["q_proj"]}, "changed in two ways"),
        ({f"{V}.weight": TWO_D.long()}, {"modules_to_save": ["v_proj"]}, "is not floating"),
        ({}, {"modules_to_save": "lm_head"}, "'modules_to_save' must list modules"),
        ({}, {"bias": "some"}, "bias 'some'"),
        ({}, {"lora_bias": True, "use_dora": True}, "biases in their factors"),
        ({"x.token_adapter.trainable_tokens_delta": TWO_D}, {}, "does not say which"),
        ({"x.token_adapter.trainable_tokens_delta": TWO_D},
         {"trainable_token_indices": [1, 2]}, "its config names 2"),
        ({"x.token_adapter.trainable_tokens_delta": TWO_D[:2]},
         {"trainable_token_indices": [1, 1]}, "does not say which"),
        ({"x.token_adapter.trainable_tokens_delta": TWO_D[:1]},
         {"trainable_token_indices": [-1]}, "does not say which"),
        ({"x.token_adapter.trainable_tokens_delta": TWO_D[:1]},
         {"trainable_token_indices": {"y": [1]}}, "does not say which"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, object], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        LoraAdapter(write(tmp_path / "lora", tensors, **config))


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({f"{Q}.lora_B.bias": ONE_D}, {"lora_bias": True}, "q_proj.bias.*does not exist there"),
        ({EMBEDDING: torch.ones(ROWS + 1, WIDTH)}, {}, "has shape"),
        ({"model.embed_tokens.token_adapter.trainable_tokens_delta": TWO_D[:1]},
         {"trainable_token_indices": [ROWS]}, "has shape"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_base(
    tiny_base: Path,
    tmp_path: Path,
    tensors: dict[str, torch.Tensor],
    config: dict[str, object],
    message: str,
) -> None:
    folder = write(tmp_path / "lora", tensors, **config)
    with pytest.raises(AdapterError, match=message):
        open_checkpoint(f"{tiny_base}+{folder}")


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "lora", {})
    base = MemoryCheckpoint("base", {f"{Q}.weight": TWO_D.to(torch.int8)})
    with pytest.raises(AdapterError, match="stored as I8"):
        AdaptedCheckpoint(base, LoraAdapter(folder))


@pytest.mark.parametrize("role", ["lora_magnitude_vector", "base_layer.bias"])
def test_nan_anywhere_is_an_error(tmp_path: Path, role: str) -> None:
    broken = torch.full((WIDTH,), float("nan"))
    tensors = {f"{Q}.lora_magnitude_vector": ONE_D, f"{Q}.base_layer.bias": ONE_D}
    folder = write(tmp_path / "lora", {**tensors, f"{Q}.{role}": broken}, bias="all", use_dora=True)
    base = MemoryCheckpoint("base", {f"{Q}.weight": TWO_D, f"{Q}.bias": ONE_D})
    ours = AdaptedCheckpoint(base, LoraAdapter(folder))
    with pytest.raises(AdapterError, match=f"{role}.*NaN or infinity"):
        [ours.read(name) for name in ours.tensors]


def test_which_tokens_are_trained_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    rows = {"x.token_adapter.trainable_tokens_delta": TWO_D[:1]}
    found = {
        LoraAdapter(write(tmp_path / str(i), rows, trainable_token_indices=[i])).fingerprint
        for i in range(3)
    }
    assert len(found) == 3


def test_embedding_and_head_get_as_many_tokens(tiny_base: Path, tmp_path: Path) -> None:
    more = torch.ones(ROWS + 1, WIDTH)
    folder = write(tmp_path / "lora", {EMBEDDING: more, HEAD: torch.ones(ROWS + 2, WIDTH)})
    with pytest.raises(AdapterError, match="has shape"):
        open_checkpoint(f"{tiny_base}+{folder}")
