from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from miscible.errors import AdapterError
from miscible.models import FolderCheckpoint, open_checkpoint
from miscible.models.adapter_config import REFUSED, UNDERSTOOD, refuse_unsupported
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from tiny import LAYERS, WIDTH, tiny_tensors, write_adapter, write_model

MODULES = [f"model.layers.{i}.self_attn.{p}" for i in range(LAYERS) for p in ("q_proj", "v_proj")]


def factors(
    rank: int = 3, seed: int = 7, ranks: dict[str, int] | None = None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for module in MODULES:
        r = (ranks or {}).get(module, rank)
        a = torch.randn(r, WIDTH, generator=generator)
        made[module] = (a, torch.randn(WIDTH, r, generator=generator))
    return made


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        ({}, {}),
        ({"lora_alpha": 5}, {}),
        ({"use_rslora": True}, {}),
        ({"rank_pattern": {"layers.1.self_attn.q_proj": 2}}, {MODULES[2]: 2}),
        ({"alpha_pattern": {"v_proj": 11}, "use_rslora": True}, {}),
        ({"alpha_pattern": {"^model.layers.0.self_attn.v_proj": 11}}, {}),
    ],
)
def test_equals_peft(
    tiny_base: Path, tmp_path: Path, config: dict[str, Any], ranks: dict[str, int]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = write_adapter(tmp_path / "lora", factors(ranks=ranks), **config)
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()
    ours = open_checkpoint(f"{tiny_base}+{folder}")
    for name in ours.tensors:
        assert torch.allclose(ours.read(name), merged[name], rtol=1e-5, atol=1e-6), name
    assert not ours.read(f"{MODULES[0]}.weight").equal(FolderCheckpoint(tiny_base).read(
        f"{MODULES[0]}.weight"))  # fmt: skip


def test_delta_is_exact_and_low_rank(tiny_base: Path, tmp_path: Path) -> None:
    made = factors()
    folder = write_adapter(tmp_path / "lora", made, lora_alpha=6)
    base = FolderCheckpoint(tiny_base)
    child = AdaptedCheckpoint(base, LoraAdapter(folder))
    delta = child.low_rank_delta(f"{MODULES[1]}.weight", base)
    assert delta is not None
    a, b = made[MODULES[1]]
    assert delta.dense(torch.float64).equal((b.double() @ a.double()) * 2.0)
    assert child.low_rank_delta("model.norm.weight", base) is None
    other = FolderCheckpoint(write_model(tmp_path / "other", tiny_tensors(5)))
    assert child.low_rank_delta(f"{MODULES[1]}.weight", other) is None


def test_an_adapter_alone_finds_its_base(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", factors(), base=str(tiny_base))
    alone, written = open_checkpoint(str(folder)), open_checkpoint(f"{tiny_base}+{folder}")
    assert alone.fingerprint == written.fingerprint


def test_fingerprint_depends_on_base_factors_and_scale(tiny_base: Path, tmp_path: Path) -> None:
    variants = [
        write_adapter(tmp_path / "a", factors()),
        write_adapter(tmp_path / "b", factors(seed=8)),
        write_adapter(tmp_path / "c", factors(), lora_alpha=1),
    ]
    other = write_model(tmp_path / "other", tiny_tensors(5))
    made = [open_checkpoint(f"{tiny_base}+{folder}").fingerprint for folder in variants]
    made += [open_checkpoint(f"{other}+{variants[0]}").fingerprint]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "nameless"),
        ({"layer_replication": [[0, 1]]}, "replicated layers"),
        ({"r": 0}, "'r' must be a positive number"),
        ({"r": 9}, "its config says 9"),
        ({"lora_alpha": "x"}, "'lora_alpha' must be"),
        ({"lora_alpha": float("nan")}, "'lora_alpha' must be"),
        ({"lora_alpha": 10**400}, "'lora_alpha' must be"),
        ({"r": True}, "'r' must be"),
        ({"rank_pattern": {"(a+)+$": 2}}, "not a plain module name"),
        ({"alpha_pattern": {"q_proj": "x"}}, "'alpha_pattern' must map"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "'alpha_pattern' must map"),
        ({"rank_pattern": [3]}, "'rank_pattern' must map"),
        ({"rank_pattern": {"q_proj": 0}}, "its config says 0"),
        ({"init_lora_weights": "pissa"}, "rewritten base"),
        ({"init_lora_weights": "pissa_niter_4"}, "rewritten base"),
        ({"init_lora_weights": "olora"}, "rewritten base"),
        ({"init_lora_weights": "corda"}, "rewritten base"),
        ({"init_lora_weights": "loftq"}, "rewritten base"),
        ({"init_lora_weights": "lora_ga"}, "rewritten base"),
        ({"init_lora_weights": []}, "rewritten base"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"target_parameters": ["experts.up"]}, "bare parameters"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"arrow_config": {"top_k": 3}}, "Arrow"),
        ({"velora_config": {"scale": 1}}, "VeLoRA"),
        ({"monteclora_config": {"samples": 1}}, "MonteCLoRA"),
        ({"use_the_next_variant": True}, "'use_the_next_variant', which is not known"),
    ],
)
def test_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = write_adapter(tmp_path / "lora", factors(), **config)
    with pytest.raises(AdapterError, match=message):
        LoraAdapter(folder)


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_initialisations_that_leave_the_base_alone(tmp_path: Path, start: object) -> None:
    folder = write_adapter(tmp_path / "lora", factors(), init_lora_weights=start)
    assert len(LoraAdapter(folder).weights) == len(MODULES)


def test_every_field_of_pefts_config_is_classified(tmp_path: Path) -> None:
    import dataclasses

    from peft import LoraConfig

    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    assert fields <= UNDERSTOOD | REFUSED.keys()
    assert not UNDERSTOOD & REFUSED.keys()
    variants = {f.name for f in dataclasses.fields(LoraConfig) if f.metadata.get("is_lora_variant")}
    assert variants - {"use_dora"} <= REFUSED.keys()
    LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]).save_pretrained(str(tmp_path))
    refuse_unsupported(json.loads((tmp_path / "adapter_config.json").read_text()), "here")


def test_adapter_of_another_base(tiny_base: Path, tmp_path: Path) -> None:
    a, b = torch.randn(2, WIDTH + 1), torch.randn(WIDTH, 2)
    wide = write_adapter(tmp_path / "wide", {MODULES[0]: (a, b)}, base="acme/other")
    with pytest.raises(AdapterError, match=r"does not fit.*has shape.*acme/other"):
        open_checkpoint(f"{tiny_base}+{wide}")
    deep = write_adapter(tmp_path / "deep", {"model.layers.9.self_attn.q_proj": (a[:, :WIDTH], b)})
    with pytest.raises(AdapterError, match="does not exist there"):
        open_checkpoint(f"{tiny_base}+{deep}")


def test_damaged_adapters(tmp_path: Path, tiny_base: Path) -> None:
    made = factors()
    made[MODULES[0]][0][0, 0] = float("nan")
    folder = write_adapter(tmp_path / "nan", made)
    with pytest.raises(AdapterError, match="NaN or infinity"):
        open_checkpoint(f"{tiny_base}+{folder}").read(f"{MODULES[0]}.weight")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match="is missing"):
        LoraAdapter(folder)
    assert config["r"] == 3
