from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from miscible.errors import IncompatibleModelsError
from miscible.merge.dose import measure_doses, possible_changes, scaled
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint, open_checkpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import WIDTH, write_adapter


def flat(model: Checkpoint, base: Checkpoint) -> np.ndarray:
    names = sorted(model.tensors)
    return np.concatenate(
        [(model.read(n).double() - base.read(n).double()).flatten().numpy() for n in names]
    )


def test_equals_the_definition(tiny_base: Path, tiny_children: list[Path]) -> None:
    base = FolderCheckpoint(tiny_base)
    one, two = (FolderCheckpoint(folder) for folder in tiny_children)
    recipe = parse_recipe(
        f"merge_method: ties\nbase_model: {tiny_base}\nmodels:\n"
        f"- {{model: {tiny_children[0]}, parameters: {{weight: 0.9}}}}\n"
        f"- {{model: {tiny_children[1]}, parameters: {{weight: 0.2}}}}\n"
        "parameters: {density: 0.4, normalize: false}\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    rows = measure_doses(merge, base, {"one": one, "two": two})
    m, d = flat(merge, base), np.stack([flat(one, base), flat(two, base)])
    fit, *_ = np.linalg.lstsq(d.T, m, rcond=None)
    for row, vector, coefficient in zip(rows, d, fit, strict=True):
        assert row.projection == pytest.approx(m @ vector / (vector @ vector), rel=1e-4)
        assert row.coefficient == pytest.approx(coefficient, rel=1e-4)
        assert row.share == pytest.approx(coefficient / fit.sum(), rel=1e-4)
        cosine = m @ vector / np.linalg.norm(m) / np.linalg.norm(vector)
        assert row.cosine == pytest.approx(cosine, rel=1e-4)
        residual = np.linalg.norm(m - fit @ d) / np.linalg.norm(m)
        assert row.residual == pytest.approx(residual, rel=1e-4)


@pytest.mark.parametrize("dose", [0.0, 0.3, 1.0])
def test_the_dose_of_an_average_is_its_weight(
    tiny_base: Path, tiny_children: list[Path], dose: float
) -> None:
    one, two = tiny_children
    recipe = parse_recipe(
        f"merge_method: linear\nmodels:\n- {{model: {one}, parameters: {{weight: {1 - dose}}}}}\n"
        f"- {{model: {two}, parameters: {{weight: {dose}}}}}\n"
    )
    parents = {"one": FolderCheckpoint(one), "two": FolderCheckpoint(two)}
    rows = measure_doses(VirtualCheckpoint.open(recipe), FolderCheckpoint(tiny_base), parents)
    assert [row.coefficient for row in rows] == pytest.approx([1 - dose, dose], abs=1e-5)
    assert rows[0].residual < 1e-3


def test_lambda_scales_doses(tiny_base: Path, tiny_children: list[Path]) -> None:
    def doses(factor: float) -> list[float]:
        recipe = parse_recipe(
            f"merge_method: dare_ties\nbase_model: {tiny_base}\n"
            f"parameters: {{weight: 0.5, density: 0.5, lambda: {factor}}}\n"
            f"models: [{{model: {tiny_children[0]}}}, {{model: {tiny_children[1]}}}]\n"
        )
        parents = {str(folder): FolderCheckpoint(folder) for folder in tiny_children}
        base = FolderCheckpoint(tiny_base)
        rows = measure_doses(VirtualCheckpoint.open(recipe), base, parents)
        return [row.projection for row in (rows if factor == 1 else scaled(rows, 1.0))]

    assert doses(0.25) == pytest.approx([0.25 * value for value in doses(1)], rel=1e-4)


def test_adapters_need_only_their_own_tensors(tiny_base: Path, tmp_path: Path) -> None:
    module = "model.layers.0.self_attn.q_proj"
    made = write_adapter(
        tmp_path / "lora", {module: (torch.randn(2, WIDTH), torch.randn(WIDTH, 2))}
    )
    base, child = FolderCheckpoint(tiny_base), open_checkpoint(f"{tiny_base}+{made}")
    assert possible_changes(child, base) == {f"{module}.weight"}
    recipe = parse_recipe(
        f"merge_method: task_arithmetic\nbase_model: {tiny_base}\n"
        f"models: [{{model: '{tiny_base}+{made}', parameters: {{weight: 0.4}}}}]\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    assert possible_changes(merge, base) == {f"{module}.weight"}
    (row,) = measure_doses(merge, base, {"lora": child})
    assert row.projection == pytest.approx(0.4, abs=1e-5)


def test_a_weighted_sum_that_is_no_average_changes_every_tensor(
    tiny_base: Path, tmp_path: Path
) -> None:
    module = "model.layers.0.self_attn.q_proj"
    made = write_adapter(tmp_path / "lora", {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))})
    base, child = FolderCheckpoint(tiny_base), open_checkpoint(f"{tiny_base}+{made}")
    norm, weight = "model.norm.weight", f"{module}.weight"

    def merge(normalize: str, weight: float = 0.6) -> VirtualCheckpoint:
        return VirtualCheckpoint.open(
            parse_recipe(
                f"merge_method: linear\nmodels:\n- model: {tiny_base}\n"
                f"  parameters: {{weight: {weight}}}\n- model: {tiny_base}+{made}\n"
                f"  parameters: {{weight: {weight}, normalize: {normalize}}}\n"
            )
        )

    assert possible_changes(merge("true"), base) == {weight}
    assert possible_changes(merge("false", 0.5), base) == {weight}
    assert possible_changes(merge("false"), base) == set(base.tensors)
    some = merge("[{filter: norm, value: false}, {value: true}]")
    found = possible_changes(some, base)
    assert found is not None
    assert {norm, weight} <= found
    assert "model.embed_tokens.weight" not in found
    (row,) = measure_doses(merge("false"), base, {"lora": child})
    m, d = flat(merge("false"), base), flat(child, base)
    assert row.projection == pytest.approx(m @ d / (d @ d), rel=1e-4)


def test_the_base_itself_has_no_dose(tiny_base: Path, tiny_children: list[Path]) -> None:
    base = FolderCheckpoint(tiny_base)
    (row,) = measure_doses(base, base, {"one": FolderCheckpoint(tiny_children[0])})
    assert (row.projection, row.coefficient, row.residual) == (0.0, 0.0, 0.0)


def test_other_shapes_are_refused(tiny_base: Path) -> None:
    base = FolderCheckpoint(tiny_base)
    other = MemoryCheckpoint("other", {"model.norm.weight": torch.ones(3)})
    with pytest.raises(IncompatibleModelsError, match="missing or of another shape"):
        measure_doses(base, base, {"other": other})
