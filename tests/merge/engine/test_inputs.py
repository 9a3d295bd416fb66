"""Adapters and unequal vocabularies are streamed to what their definition gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from merge.engine.recipes import PARAMETERS, assert_one_rounding_apart, case_id, recipe_of
from merge.engine.tensors import grid
from miscible.errors import MiscibleError
from miscible.merge.dense import merge_dense
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import INNER, WIDTH, WORDS, tiny_tensors, write_adapter, write_model

Case = tuple[str, dict[str, Any], dict[str, Any]]
MODULES = {
    "model.layers.0.self_attn.q_proj": (WIDTH, WIDTH),
    "model.layers.1.mlp.up_proj": (INNER, WIDTH),
    "model.layers.1.mlp.down_proj": (WIDTH, INNER),
}
each_case = pytest.mark.parametrize("case", PARAMETERS, ids=map(case_id, PARAMETERS))


def factors(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            torch.randn(3, inputs, generator=generator) * 0.1,
            torch.randn(outputs, 3, generator=generator) * 0.1,
        )
        for module, (outputs, inputs) in MODULES.items()
    }


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bfloat16 base, two adapters on it, and a fine-tune between them."""
    folder = tmp_path_factory.mktemp("adapted")
    base = write_model(folder / "base", tiny_tensors(0, torch.bfloat16))
    child = {
        name: (tensor.float() + 0.01 * tiny_tensors(1)[name]).bfloat16()
        for name, tensor in tiny_tensors(0, torch.bfloat16).items()
    }
    write_model(folder / "child", child)
    loras = [write_adapter(folder / f"lora{seed}", factors(seed)) for seed in (1, 2)]
    return {
        "base": str(base), "m0": f"{base}+{loras[0]}", "m1": str(folder / "child"),
        "m2": f"{base}+{loras[1]}",
    }  # fmt: skip


def check_against_definition(merge: VirtualCheckpoint) -> None:
    streamed = [name for name in merge.tensors if merge.streams(name)]
    assert streamed == list(merge.tensors)
    for name in streamed:
        output = merge.plan.outputs[name]
        wanted = merge_dense(merge.inputs, output, merge.context(output))
        assert_one_rounding_apart(merge.read(name), wanted)
        assert_one_rounding_apart(merge.read(name, torch.float32), wanted)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
@each_case
def test_adapters(
    monkeypatch: pytest.MonkeyPatch, adapted: dict[str, str], case: Case, dtype: str | None
) -> None:
    keys = {} if dtype is None else {"dtype": dtype, "out_dtype": "float32"}
    with grid(monkeypatch, 1024):
        check_against_definition(VirtualCheckpoint.open(recipe_of(case, adapted, **keys), seed=2))


DRAWING = frozenset(["dare_linear", "dare_ties", "della", "della_linear"])


