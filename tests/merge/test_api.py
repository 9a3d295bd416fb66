"""Merging from Python, on models in files and in memory."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import miscible
from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError, RecipeError
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.models.live import LiveModel
from miscible.models.ref import open_checkpoint
from miscible.models.state_dict import StateDictCheckpoint
from tiny import tiny_tensors, write_adapter


def recipe_of(*models: object, method: str = "linear", **keys: Any) -> dict[str, Any]:
    sources = [
        {"model": str(model), "parameters": {"weight": weight}}
        for model, weight in zip(models, (0.25, 0.75), strict=True)
    ]
    return {"merge_method": method, "models": sources, **keys}


def mean(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (0.25 * one.double() + 0.75 * other.double()).to(one.dtype)


class Tied(torch.nn.Module):
    """A module whose head is its embedding."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed_tokens = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.lm_head = torch.nn.Linear(4, 7, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.lm_head.weight = self.embed_tokens.weight
        self.to(dtype)


def test_importing_the_package_costs_nothing() -> None:
    code = (
        "import sys, miscible; assert callable(miscible.merge); from miscible import merge\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), sorted(m for m in sys.modules if 'miscible' in m))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] ['miscible', 'miscible.merge']"
    with pytest.raises(AttributeError, match="no attribute 'merg'"):
        miscible.merg  # type: ignore[attr-defined]  # noqa: B018


def test_every_form_of_a_recipe_is_read(tiny_children: list[Path], tmp_path: Path) -> None:
    plain = recipe_of(*tiny_children)
    parsed = Recipe.model_validate(plain)
    path = tmp_path / "recipe.yml"
    path.write_text(parsed.to_yaml())
    keys = {miscible.merge(form).quick_key for form in (plain, parsed, parsed.to_yaml(), path)}
    assert len(keys) == 1
    with pytest.raises(RecipeError, match=r"Give Path\('recipe.yml'\)"):
        miscible.merge("recipe.yml")
    with pytest.raises(RecipeError, match="mapping of keys"):
        miscible.merge("linear")
    with pytest.raises(RecipeError, match="Did you mean 'merge_method'"):
        miscible.merge({"merge_metod": "linear"})
    with pytest.raises(TypeError, match="no int"):
        miscible.merge(3)  # type: ignore[call-overload]


def test_paths_are_relative_to_a_folder(tiny_children: list[Path], tmp_path: Path) -> None:
    merge = miscible.merge(recipe_of("child1", "child2"), relative_to=tmp_path)
    one, two = (load_file(folder / "model.safetensors") for folder in tiny_children)
    held = merge.state_dict()
    assert held.keys() == one.keys()
    for name, tensor in held.items():
        assert torch.allclose(tensor, mean(one[name], two[name]), atol=1e-6)
    assert merge.state_dict(torch.bfloat16)["model.norm.weight"].dtype is torch.bfloat16


def test_out_writes_a_folder(tiny_children: list[Path], tmp_path: Path) -> None:
    written = miscible.merge(recipe_of(*tiny_children), out=tmp_path / "out", threads=2)
    assert list(written.shards) == ["model.safetensors"]
    assert [round(dose.coefficient, 4) for dose in written.doses] == [0.75]
    read = open_checkpoint(str(tmp_path / "out"))
    for name, tensor in miscible.merge(recipe_of(*tiny_children)).state_dict().items():
        assert read.read(name).equal(tensor)
    with pytest.raises(CheckpointError, match="exists already"):
        miscible.merge({"merge_method": "nonsense"}, out=tmp_path / "out")
    with pytest.raises(TypeError, match="not both"):
        miscible.merge(recipe_of(*tiny_children), out=tmp_path, into=Tied(0))  # type: ignore[call-overload]


def test_models_in_memory_give_what_their_files_give(tiny_children: list[Path]) -> None:
    from_files = miscible.merge(recipe_of(*tiny_children)).state_dict()
    one = load_file(tiny_children[0] / "model.safetensors")
    before = {name: tensor.clone() for name, tensor in one.items()}
    merge = miscible.merge(recipe_of("one", tiny_children[1]), models={"one": one})
    for name, tensor in merge.state_dict().items():
        assert tensor.equal(from_files[name])
    models = {"one": one, "two": open_checkpoint(str(tiny_children[1]))}
    held = miscible.merge(recipe_of("one", "two"), models=models).state_dict()
    assert all(tensor.equal(from_files[name]) for name, tensor in held.items())
    assert all(tensor.equal(before[name]) for name, tensor in one.items())
    key = merge.quick_key
    one["model.norm.weight"][0] += 1.0
    assert miscible.merge(recipe_of("one", "two"), models=models).quick_key != key


def test_models_in_memory_are_written_with_their_config(tmp_path: Path) -> None:
    live = LiveModel.load(_open_tiny(tmp_path)).model
    other = copy.deepcopy(live)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2.0)
    models = {"a": live, "b": other}
    miscible.merge(recipe_of("a", "b"), models=models, out=tmp_path / "out")
    again = open_checkpoint(str(tmp_path / "out"))
    assert again.config["architectures"] == ["LlamaForCausalLM"]
    assert "lm_head.weight" not in again.tensors
    norm = again.read("model.norm.weight")
    assert torch.allclose(norm, 1.75 * live.get_parameter("model.norm.weight"))


