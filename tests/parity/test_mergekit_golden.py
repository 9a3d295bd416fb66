"""Merges of tiny checkpoints, against what mergekit 0.1.5 made of the same recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from miscible.errors import MiscibleError
from miscible.merge.recipe import read_recipe
from miscible.merge.virtual import VirtualCheckpoint
from references.spherical import slerp

AGREE = [
    "linear_base_global_weight", "linear_bf16", "linear_bf16_three", "linear_dtype_f32_out_bf16",
    "linear_filter_fallthrough", "linear_filters", "linear_gradient", "linear_no_dtype_bf16",
    "linear_no_normalize", "linear_no_tokenizer", "linear_normalize", "linear_sharded_input",
    "slerp_antipodal", "slerp_bf16", "slerp_colinear", "slerp_extrapolate", "slerp_t0", "slerp_t1",
    "slerp_zero_tensor", "slices_zero_length_head", "task_arithmetic",
    "task_arithmetic_base_in_models", "task_arithmetic_bf16", "task_arithmetic_density_ignored",
    "task_arithmetic_lambda", "task_arithmetic_normalize_zero", "tied_both", "ties_density1",
    "ties_zero_density", "dare_linear_density1",
    "arcee_fusion", "clone_tensors", "karcher_tol", "karcher_zero", "model_stock_opposite",
    "model_stock_two", "multislerp_no_norm", "multislerp_three", "nuslerp_base",
    "nuslerp_colinear", "nuslerp_rows", "nuslerp_zero_weights", "passthrough", "ram", "sce_full",
    "slices_stack",
]  # fmt: skip
TRIMMED = [
    "ties_bf16", "ties_int8_mask", "ties_lambda", "ties_negative_weight", "ties_rescale",
    "ties_single", "ties_tiny_density", "ties_many_equal",
    "breadcrumbs", "breadcrumbs_big_gamma", "breadcrumbs_gamma0",
]  # fmt: skip
"""Which of the elements that tie at a threshold survive is arbitrary in mergekit."""
REFUSED = {
    "della_bad_epsilon": "Lower 'epsilon' to 0.1 or less",
    "model_stock_one": "takes at least 2 models",
    "linear_duplicate_model": "listed twice",
    "linear_missing_weight": "needs the parameter 'weight'",
    "linear_nan_input": "holds NaN or infinity",  # mergekit spreads it
    "linear_unknown_parameter": "Did you mean 'weight'?",  # mergekit ignores it
    "linear_zero_sum_weights": "sum to 0",  # mergekit divides by it
    "slerp_three_models": "takes exactly 2 models",
    "vocab_mismatch": "differ",
    "vocab_mismatch_gta": "differ",
    "vocab_padded": "vocabularies differ in size",
}
ONE_ROUNDING = {torch.float32: 2**-23, torch.bfloat16: 2**-8, torch.float16: 2**-11}
STEPWISE = {"task_arithmetic_bf16", "karcher_zero", "multislerp_three"}
"""mergekit rounds the tensor after every one of many steps, we once."""


@pytest.fixture
def golden(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shared_data / "mergekit_golden"
    monkeypatch.chdir(folder)
    return folder


def merged(golden: Path, name: str) -> dict[str, torch.Tensor]:
    merge = VirtualCheckpoint.open(read_recipe(golden / "cases" / name / "config.yml"))
    return {tensor: merge.read(tensor) for tensor in merge.tensors}


@pytest.mark.parametrize("name", AGREE)
def test_same_weights(golden: Path, name: str) -> None:
    ours = merged(golden, name)
    theirs = load_file(golden / "cases" / name / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for tensor, expected in theirs.items():
        found = ours[tensor]
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        step = ONE_ROUNDING[expected.dtype] * (3 if name in STEPWISE else 1)
        scale = expected.abs().float().max().item()
        difference = (found.float() - expected.float()).abs().max().item()
        assert difference <= 2 * step * max(scale, 1e-6), tensor


@pytest.mark.parametrize("name", REFUSED)
def test_refused(golden: Path, name: str) -> None:
    with pytest.raises(MiscibleError, match=REFUSED[name].replace("?", r"\?")):
        merged(golden, name)


@pytest.mark.parametrize("name", TRIMMED)
def test_trimmed_agree_outside_the_threshold_bins(golden: Path, name: str) -> None:
    recipe = read_recipe(golden / "cases" / name / "config.yml")
    ours = merged(golden, name)
    theirs = load_file(golden / "cases" / name / "model.safetensors")
    base = load_file(golden / str(recipe.base_model) / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for tensor, expected in theirs.items():
        step = 6 * ONE_ROUNDING[expected.dtype] * expected.abs().max().item()
        differs = (ours[tensor].float() - expected.float()).abs() > step
        tied = torch.zeros_like(differs)
        for source in recipe.models or []:
            parent = load_file(golden / source.model / "model.safetensors")[tensor]
            delta = (parent - base[tensor]).abs().float()  # in the dtype in which mergekit trims
            values = {**recipe.parameters, **source.parameters}
            ordered = delta.flatten().sort(descending=True).values
            for last in _last_ranks(values, delta.numel()):
                threshold = ordered[last]
                tied |= (delta - threshold).abs() <= ONE_ROUNDING[expected.dtype] * 2 * threshold
        assert not (differs & ~tied).any(), tensor


def _last_ranks(values: Mapping[str, Any], size: int) -> list[int]:
    # Ranks of the last element before each boundary between what is kept and what is not.
    if "gamma" not in values:
        return [max(1, int(values["density"] * size)) - 1]
    count = int(values["density"] * size)
    top = min(int(values["gamma"] * size), size - count)
    return [rank - 1 for rank in (top, top + count) if rank]


def test_karcher_does_not_round_on_its_way(golden: Path) -> None:
    """mergekit keeps the unit vectors in bfloat16."""
    ours = merged(golden, "karcher_bf16")
    theirs = load_file(golden / "cases" / "karcher_bf16" / "model.safetensors")
    models = [load_file(golden / "models" / m / "model.safetensors") for m in ("a_bf16", "b_bf16")]
    assert ours.keys() == theirs.keys()
    wrong = {"ours": 0, "theirs": 0}
    for tensor, found in ours.items():
        parents = [model[tensor].double().numpy() for model in models]
        norms = [np.linalg.norm(parent) for parent in parents]
        units = [parent / norm for parent, norm in zip(parents, norms, strict=True)]
        exact = torch.from_numpy(slerp(*units, 0.5, colinear=1.0) * np.mean(norms))
        rounded = exact.to(torch.bfloat16)
        wrong["ours"] += int((found != rounded).sum())
        wrong["theirs"] += int((theirs[tensor] != rounded).sum())
    size = sum(tensor.numel() for tensor in ours.values())
    assert wrong["ours"] <= 0.001 * size  # float32 falls on the other side of a tie
    assert wrong["theirs"] > 0.25 * size


def test_a_tensor_of_one_model_alone_is_copied(golden: Path) -> None:
    ours = merged(golden, "linear_extra_tensor")  # mergekit drops it without a word
    theirs = load_file(golden / "cases" / "linear_extra_tensor" / "model.safetensors")
    extra = load_file(golden / "models" / "extra" / "model.safetensors")
    alone = ours.keys() - theirs.keys()
    assert alone == extra.keys() - theirs.keys() != set()
    assert all(ours[tensor].equal(extra[tensor]) for tensor in alone)
    assert all(torch.allclose(ours[tensor], theirs[tensor]) for tensor in theirs)


def test_adapter_needs_no_merged_copy(golden: Path) -> None:
    ours = merged(golden, "lora_no_cache")  # mergekit: "need to specify cache dir"
    base = load_file(golden / "models" / "base" / "model.safetensors")
    other = load_file(golden / "models" / "b" / "model.safetensors")
    lora = load_file(golden / "models" / "lora" / "adapter_model.safetensors")
    config = json.loads((golden / "models" / "lora" / "adapter_config.json").read_text())
    name = "model.layers.1.self_attn.v_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{k}.weight"].double() for k in "AB")
    child = base[f"{name}.weight"].double() + config["lora_alpha"] / config["r"] * b @ a
    expected = (child + other[f"{name}.weight"].double()) / 2
    assert torch.allclose(ours[f"{name}.weight"].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dare_linear_seed", "dare_ties_seed", "dare_f16", "della_seed"])
def test_random_cases_agree_in_distribution(golden: Path, name: str) -> None:
    theirs = load_file(golden / "cases" / name / "model.safetensors")
    recipe = read_recipe(golden / "cases" / name / "config.yml")
    base = load_file(golden / "models" / "base" / "model.safetensors")
    draws = []
    for seed in range(20):
        merge = VirtualCheckpoint.open(recipe, seed=seed)
        draws.append(_moments({t: merge.read(t) for t in merge.tensors}, base))
    ours = torch.stack(draws)
    expected = _moments(theirs, base)
    spread = ours.std(dim=0).clamp_min(1e-6)
    assert ((ours.mean(dim=0) - expected).abs() <= 5 * spread).all()


def _moments(model: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> torch.Tensor:
    delta = torch.cat([(model[t].float() - base[t].float()).flatten() for t in sorted(base)])
    changed = delta.abs() > 1e-4
    return torch.stack([changed.float().mean(), delta.abs().sum(), delta.square().sum()])
