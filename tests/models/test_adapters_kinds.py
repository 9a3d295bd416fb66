"""Every kind of adapter gives what PEFT makes of it: its merged weights, or its logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from miscible.errors import AdapterError
from miscible.models import FolderCheckpoint, open_checkpoint
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from miscible.models.memory import MemoryCheckpoint

WIDTH, ROWS = 16, 14
Q = "model.layers.0.self_attn.q_proj"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def llama(*, tied: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


def qwen() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(
        GPT2Config(
            vocab_size=ROWS, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=8, bos_token_id=0,
            eos_token_id=1,
        )
    )  # fmt: skip


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    )


def adapted(folder: Path, model: Any, **config: Any) -> tuple[Path, Any]:
    """Write *model* and an adapter with random weights of it; return the folder and PEFT's."""
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    model.save_pretrained(folder / "base")
    trained = get_peft_model(model, LoraConfig(**{"r": 2, "lora_alpha": 6, **config}))
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    trained.save_pretrained(str(folder / "lora"))
    fresh = type(model).from_pretrained(folder / "base", dtype=torch.float32)
    return folder / "lora", PeftModel.from_pretrained(fresh, str(folder / "lora")).eval()


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "dora": (llama, {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "dora with patterns": (llama, {
        "target_modules": ["q_proj", "up_proj"], "use_dora": True, "use_rslora": True,
        "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"up_proj": 5},
    }),
    "dora transposed": (gpt2, {
        "target_modules": ["c_attn"], "use_dora": True, "fan_in_fan_out": True,
    }),
    "bias all": (qwen, {"target_modules": ["q_proj"], "bias": "all"}),
    "bias lora_only": (qwen, {"target_modules": ["q_proj", "o_proj"], "bias": "lora_only"}),
    "bias of norms": (gpt2, {
        "target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True,
    }),
    "lora_bias": (qwen, {"target_modules": ["q_proj"], "lora_bias": True}),
    "lora_bias and bias": (qwen, {
        "target_modules": ["q_proj"], "lora_bias": True, "bias": "all", "use_rslora": True,
    }),
    "modules_to_save": (llama, {
        "target_modules": ["q_proj"], "modules_to_save": ["lm_head", "input_layernorm", "mlp"],
    }),
    "embedding": (llama, {"target_modules": ["q_proj", "embed_tokens"]}),
    "embedding and head": (llama, {
        "target_modules": ["embed_tokens", "lm_head"], "rank_pattern": {"lm_head": 4},
    }),
    "dora of an embedding": (llama, {
        "target_modules": ["embed_tokens", "lm_head"], "use_dora": True,
    }),
    "embedding of positions": (gpt2, {"target_modules": ["wpe"]}),
    "convolutions": (resnet, {"target_modules": ["convolution"]}),
    "dora of convolutions": (resnet, {
        "target_modules": ["convolution"], "use_dora": True, "modules_to_save": ["classifier"],
    }),
    "tokens": (llama, {"target_modules": ["q_proj"], "trainable_token_indices": [3, 1, 9]}),
    "tokens of both": (llama, {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [3, 1], "lm_head": [2]},
    }),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_equals_peft_merged(tmp_path: Path, kind: str) -> None:
    build, config = KINDS[kind]
    folder, theirs = adapted(tmp_path, build(), **config)
    merged = theirs.merge_and_unload().state_dict()
    base = FolderCheckpoint(tmp_path / "base")
    ours = AdaptedCheckpoint(base, LoraAdapter(folder))
    assert ours.tensors.keys() == base.tensors.keys()
    changed = set()
    for name in ours.tensors:
        found, origin = ours.read(name), base.read(name)
        assert torch.allclose(found, merged[name], rtol=1e-5, atol=1e-5), name
        if not found.equal(origin):
            changed.add(name)
        if origin.is_floating_point():
            exact, delta = ours.exact(name, torch.float64), ours.delta(name, torch.float64)
            assert found.equal(exact.float()) or torch.allclose(found.double(), exact, atol=1e-6)
            difference = exact - origin.double()
            if delta is None:
                assert not difference.any()
            else:
                assert torch.allclose(delta, difference, rtol=1e-9, atol=1e-12), name
            low_rank = ours.low_rank_delta(name, base)
            if low_rank is not None:
                assert low_rank.shape == tuple(delta.shape)
                assert low_rank.dense(torch.float64).equal(delta)
    assert changed == set(ours.adapter.weights)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("dora", [False, True])
def test_convolutions_of_any_dimension(tmp_path: Path, dimensions: int, dora: bool) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(dimensions)
    layer = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimensions]
    # PEFT itself cannot merge a 1x1x1 convolution.
    point = 1 if dimensions < 3 else 2
    model = torch.nn.ModuleDict({"wide": layer(4, 6, 3), "point": layer(6, 5, point)})
    base = MemoryCheckpoint("base", {n: t.clone() for n, t in model.state_dict().items()})
    trained = get_peft_model(
        model, LoraConfig(r=2, lora_alpha=3, target_modules=["wide", "point"], use_dora=dora)
    )
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += parameter.requires_grad * torch.randn_like(parameter)
    trained.save_pretrained(str(tmp_path))
    merged = trained.merge_and_unload().state_dict()
    ours = AdaptedCheckpoint(base, LoraAdapter(tmp_path))
    for name in base.tensors:
        assert torch.allclose(ours.read(name), merged[name], rtol=1e-5, atol=1e-5), name
    low_rank = ours.low_rank_delta("wide.weight", base)
    assert (low_rank is None) == dora
    if low_rank is not None:
        assert low_rank.shape == (6, 4, *[3] * dimensions)
        assert low_rank.a.shape == (2, 4 * 3**dimensions)