def _open_tiny(tmp_path: Path) -> Any:
    from tiny import write_model

    return open_checkpoint(str(write_model(tmp_path / "tiny", tiny_tensors(3))))


def test_random_methods_depend_on_what_is_in_memory(tiny_base: Path) -> None:
    def drawn(child: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
        recipe = {
            "merge_method": "dare_linear", "base_model": str(tiny_base),
            "models": [{"model": "child", "parameters": {"weight": 1.0, "density": 0.5}}],
        }  # fmt: skip
        return miscible.merge(recipe, models={"child": child}, seed=seed).state_dict()

    child = tiny_tensors(5)
    one, again = drawn(child), drawn({name: t.clone() for name, t in child.items()})
    assert all(one[name].equal(again[name]) for name in one)
    other_seed = drawn(child, seed=1)
    assert not one["model.embed_tokens.weight"].equal(other_seed["model.embed_tokens.weight"])


def test_a_merge_of_merges(tiny_base: Path, tiny_children: list[Path]) -> None:
    first, second = (miscible.merge(recipe_of(*tiny_children[::step])) for step in (1, -1))
    held = miscible.merge(recipe_of("a", "b"), models={"a": first, "b": second})
    one, two = first.state_dict(), second.state_dict()
    for name, tensor in held.state_dict().items():
        assert torch.allclose(tensor, mean(one[name], two[name]), atol=1e-6)
    swapped = miscible.merge(recipe_of("a", "b"), models={"a": second, "b": first})
    assert swapped.quick_key != held.quick_key, "their parents' files are the same"


def test_into_a_module_in_its_own_dtype() -> None:
    one, two = Tied(1), Tied(2)
    two.norm.running_mean.fill_(1.0)
    module = Tied(3, torch.bfloat16)
    embedding = module.embed_tokens.weight
    recipe = recipe_of("one", "two")
    filled = miscible.merge(recipe, models={"one": one, "two": two}, into=module)
    assert filled is module
    assert module.lm_head.weight is module.embed_tokens.weight is embedding
    expected = mean(one.embed_tokens.weight, two.embed_tokens.weight)
    assert embedding.dtype is torch.bfloat16
    assert embedding.equal(expected.to(torch.bfloat16))
    assert embedding.requires_grad
    assert module.norm.running_mean.float().allclose(torch.full((4,), 0.75))
    assert module.norm.num_batches_tracked.dtype is torch.int64


def test_a_model_of_transformers_is_filled(tiny_children: list[Path], tmp_path: Path) -> None:
    model = LiveModel.load(_open_tiny(tmp_path)).model
    miscible.merge(recipe_of(*tiny_children), into=model)
    expected = miscible.merge(recipe_of(*tiny_children)).state_dict()
    held = model.state_dict()
    assert all(held[name].equal(tensor) for name, tensor in expected.items())
    assert held["lm_head.weight"].equal(expected["model.embed_tokens.weight"])


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


class Untied(Tied):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.lm_head.weight = torch.nn.Parameter(self.lm_head.weight + 1.0)


class Longer(Tied):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.extra = torch.nn.Linear(2, 2)


class Wider(Tied):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.norm = torch.nn.BatchNorm1d(5)


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [
        (Longer, Tied, "2 tensors have no place in the module, 'extra.weight'"),
        (Tied, Longer, "2 tensors of the module are missing, 'extra.weight'"),
        (Tied, Wider, "has shape (4,) and dtype F32; in the module it has shape (5,)"),
        (Untied, Tied, "differ, and the module ties them"),
    ],
)
def test_what_does_not_fit_changes_nothing(kind: Any, target: Any, said: str) -> None:
    module = target(3)
    before = state_of(module)
    with pytest.raises(IncompatibleModelsError) as raised:
        miscible.merge(
            recipe_of("one", "two"), models={"one": kind(1), "two": kind(2)}, into=module
        )
    assert said in str(raised.value)
    assert all(tensor.equal(before[name]) for name, tensor in state_of(module).items())