@each_case
def test_adapters_equal_their_dense_forms(adapted: dict[str, str], case: Case) -> None:
    """A merge of adapters is that of checkpoints which hold base plus delta in float32."""
    if case[0] in DRAWING or case[1].get("sparsify") in ("random", "rank"):
        return  # draws belong to a model's content, and these differ in it
    if "density" in case[1] or case[0] == "composed":
        return  # thresholds fall between elements whose differences from the base are rounded
    merge = VirtualCheckpoint.open(recipe_of(case, adapted, out_dtype="float32"), seed=2)
    base = load_file(Path(adapted["base"]) / "model.safetensors")
    dense: dict[str, MemoryCheckpoint] = {}
    for name, reference in adapted.items():
        path, _, lora = reference.partition("+")
        state = {n: t.float() for n, t in load_file(Path(path) / "model.safetensors").items()}
        for module, (a, b) in factors(int(lora[-1])).items() if lora else ():
            held = base[f"{module}.weight"].double()
            state[f"{module}.weight"] = (held + 2 * b.double() @ a.double()).float()
        dense[reference] = MemoryCheckpoint(name, state)
    whole = VirtualCheckpoint(merge.recipe, {r: dense[r] for r in merge.models}, seed=2)
    for name in merge.tensors:
        assert_one_rounding_apart(merge.read(name), whole.read(name))


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose vocabularies differ in order and in size."""
    folder, models = tmp_path_factory.mktemp("worded"), {}
    vocabularies = {
        "base": WORDS,
        "m0": WORDS[::-1],
        "m1": [*WORDS[:5], "new", "words", *WORDS[5:]],
        "m2": [*WORDS, "another", "new"],
    }
    for seed, (name, words) in enumerate(vocabularies.items()):
        tensors = {n: t.bfloat16() for n, t in tiny_tensors(0).items()}
        own = torch.Generator().manual_seed(seed)
        for key, tensor in tensors.items():
            noise = torch.randn(tensor.shape, generator=own) * 0.01 * (seed > 0)
            tensors[key] = (tensor.float() + noise).bfloat16()
        rows = torch.randn(len(words) + 3, WIDTH, generator=own) * 0.1
        tensors["model.embed_tokens.weight"] = rows.bfloat16()
        models[name] = write_model(folder / name, tensors, words=words)
    return models


@pytest.mark.parametrize(
    "keys",
    [
        {"tokenizer": {"source": "union"}},
        {"tokenizer": {"source": "union", "pad_to_multiple_of": 32}},
        {"tokenizer": {"source": "union"}, "dtype": "bfloat16", "out_dtype": "float32"},
    ],
    ids=["union", "padded", "rounded"],
)
@each_case
def test_aligned_vocabularies(
    monkeypatch: pytest.MonkeyPatch, worded: dict[str, Path], case: Case, keys: Mapping[str, Any]
) -> None:
    with grid(monkeypatch, 1024):
        merge = VirtualCheckpoint.open(recipe_of(case, worded, **keys), seed=2)
        rows = merge.tensors["model.embed_tokens.weight"].shape[0]
        if len(merge.models) > 1:
            assert rows == 32 if "pad_to_multiple_of" in keys["tokenizer"] else rows >= 14
        check_against_definition(merge)


def test_a_merge_as_input_of_a_merge_with_another_vocabulary(worded: dict[str, Path]) -> None:
    """Its chunks are computed while those of the outer merge are being read."""
    inner = VirtualCheckpoint.open(
        parse_recipe(f"merge_method: linear\nmodels: [{{model: {worded['base']}}}]\n"
                     "parameters: {weight: 1.0}\n"), name="inner"
    )  # fmt: skip
    stored = VirtualCheckpoint.open(
        parse_recipe(f"merge_method: linear\nmodels: [{{model: {worded['m1']}}}]\n"
                     "parameters: {weight: 1.0}\n")
    )  # fmt: skip
    recipe = parse_recipe(
        "merge_method: linear\nmodels: [{model: one}, {model: two}]\nparameters: {weight: 0.5}\n"
        "tokenizer: {source: union}\n"
    )
    outer = VirtualCheckpoint(recipe, {"one": stored.models[str(worded["m1"])], "two": inner})
    plain = VirtualCheckpoint(
        recipe,
        {
            "one": stored.models[str(worded["m1"])],
            "two": next(iter(inner.models.values())),
        },
    )
    for name in plain.tensors:
        assert outer.read(name).equal(plain.read(name)), name


PARTS = {
    "linear": "{weight: 1.0}",  # streamed
    "task_arithmetic": "{weight: 1.0}",
    "ties": "{weight: 1.0, density: 0.9}",
    "magmax": "{weight: 1.0}",  # element by element
    "pcb": "{weight: 1.0, density: 0.9}",  # on whole tensors
}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["linear", "ties", "magmax", "pcb"])
def test_numbers_that_are_not_finite_are_named(
    tmp_path: Path, method: str, dtype: torch.dtype, bad: float
) -> None:
    base = write_model(tmp_path / "base", tiny_tensors(0, dtype))
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = tiny_tensors(1, dtype)
    tensors[name][-1, -1] = bad
    models = [write_model(tmp_path / "sound", tiny_tensors(2, dtype)),
              write_model(tmp_path / "broken", tensors)]  # fmt: skip
    keys = "" if method == "linear" else f"base_model: {base}\n"
    recipe = parse_recipe(
        f"merge_method: {method}\n{keys}models: [{{model: {models[0]}}}, {{model: {models[1]}}}]\n"
        f"parameters: {PARTS[method]}\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    with pytest.raises(MiscibleError, match=f"{name!r} holds NaN or infinity") as caught:
        merge.read(name)
    assert "broken" in str(caught.value)
    merge.read("model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "magmax", "pcb"])
def test_an_adapter_that_is_not_finite_is_named(
    tiny_base: Path, tmp_path: Path, method: str, side: int
) -> None:
    held = factors(1)
    held["model.layers.1.mlp.up_proj"][side][0, 0] = float("nan")
    lora = write_adapter(tmp_path / "lora", held)
    keys = "" if method == "linear" else f"base_model: {tiny_base}\n"
    recipe = parse_recipe(
        f"merge_method: {method}\n{keys}models: [{{model: '{tiny_base}+{lora}'}}]\n"
        f"parameters: {PARTS[method]}\n"
    )
    with pytest.raises(MiscibleError) as caught:
        merge = VirtualCheckpoint.open(recipe)
        merge.read("model.layers.1.mlp.up_proj.weight")
    assert "NaN or infinity" in str(caught.value)
    assert "lora" in str(caught.value)
    assert "model.layers.1.mlp.up_proj" in str(caught.value)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "magmax", "pcb"])
@pytest.mark.parametrize("through", ["out_dtype", "dtype"])
def test_what_does_not_fit_float16_is_an_error(
    tiny_base: Path, tmp_path: Path, method: str, through: str
) -> None:
    tensors = {name: tensor * 1e6 for name, tensor in tiny_tensors(1).items()}
    model = write_model(tmp_path / "large", tensors)
    keys = "" if method == "linear" else f"base_model: {tiny_base}\n"
    recipe = parse_recipe(
        f"merge_method: {method}\n{keys}models: [{{model: {model}}}]\nparameters: {PARTS[method]}\n"
        f"{through}: float16\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    with pytest.raises(MiscibleError, match=r"model\.norm\.weight"):
        merge.read("model.norm.weight")