TIED: dict[str, tuple[dict[str, Any], bool]] = {
    "embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, True),
    "head": ({"target_modules": ["q_proj", "lm_head"]}, True),
    "embedding kept": (
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}, False
    ),
    "dora": ({"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}, True),
    "saved embedding": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, True),
    "saved head": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, True),
    "saved and kept": (
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"],
         "ensure_weight_tying": True}, False
    ),
    "tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [1, 3]}, False),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIED)
@pytest.mark.parametrize("stored", [False, True])
def test_a_tied_base_gives_the_model_that_was_trained(
    tmp_path: Path, kind: str, stored: bool
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config, parted = TIED[kind]
    folder, theirs = adapted(tmp_path, llama(tied=True), **config)
    weights = tmp_path / "base" / "model.safetensors"
    if stored:
        state = load_file(weights)
        save_file({**state, HEAD: state[EMBEDDING].clone()}, weights, {"format": "pt"})
    ours = AdaptedCheckpoint(FolderCheckpoint(tmp_path / "base"), LoraAdapter(folder))
    assert (HEAD in ours.tensors) == (parted or stored)
    assert ours.config["tie_word_embeddings"] is not parted
    rebuilt = LlamaForCausalLM(LlamaConfig(**ours.config)).eval()
    state = {name: ours.read(name) for name in ours.tensors}
    if stored and not parted:
        assert state[HEAD].equal(state[EMBEDDING])
    rebuilt.load_state_dict(state, strict=parted or stored)
    rebuilt.tie_weights()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.allclose(rebuilt(tokens).logits, theirs(tokens).logits, atol=1e-5)


def test_tensors_that_only_the_adapter_has(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    small = LlamaConfig(
        vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=0,
    )  # fmt: skip
    folder, theirs = adapted(
        tmp_path, LlamaForSequenceClassification(small), target_modules=["q_proj"],
        task_type="SEQ_CLS",
    )  # fmt: skip
    state = load_file(tmp_path / "base" / "model.safetensors")
    del state["score.weight"]
    base = MemoryCheckpoint("base", state)
    ours = AdaptedCheckpoint(base, LoraAdapter(folder))
    assert ours.tensors.keys() - base.tensors.keys() == {"score.weight"}
    assert ours.tensors["score.weight"].shape == (2, WIDTH)
    merged = theirs.merge_and_unload().state_dict()
    assert ours.read("score.weight").equal(merged["score.weight"])
    assert ours.delta("score.weight", torch.float32).equal(merged["score.weight"])
    assert ours.low_rank_delta("score.weight", base) is None
    assert "score.weight" in ours.adapter.weights
    with pytest.raises(AdapterError, match="no tensor 'nowhere'"):
        ours.read("nowhere")


def test_low_precision_is_rounded_once(tmp_path: Path) -> None:
    folder, _ = adapted(
        tmp_path, llama().to(torch.bfloat16), target_modules=["q_proj"], use_dora=True,
        modules_to_save=["lm_head"],
    )  # fmt: skip
    ours = open_checkpoint(f"{tmp_path / 'base'}+{folder}")
    stored = load_file(folder / "adapter_model.safetensors")
    prefix = f"base_model.model.{Q}"
    weight = load_file(tmp_path / "base" / "model.safetensors")[f"{Q}.weight"].double()
    a, b = (stored[f"{prefix}.lora_{factor}.weight"].double() for factor in "AB")
    direction = weight + 3.0 * (b @ a)  # alpha 6, rank 2
    magnitude = stored[f"{prefix}.lora_magnitude_vector"].double()
    wanted = magnitude[:, None] * direction / direction.pow(2).sum(1, keepdim=True).sqrt()
    assert isinstance(ours, AdaptedCheckpoint)
    assert torch.allclose(ours.exact(f"{Q}.weight", torch.float64), wanted, rtol=1e-12)
    assert torch.allclose(ours.read(f"{Q}.weight", torch.float32).double(), wanted, rtol=1e-5)
    assert ours.read(f"{Q}.weight").dtype == torch.bfloat16
    assert ours.read(f"{Q}.weight").equal(ours.read(f"{Q}.weight", torch.float32).bfloat16())
    assert ours.exact(HEAD, torch.float32).equal(stored[f"base_model.model.{HEAD}"].float())


def test_dora_leaves_a_weight_of_zeros_alone(tmp_path: Path) -> None:
    folder, _ = adapted(tmp_path, llama(), target_modules=["q_proj"], use_dora=True)
    file = folder / "adapter_model.safetensors"
    stored = load_file(file)
    stored[f"base_model.model.{Q}.lora_B.weight"][2] = 0
    save_file(stored, file)
    state = load_file(tmp_path / "base" / "model.safetensors")
    state[f"{Q}.weight"][2] = 0
    ours = AdaptedCheckpoint(MemoryCheckpoint("base", state), LoraAdapter(folder))
    found = ours.read(f"{Q}.weight")
    assert found.isfinite().all()
    assert not found[2].any()
    assert found[3].any()


def test_where_unchanged_tensors_lie(tmp_path: Path) -> None:
    folder, _ = adapted(tmp_path, llama(tied=True), target_modules=["q_proj", "embed_tokens"])
    base = FolderCheckpoint(tmp_path / "base")
    ours = AdaptedCheckpoint(base, LoraAdapter(folder))
    for name in ours.tensors:
        place = ours.extent(name)
        assert (place is None) == (name in ours.adapter.weights), name
    assert ours.extent(HEAD) == base.extent(EMBEDDING)
    own = {folder / "adapter_config.json", folder / "adapter_model.safetensors"}
    assert ours.files.keys() == {*base.files, *own}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "embed_tokens"]])