def test_ties_are_found_both_ways() -> None:
    module = Untied(3)
    with pytest.raises(IncompatibleModelsError, match=r"missing, 'lm_head.weight'"):
        miscible.merge(
            recipe_of("one", "two"), models={"one": Tied(1), "two": Tied(2)}, into=module
        )
    equal = {n: t.clone() for n, t in Tied(1).state_dict().items()}  # twice the same, not tied
    tied = Tied(3)
    miscible.merge(recipe_of("one", "two"), models={"one": equal, "two": equal.copy()}, into=tied)
    assert tied.lm_head.weight.allclose(equal["embed_tokens.weight"])


def test_other_modules_that_cannot_be_filled() -> None:
    models: dict[str, Any] = {"one": Tied(1), "two": Tied(2)}
    with pytest.raises(MiscibleError, match="to_empty"):
        miscible.merge(recipe_of("one", "two"), models=models, into=Tied(3).to("meta"))
    narrow = Tied(3, torch.float16)
    models["one"].embed_tokens.weight.data.mul_(1e6)
    with pytest.raises(MiscibleError, match="float16"):
        miscible.merge(recipe_of("one", "two"), models=models, into=narrow)
    integer = Tied(3)
    integer.embed_tokens.weight = torch.nn.Parameter(
        torch.zeros(7, 4, dtype=torch.int8), requires_grad=False
    )
    integer.lm_head.weight = integer.embed_tokens.weight
    with pytest.raises(IncompatibleModelsError, match="in the module it is int8"):
        miscible.merge(recipe_of("one", "two"), models=models, into=integer)


def test_a_model_may_be_filled_with_a_merge_of_itself() -> None:
    one, two = Tied(1), Tied(2)
    expected = mean(one.embed_tokens.weight.detach(), two.embed_tokens.weight.detach())
    miscible.merge(recipe_of("one", "two"), models={"one": one, "two": two}, into=one)
    assert one.embed_tokens.weight.allclose(expected)


def test_a_merge_within_the_merge_must_not_read_what_is_filled() -> None:
    one, two = Tied(1), Tied(2)
    before = state_of(one)
    inner = miscible.merge(recipe_of("one", "two"), models={"one": one, "two": two})
    models: dict[str, Any] = {"inner": inner, "two": two}
    with pytest.raises(RecipeError, match="'inner' is the module that is filled"):
        miscible.merge(recipe_of("inner", "two"), models=models, into=one)
    assert all(tensor.equal(before[name]) for name, tensor in state_of(one).items())
    miscible.merge(recipe_of("inner", "two"), models=models, into=copy.deepcopy(one))


def test_random_numbers_of_a_model_that_is_filled_are_those_of_what_it_was(tiny_base: Path) -> None:
    base = load_file(tiny_base / "model.safetensors")
    child = StateDictHolder({name: tensor + 0.1 for name, tensor in base.items()})
    recipe = {
        "merge_method": "dare_linear", "base_model": str(tiny_base),
        "models": [{"model": "child", "parameters": {"weight": 1.0, "density": 0.5}}],
    }  # fmt: skip
    expected = miscible.merge(recipe, models={"child": copy.deepcopy(child)}).state_dict()
    miscible.merge(recipe, models={"child": child}, into=child)
    assert all(child.state_dict()[name].equal(tensor) for name, tensor in expected.items())


