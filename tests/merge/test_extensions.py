"""What recipes can say beyond mergekit's: wrappers, statistics, coefficients, alignment, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from miscible.errors import MiscibleError, RecipeError
from miscible.merge.ops.sparsify import KeepLargest
from miscible.merge.recipe import parse_recipe
from miscible.merge.statistics.files import Statistics, write_statistics
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint
from tiny import INNER, LAYERS, WIDTH, tiny_tensors, write_adapter, write_model

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tiny_tensors(0)
    write_model(tmp_path / "base", base)
    for seed in (1, 2):
        noise = tiny_tensors(seed)
        tensors = {name: tensor + 0.1 * noise[name] for name, tensor in base.items()}
        write_model(tmp_path / f"m{seed}", tensors)
    return tmp_path


def opened(folder: Path, text: str) -> VirtualCheckpoint:
    return VirtualCheckpoint.open(parse_recipe(text), relative_to=folder)


MODELS = "models: [{model: m1, parameters: {weight: 1}}, {model: m2, parameters: {weight: 1}}]\n"


def test_lines_scales_by_depth(folder: Path) -> None:
    recipe = "merge_method: task_arithmetic\nbase_model: base\n" + MODELS
    plain = opened(folder, recipe)
    lined = opened(folder, recipe + "wrap: [{lines: {alpha: 0.25, beta: 0.5}}]\n")
    base = FolderCheckpoint(folder / "base")
    for layer, factor in ((0, 0.25), (LAYERS - 1, 0.75)):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        origin = base.read(name)
        expected = origin + factor * (plain.read(name) - origin)
        assert torch.allclose(lined.read(name), expected, atol=1e-6)
    assert lined.streams(Q)


def test_wrappers_nest_the_first_outermost(folder: Path) -> None:
    recipe = "merge_method: ties\nbase_model: base\nparameters: {density: 0.5}\n" + MODELS
    both = opened(folder, recipe + "wrap: [{lines: {alpha: 0.5, beta: 0}}, subspace_boosting]\n")
    one = opened(folder, recipe + "wrap: [subspace_boosting]\n")
    base = FolderCheckpoint(folder / "base").read(Q)
    assert torch.allclose(both.read(Q) - base, 0.5 * (one.read(Q) - base), atol=1e-6)
    assert not both.streams(Q)


def test_knots_merges_adapters_in_their_common_space(folder: Path) -> None:
    generator = torch.Generator().manual_seed(7)
    for name in ("x", "y"):
        factors = {
            Q.removesuffix(".weight"): (
                torch.randn(2, WIDTH, generator=generator),
                torch.randn(WIDTH, 2, generator=generator),
            )
        }
        write_adapter(folder / name, factors)
    text = (
        "merge_method: ties\nbase_model: base\nparameters: {density: 0.5}\nmodels:\n"
        "- {model: base+x, parameters: {weight: 1}}\n- {model: base+y, parameters: {weight: 1}}\n"
    )
    merge = opened(folder, text + "wrap: [knots]\n")
    base = FolderCheckpoint(folder / "base").read(Q).double()
    d1, d2 = (opened_delta(folder, name, base) for name in ("x", "y"))
    u, s, vh = torch.linalg.svd(torch.cat([d1, d2], dim=1), full_matrices=False)
    rank = int((s > 1e-6 * s[0]).sum())
    parts = (s[:rank, None] * vh[:rank]).split(WIDTH, dim=1)
    kept = [KeepLargest(0.5)(part.contiguous()) for part in parts]
    sign = torch.where(sum(kept) >= 0, 1.0, -1.0)
    agree = [torch.where(part * sign > 0, part, 0.0) for part in kept]
    count = sum((part != 0).double() for part in agree).clamp_min(1.0)
    expected = base + u[:, :rank] @ (sum(agree) / count)
    assert torch.allclose(merge.read(Q).double(), expected, atol=2e-5)


def opened_delta(folder: Path, name: str, base: torch.Tensor) -> torch.Tensor:
    recipe = f"merge_method: linear\nmodels: [{{model: base+{name}, parameters: {{weight: 1}}}}]\n"
    return opened(folder, recipe).read(Q).double() - base


def test_a_sum_of_adapters_keeps_its_factors(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    for name in ("x", "y"):
        factors = {
            Q.removesuffix(".weight"): (
                torch.randn(2, WIDTH, generator=generator),
                torch.randn(WIDTH, 2, generator=generator),
            )
        }
        write_adapter(folder / name, factors)
    base = FolderCheckpoint(folder / "base")
    models = (
        "models:\n- {model: base+x, parameters: {weight: 0.3}}\n"
        "- {model: base+y, parameters: {weight: 0.7}}\n"
    )
    for head in ("merge_method: linear\n", "merge_method: task_arithmetic\nbase_model: base\n"):
        merge = opened(folder, head + models)
        held = merge.low_rank_delta(Q, base)
        assert held is not None
        assert held.a.shape[0] == 4
        assert torch.allclose(base.read(Q) + held.dense(), merge.read(Q), atol=1e-5)
    trimmed = opened(
        folder, f"merge_method: ties\nbase_model: base\nparameters: {{density: 0.5}}\n{models}"
    )
    assert trimmed.low_rank_delta(Q, base) is None


def test_filters_by_role_and_layer(folder: Path) -> None:
    recipe = (
        "merge_method: linear\nmodels:\n- {model: m1, parameters: {weight: 1}}\n"
        "- model: m2\n  parameters:\n    weight:\n    - {filter: 'role:mlp', value: 0}\n"
        "    - {filter: 'layer:1', value: 3}\n    - {value: 1}\n"
    )
    merge = opened(folder, recipe)
    one, two = (FolderCheckpoint(folder / name) for name in ("m1", "m2"))
    for name, share in (
        ("model.layers.1.mlp.up_proj.weight", 0.0),
        ("model.layers.1.self_attn.q_proj.weight", 0.75),
        (Q, 0.5),
    ):
        expected = (1 - share) * one.read(name) + share * two.read(name)
        assert torch.allclose(merge.read(name), expected, atol=1e-6)
    with pytest.raises(RecipeError, match="no role 'mpl'.*Did you mean 'mlp'"):
        opened(folder, recipe.replace("role:mlp", "role:mpl"))


def test_coefficients_multiply_weights(folder: Path) -> None:
    held = {"kind": "coefficients", "version": 1,
            "models": {"m1": {"*": 0.5, "model.layers.0.": 0.25}}}  # fmt: skip
    (folder / "map.json").write_text(json.dumps(held))
    recipe = "merge_method: task_arithmetic\nbase_model: base\n" + MODELS
    merge = opened(folder, recipe + "coefficients: map.json\n")
    base, one, two = (FolderCheckpoint(folder / n) for n in ("base", "m1", "m2"))
    for name, factor in ((Q, 0.25), ("model.norm.weight", 0.5)):
        origin = base.read(name)
        expected = origin + factor * (one.read(name) - origin) + (two.read(name) - origin)
        assert torch.allclose(merge.read(name), expected, atol=1e-6)
    assert merge.fingerprint != opened(folder, recipe).fingerprint
    (folder / "map.json").write_text(json.dumps(held | {"models": {"m3": {"*": 1.0}}}))
    with pytest.raises(RecipeError, match="'m3', which is no model"):
        opened(folder, recipe + "coefficients: map.json\n")


def test_fisher_and_regmean_read_statistics(folder: Path) -> None:
    models = {name: FolderCheckpoint(folder / name) for name in ("m1", "m2")}
    generator = torch.Generator().manual_seed(5)
    fishers, grams = {}, {}
    for name, model in models.items():
        fishers[name] = torch.rand(WIDTH, WIDTH, generator=generator) + 0.1
        inputs = torch.randn(64, WIDTH, generator=generator)
        grams[name] = inputs.T @ inputs / 64
        for kind, tensor in (("fisher", fishers[name]), ("gram", grams[name])):
            held = Statistics(kind=kind, tensors={Q: tensor}, model=model.fingerprint,
                              examples=1, tokens=64, seed=0)  # fmt: skip
            write_statistics(folder / f"{name}-{kind}.safetensors", held)

    def recipe(method: str, kind: str) -> str:
        listed = "".join(
            f"- {{model: {name}, statistics: {name}-{kind}.safetensors}}\n" for name in models
        )
        return f"merge_method: {method}\nmodels:\n{listed}"

    one, two = (models[name].read(Q).double() for name in models)
    f1, f2 = (fishers[name].double() for name in models)
    merge = opened(folder, recipe("fisher", "fisher"))
    assert torch.allclose(merge.read(Q).double(), (f1 * one + f2 * two) / (f1 + f2), atol=1e-6)
    norm = "model.norm.weight"
    mean = (models["m1"].read(norm) + models["m2"].read(norm)) / 2
    assert torch.allclose(merge.read(norm), mean, atol=1e-6)
    merge = opened(
        folder, recipe("regmean", "gram") + "parameters: {reduce_non_diagonal_ratio: 1}\n"
    )
    g1, g2 = (grams[name].double() for name in models)
    expected = torch.linalg.solve(g1 + g2, (one @ g1 + two @ g2).T).T
    assert torch.allclose(merge.read(Q).double(), expected, atol=1e-3)
    with pytest.raises(RecipeError, match="needs gram statistics, the file holds fisher"):
        opened(folder, recipe("regmean", "fisher"))
    with pytest.raises(RecipeError, match="needs fisher statistics of every model"):
        opened(folder, "merge_method: fisher\nmodels: [{model: m1}, {model: m2}]\n")


def test_git_rebasin_undoes_a_permutation(folder: Path) -> None:
    tensors = tiny_tensors(1)
    order = torch.randperm(INNER, generator=torch.Generator().manual_seed(1))
    permuted = dict(tensors)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.mlp"
        for name in ("gate_proj", "up_proj"):
            permuted[f"{prefix}.{name}.weight"] = tensors[f"{prefix}.{name}.weight"][order]
        down = f"{prefix}.down_proj.weight"
        permuted[down] = tensors[down][:, order].contiguous()
    write_model(folder / "a", tensors)
    write_model(folder / "b", permuted)
    recipe = (
        "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 0.5}}\n"
        "- {model: b, align: git_rebasin, parameters: {weight: 0.5}}\n"
    )
    merge = opened(folder, recipe)
    for name, tensor in tensors.items():
        assert torch.allclose(merge.read(name), tensor, atol=1e-6), name


def test_modules_merge_on_their_own(folder: Path) -> None:
    recipe = (
        "merge_method: linear\nmodules:\n"
        "  mlp:\n    models: [{model: m1, parameters: {weight: 1}}]\n"
        "  default:\n    models: [{model: m1}, {model: m2}]\n    parameters: {weight: 0.5}\n"
    )
    merge = opened(folder, recipe)
    one, two = (FolderCheckpoint(folder / name) for name in ("m1", "m2"))
    up = "model.layers.1.mlp.up_proj.weight"
    assert merge.read(up).equal(one.read(up))
    assert torch.allclose(merge.read(Q), (one.read(Q) + two.read(Q)) / 2, atol=1e-7)
    assert set(merge.tensors) == set(one.tensors)
    with pytest.raises(RecipeError, match="in no module.*'default'"):
        opened(folder, recipe.partition("  default")[0])
    with pytest.raises(RecipeError, match="no tensor in the module 'mpl'"):
        opened(folder, recipe.replace("  mlp:", "  mpl:"))


def test_files_without_a_folder(folder: Path) -> None:
    recipe = (
        "merge_method: linear\nmodels:\n"
        "- {model: m1/model.safetensors, parameters: {weight: 0.5}}\n"
        "- {model: m2/model.safetensors, parameters: {weight: 0.5}}\n"
    )
    one, two = (FolderCheckpoint(folder / name).read(Q) for name in ("m1", "m2"))
    assert torch.allclose(opened(folder, recipe).read(Q), (one + two) / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrap: [lins]\n", "Did you mean 'lines'"),
        ("wrap: [{lines: {alpha: 1, bta: 1}}]\n", "Did you mean 'beta'"),
        ("wrap: [{lines: {}, knots: {}}]\n", "names one wrapper"),
        ("coefficients: nowhere.json\n", "nowhere.json"),
        ("layout: {layers: 'blocks.'}\n", "layer"),
    ],
)
def test_wrong_extensions(folder: Path, text: str, message: str) -> None:
    with pytest.raises(MiscibleError, match=message):
        opened(folder, "merge_method: task_arithmetic\nbase_model: base\n" + MODELS + text)


def test_an_adapter_and_a_full_fine_tune_in_one_merge(folder: Path) -> None:
    generator = torch.Generator().manual_seed(11)
    a, b = (torch.randn(*s, generator=generator) for s in ((2, WIDTH), (WIDTH, 2)))
    write_adapter(folder / "x", {Q.removesuffix(".weight"): (a, b)})
    merge = opened(
        folder,
        "merge_method: task_arithmetic\nbase_model: base\nmodels:\n"
        "- {model: base+x, parameters: {weight: 0.5}}\n- {model: m1, parameters: {weight: 2}}\n",
    )
    base, full = (FolderCheckpoint(folder / name).read(Q).double() for name in ("base", "m1"))
    expected = base + 0.5 * 2.0 * (b.double() @ a.double()) + 2 * (full - base)
    assert merge.streams(Q)
    assert torch.allclose(merge.read(Q).double(), expected, atol=1e-5)
