"""A recipe for every method that is streamed, and small models whose tensors are many chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from miscible.merge.contract import METHODS, Base
from miscible.merge.recipe import Recipe, parse_recipe

SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (67, 33),
    "model.layers.0.mlp.up_proj.weight": (130, 129),
    "model.layers.0.self_attn.q_proj.weight": (1, 1),
    "model.layers.0.input_layernorm.weight": (33,),
    "model.layers.1.mlp.up_proj.weight": (45, 70),
    "model.layers.1.mlp.experts.weight": (3, 20, 40),
    "model.layers.1.scale": (),
    "model.layers.1.empty": (0,),
    "model.layers.1.emptier": (0, 5),
    "model.norm.weight": (1025,),
}
SAME = "model.layers.1.mlp.experts.weight"
"""Equal in all models."""
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16

W = {"weight": [0.6, 0.45, -0.2]}
PARAMETERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # Method, parameters (a list has a value a model), and keys of the recipe.
    ("linear", {"weight": [0.6, 0.45, 0.2]}, {}),
    ("linear", {**W, "normalize": False}, {}),
    ("passthrough", {"scale": [0.7]}, {}),
    ("passthrough", {}, {}),
    ("slerp", {"t": 0.3}, {}),
    ("nuslerp", {"weight": [0.6, 0.3]}, {}),
    ("nuslerp", {"weight": [0.6, 0.3]}, {"base_model": "base"}),
    ("multislerp", {"weight": [0.6, 0.45, 0.2]}, {}),
    ("multislerp", {"weight": [0.6, 0.45, 0.2]}, {"base_model": "base"}),
    ("karcher", {}, {}),
    ("task_arithmetic", {**W, "lambda": 0.8}, {}),
    ("task_arithmetic", {**W, "normalize": True}, {"wrap": [{"lines": {"alpha": 0.5, "beta": 1}}]}),
    ("ties", {**W, "density": [0.3, 0.5, 1.0]}, {}),
    ("ties", {**W, "density": [0.0, 0.001, 0.9], "normalize": False, "lambda": 1.3}, {}),
    ("dare_linear", {**W, "density": [0.5, 0.9, 1.0]}, {}),
    ("dare_linear", {**W, "density": [0.5, 0.0, 0.2], "rescale": False}, {}),
    ("dare_ties", {**W, "density": [0.5, 0.9, 0.1]}, {}),
    ("dare_ties", {**W, "density": 0.5, "rescale": False, "normalize": True}, {}),
    ("della", {**W, "density": [0.5, 0.8, 1.0]}, {}),
    ("della", {**W, "density": [0.5, 0.8, 0.0], "rescale": False}, {}),
    ("della_linear", {**W, "density": [0.5, 0.3, 0.6], "epsilon": 0.3}, {}),
    ("della_linear", {**W, "density": 0.4, "epsilon": 0.0, "rescale": False}, {}),
    ("breadcrumbs", {**W, "density": [0.7, 0.1, 1.0], "gamma": [0.1, 0.0, 0.2]}, {}),
    ("breadcrumbs", {**W, "density": 0.7, "gamma": 0.1, "rescale": True}, {}),
    ("breadcrumbs_ties", {**W, "density": [0.7, 0.1, 0.0], "gamma": 0.05, "normalize": True}, {}),
    ("breadcrumbs_ties", {**W, "density": 0.7, "rescale": True}, {}),
    ("model_stock", {}, {}),
    ("geometric_median", {"weight": [0.6, 0.3, 0.4]}, {}),
    ("composed", {**W, "sparsify": "magnitude", "density": 0.5}, {}),
    ("composed", {**W, "sparsify": "random", "density": 0.5, "consensus": "signs"}, {}),
    ("composed", {**W, "sparsify": "rank", "density": 0.5, "rescale": True}, {}),
    ("composed", {**W, "sparsify": "band", "density": 0.5, "consensus": "signs"}, {}),
    ("composed", {**W, "sparsify": "none", "consensus": "signs", "normalize": True}, {}),
    ("consensus_ta", W, {}),
    ("tall_mask", {**W, "expert": 1}, {}),
    ("magmax", W, {}),
    ("emr", W, {}),
    ("nearswap", {"t": 0.004}, {}),
    ("ram", {"epsilon": 1e-3}, {}),
]  # fmt: skip
SUMS = frozenset(["slerp", "nuslerp", "multislerp", "karcher", "model_stock", "geometric_median"])
"""Methods whose coefficients come from sums over the tensor."""


def has_sums(case: tuple[str, dict[str, Any], dict[str, Any]]) -> bool:
    """Return whether results depend, in their last bits, on how sums are cut into chunks."""
    method, parameters, _ = case
    default = method.startswith(("dare", "della"))
    return method in SUMS or bool(parameters.get("rescale", default))


def case_id(case: tuple[str, dict[str, Any], dict[str, Any]]) -> str:
    method, _, keys = case
    return f"{method}-{PARAMETERS.index(case)}" + ("-base" if "base_model" in keys else "")


def recipe_of(
    case: tuple[str, dict[str, Any], dict[str, Any]],
    models: Mapping[str, Path | str],
    **keys: Any,
) -> Recipe:
    """Return a recipe for a method's case; *models* are ``base``, ``m0``, ``m1``, ``m2``."""
    name, parameters, own = case
    method = METHODS.get(name)
    count = min(method.most or 3, 3)
    if method.base is Base.FIRST:
        own, count = {**own, "base_model": "base"}, 1
    elif method.base is Base.ORIGIN:
        own = {**own, "base_model": "base"}
    held = {k: v for k, v in parameters.items() if isinstance(v, list)}
    sources = [
        {"model": str(models[f"m{i}"]), "parameters": {k: v[i] for k, v in held.items()}}
        for i in range(count)
    ]
    shared = {key: value for key, value in parameters.items() if not isinstance(value, list)}
    document = {"merge_method": name, "models": sources, "parameters": shared, **own, **keys}
    if "base_model" in document:
        document["base_model"] = str(models["base"])
    return parse_recipe(yaml.safe_dump(document))