def test_but_not_if_tensors_are_moved() -> None:
    stack = torch.nn.ModuleDict(
        {"layers": torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(3))}
    )
    before = state_of(stack)
    recipe = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "stack", "layer_range": cut}]} for cut in ([1, 3], [0, 1])
        ],
    }
    with pytest.raises(RecipeError, match="copy.deepcopy"):
        miscible.merge(recipe, models={"stack": stack}, into=stack)
    assert all(tensor.equal(before[name]) for name, tensor in state_of(stack).items())
    miscible.merge(recipe, models={"stack": copy.deepcopy(stack)}, into=stack)
    order = [1, 2, 0]
    for place, layer in enumerate(order):
        held = stack.state_dict()[f"layers.{place}.weight"]
        assert held.equal(before[f"layers.{layer}.weight"])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ([1], "a list is no state dict"),
        ({"model": {"a": torch.ones(1)}}, "'model' is a dict"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "cannot be merged"),
        ({"a": torch.ones(2, device="meta")}, "it is empty"),
        ({"a": torch.eye(2).to_sparse()}, "cannot be merged"),
    ],
)
def test_what_is_no_model_in_memory(model: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        miscible.merge(recipe_of("a", "b"), models={"a": model, "b": model})


def test_a_model_that_the_recipe_does_not_name() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'maths'"):
        miscible.merge(recipe_of("maths", "code"), models={"mathz": Tied(1)})


def test_nan_in_memory_names_model_and_tensor() -> None:
    bad = Tied(2)
    bad.norm.weight.data[0] = float("nan")
    with pytest.raises(MiscibleError, match="^two: tensor 'norm.weight' holds NaN"):
        miscible.merge(recipe_of("one", "two"), models={"one": Tied(1), "two": bad}).state_dict()


def test_python_warns_of_a_merge_that_is_less_than_it_looks(tiny_base: Path) -> None:
    recipe = recipe_of("one", "two", method="task_arithmetic", base_model=str(tiny_base))
    base = load_file(tiny_base / "model.safetensors")
    target = StateDictHolder(base)
    models: dict[str, Any] = {"one": open_checkpoint(str(tiny_base)), "two": tiny_tensors(4)}
    with pytest.warns(UserWarning, match="task vector is zero"):
        miscible.merge(recipe, models=models, into=target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any("zero" in said for said in miscible.merge(recipe, models=models).warnings)


class StateDictHolder(torch.nn.Module):
    """A module with any names."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            module: torch.nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_parameter(last, torch.nn.Parameter(tensor.clone()))


def test_adapters_and_coefficients_with_models_in_memory(tiny_base: Path, tmp_path: Path) -> None:
    factors = {"model.layers.0.mlp.up_proj": (torch.ones(2, 16), torch.ones(24, 2))}
    adapter = write_adapter(tmp_path / "lora", factors)
    (tmp_path / "factors.json").write_text(
        '{"kind": "coefficients", "version": 1, "models": {"two": {"*": 0.5}}}'
    )
    recipe = recipe_of(
        f"{tiny_base}+{adapter}", "two", method="task_arithmetic", base_model=str(tiny_base),
        coefficients="factors.json",
    )  # fmt: skip
    two = tiny_tensors(4)
    held = miscible.merge(recipe, models={"two": two}, relative_to=tmp_path).state_dict()
    base = load_file(tiny_base / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    expected = base[name] + 0.25 * 2 * torch.full((24, 16), 2.0) + 0.375 * (two[name] - base[name])
    assert held[name].allclose(expected, atol=1e-5)
    (tmp_path / "factors.json").write_text(
        '{"kind": "coefficients", "version": 1, "models": {"twoo": {"*": 0.5}}}'
    )
    with pytest.raises(RecipeError, match="Did you mean 'two'"):
        miscible.merge(recipe, models={"two": two}, relative_to=tmp_path)


def test_a_state_dict_checkpoint_holds_ties_once_and_hands_out_copies() -> None:
    weight = torch.ones(3, 2)
    tied = {"lm_head.weight": weight, "wte.weight": weight, "view": weight.T, "empty": weight[:0]}
    held = StateDictCheckpoint(tied, name="m")
    assert set(held.tensors) == {"wte.weight", "view", "empty"}
    held.read("wte.weight").zero_()
    assert weight.sum() == 6
    key = held.fingerprint
    assert StateDictCheckpoint({**tied, "view": weight.T * 2}, name="m").fingerprint != key
    assert StateDictCheckpoint({**tied, "view": weight.T.clone()}, name="m").fingerprint == key
    with pytest.raises(CheckpointError, match="no tensor 'lm_head.weight'"):
        held.read("lm_head.weight")


def test_the_text_of_a_recipe_keeps_its_lines() -> None:
    with pytest.raises(RecipeError, match="<recipe>, line 2"):
        parse_recipe("merge_method: linear\nmodells: []\n")