def test_a_base_that_was_given_more_tokens(tmp_path: Path, tied: bool, targets: list[str]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = llama(tied=tied)
    model.save_pretrained(tmp_path / "base")
    model.resize_token_embeddings(ROWS + 3)
    saved = ["lm_head"] if "embed_tokens" in targets else ["lm_head", "embed_tokens"]
    trained = get_peft_model(
        model, LoraConfig(r=2, target_modules=targets, modules_to_save=saved)
    ).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += 0.3 * parameter.requires_grad * torch.randn_like(parameter)
    trained.save_pretrained(str(tmp_path / "lora"), save_embedding_layers=True)
    base = FolderCheckpoint(tmp_path / "base")
    ours = AdaptedCheckpoint(base, LoraAdapter(tmp_path / "lora"))
    assert ours.config["vocab_size"] == ROWS + 3
    assert ours.tensors[EMBEDDING].shape == ours.tensors[HEAD].shape == (ROWS + 3, WIDTH)
    rebuilt = LlamaForCausalLM(LlamaConfig(**ours.config)).eval()
    rebuilt.load_state_dict({name: ours.read(name) for name in ours.tensors})
    tokens = torch.arange(ROWS + 3)[None]
    with torch.no_grad():
        assert torch.allclose(rebuilt(tokens).logits, trained(tokens).logits, atol=1e-5)
    with pytest.raises(AdapterError, match="another number of rows"):
        ours.delta(EMBEDDING, torch.float32)
    assert ours.folder == tmp_path / "base"
    (tmp_path / "lora" / "tokenizer.json").write_text("{}")
    assert ours.folder == tmp_path / "lora"