def drawn_tensors(
    number: int, dtype: torch.dtype, shapes: Mapping[str, tuple[int, ...]] = SHAPES
) -> dict[str, torch.Tensor]:
    """Return the tensors of the base (0) or of one of its fine-tunes."""
    base, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(100 + number)
    tensors = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=base) * 0.1
        if number and name != SAME:
            tensor = tensor + torch.randn(shape, generator=own) * 0.01
        tensors[name] = tensor.to(dtype)
    return tensors


def write_folder(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a model folder without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "num_hidden_layers": 2}))
    return folder


def write_models(folder: Path, dtypes: Sequence[torch.dtype]) -> dict[str, Path]:
    """Write the base and three fine-tunes, in these dtypes."""
    names = ("base", "m0", "m1", "m2")
    return {
        name: write_folder(folder / name, drawn_tensors(number, dtype))
        for number, (name, dtype) in enumerate(zip(names, dtypes, strict=True))
    }


def ulps(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the spacing of a dtype's numbers at the magnitudes of a tensor."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(tensor.double().abs().clamp(min=info.tiny)).exponent - 1
    return info.eps * torch.exp2(exponent.double())


def assert_one_rounding_apart(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check against a definition in float32 that both were rounded once to found's dtype."""
    assert found.shape == wanted.shape
    if not found.numel():
        return
    wide = wanted.double()
    slack = 4e-7 * wide.abs().max().clamp(min=0.1)  # float32 arithmetic at the inputs' size
    off = (found.double() - wide).abs()
    worst = (off - ulps(wide, found.dtype) / 2 - slack).max()
    assert worst <= 0, f"{off.max():.3g} apart"
