"""What must not matter, and what must be read for what it is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from measure.synthetic import State, base_state, child, children
from miscible.measure.api import measure
from miscible.measure.result import Measurement, PairResult
from miscible.models import open_checkpoint
from tiny import tiny_tensors, write_adapter, write_model


def same(one: PairResult, two: PairResult, tolerance: float = 1e-9) -> None:
    assert one.metrics.keys() == two.metrics.keys()
    for name, value in one.metrics.items():
        other = two.metrics[name]
        assert (value.status, value.coverage) == (other.status, other.coverage), name
        assert other.value == pytest.approx(value.value, rel=tolerance, abs=1e-9, nan_ok=True), name


def only(found: Measurement) -> PairResult:
    (pair,) = found.pairs
    return pair


def test_order_and_company_do_not_matter() -> None:
    base = base_state()
    models = children(base, 3)
    alone = only(measure(base, {n: models[n] for n in ("m0", "m2")}, cache=False))
    swapped = only(measure(base, {n: models[n] for n in ("m2", "m0")}, cache=False))
    among = measure(base, models, cache=False).pairs[1]
    same(alone, swapped)
    same(alone, among)
    assert (swapped.a, swapped.b) == ("m2", "m0")


def test_rotations_of_the_residual_basis_change_only_what_counts_elements() -> None:
    base = base_state(dtype=torch.float64)
    models = children(base, 2)
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]

    def rotated(state: State) -> State:
        # Both sides of what reads and writes the residual stream; norms and convolutions stay.
        found = {n: t @ turn if t.ndim == 2 and t.shape[1] == 16 else t for n, t in state.items()}
        name = "layers.0.mlp.down_proj.weight"
        return found | {name: turn.T @ state[name]}

    before = only(measure(base, models, cache=False))
    after = only(
        measure(rotated(base), {n: rotated(state) for n, state in models.items()}, cache=False)
    )
    for name, value in before.metrics.items():
        if "sign_conflict" not in name:
            assert after.metrics[name].value == pytest.approx(value.value, rel=1e-7), name
    assert after.metrics["sign_conflict_rate"].value != before.metrics["sign_conflict_rate"].value


def test_the_dtype_in_which_the_same_numbers_are_stored_does_not_matter() -> None:
    base = base_state(dtype=torch.bfloat16)
    models = children(base, 2)
    wide = only(
        measure(
            {n: t.float() for n, t in base.items()},
            {m: {n: t.double() for n, t in s.items()} for m, s in models.items()},
            cache=False,
        )
    )
    narrow = only(measure(base, models, cache=False))
    same(wide, narrow)
    assert narrow.metrics["subspace_overlap"].noise > 100 * wide.metrics["subspace_overlap"].noise  # type: ignore[operator]


def test_shards_do_not_matter(tmp_path: Path) -> None:
    base = tiny_tensors(0)
    child_tensors = {n: t + 0.1 * tiny_tensors(1)[n] for n, t in base.items()}
    other = {n: t + 0.1 * tiny_tensors(2)[n] for n, t in base.items()}
    folders = [
        write_model(tmp_path / n, t)
        for n, t in (("base", base), ("one", child_tensors), ("other", other))
    ]
    whole = only(measure(folders[0], {"one": folders[1], "other": folders[2]}))
    (folders[1] / "model.safetensors").unlink()
    names = sorted(child_tensors)
    weight_map = {}
    for number, part in enumerate((names[:7], names[7:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({n: child_tensors[n] for n in part}, folders[1] / shard)
        weight_map |= dict.fromkeys(part, shard)
    import json

    (folders[1] / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    same(whole, only(measure(folders[0], {"one": folders[1], "other": folders[2]})))
    memory = only(measure(base, {"one": child_tensors, "other": other}, cache=False))
    same(whole, memory)


def test_large_tensors_are_read_in_pieces_to_the_same_end(
    tiny_base: Path, tiny_children: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = only(measure(tiny_base, tiny_children, cache=False))
    monkeypatch.setattr("miscible.measure.sketch.HELD_BYTES", 0)
    same(held, only(measure(tiny_base, tiny_children, cache=False)), 1e-12)


def test_matrices_decomposed_alone_or_in_the_turns_of_all_are_the_same(
    tiny_base: Path, tiny_children: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = measure(tiny_base, tiny_children, cache=False)
    monkeypatch.setattr("miscible.measure.tensor_pass.SQUARES_BYTES", 0)
    assert measure(tiny_base, tiny_children, cache=False) == together


def adapters(tmp_path: Path, dtype: torch.dtype) -> tuple[Path, list[str], list[Path]]:
    """Return a base, references of adapters on it, and the same models as whole folders."""
    base = write_model(tmp_path / "base", tiny_tensors(0, dtype))
    references, folders = [], []
    for seed, modules in ((1, ("self_attn.q_proj", "mlp.up_proj")), (2, ("self_attn.q_proj",))):
        generator = torch.Generator().manual_seed(seed)
        factors = {}
        for layer in (0, 1):
            for module in modules:
                name = f"model.layers.{layer}.{module}"
                rows, width = tiny_tensors(0)[f"{name}.weight"].shape
                factors[name] = (
                    0.1 * torch.randn(3, width, generator=generator),
                    torch.randn(rows, 3, generator=generator),
                )
        adapter = write_adapter(tmp_path / f"adapter{seed}", factors, base=str(base))
        references.append(f"{base}+{adapter}")
        adapted = open_checkpoint(references[-1])
        tensors = {n: adapted.read(n) for n in adapted.tensors}
        folders.append(write_model(tmp_path / f"dense{seed}", tensors))
    return base, references, folders


def test_adapters_equal_their_dense_forms(tmp_path: Path) -> None:
    base, references, folders = adapters(tmp_path, torch.float64)
    low = only(measure(base, dict(zip("ab", references, strict=True)), cache=False))
    dense = only(measure(base, dict(zip("ab", folders, strict=True)), cache=False))
    same(low, dense, 1e-6)
    # Two of the six changed matrices are changed by both, the other ones overlap in nothing.
    assert low.metrics["sign_conflict_rate"].status == "ok"
    bottom = low.metrics["right_subspace_overlap_bottom_k"]
    assert bottom.value == 0, "matrices that both change have no last singular vectors"
    assert low.metrics["subspace_overlap"].noise == 0


def test_factors_give_what_the_elements_give(tmp_path: Path) -> None:
    base, references, folders = adapters(tmp_path, torch.float64)
    models = dict(zip("ab", references, strict=True)) | {"same": base}
    without_signs = "task_vector,effective_rank,norm"
    few = measure(base, models, metrics=without_signs, cache=False)
    all_of_them = measure(base, models, cache=False)
    for one, two in zip(few.pairs, all_of_them.pairs, strict=True):
        for name, value in one.metrics.items():
            other = two.metrics[name]
            assert value.status == other.status, name
            assert value.value == pytest.approx(other.value, rel=1e-9, abs=1e-12, nan_ok=True)
    with_dense = measure(base, {"a": references[0], "b": folders[1]}, metrics=without_signs)
    for name, value in with_dense.pairs[0].metrics.items():
        assert value.value == pytest.approx(few.pairs[0].metrics[name].value, rel=1e-9), name


def test_an_adapter_of_another_base_is_read_as_the_model_that_it_makes(tmp_path: Path) -> None:
    _, references, folders = adapters(tmp_path, torch.float64)
    shifted = {n: t + 0.01 * tiny_tensors(5, t.dtype)[n] for n, t in tiny_tensors(0).items()}
    origin = write_model(tmp_path / "origin", shifted)
    low = only(measure(origin, dict(zip("ab", references, strict=True)), cache=False))
    dense = only(measure(origin, dict(zip("ab", folders, strict=True)), cache=False))
    same(low, dense, 1e-6)


def test_opposite_task_vectors_are_a_conflict() -> None:
    base = base_state(dtype=torch.float64)
    forth = child(base, 1)
    back = {name: 2 * tensor - forth[name] for name, tensor in base.items()}
    found = only(measure(base, {"forth": forth, "back": back}, cache=False)).metrics
    assert found["task_vector_cosine_similarity"].value == pytest.approx(-1)
    assert found["weight_space_angle"].value == pytest.approx(180, abs=1e-5)
    assert found["sign_conflict_rate"].value == 1
    assert found["mass_weighted_sign_conflict"].value == pytest.approx(1)
    assert found["signed_effective_rank_mergeability_score"].value == pytest.approx(-1, abs=1e-5)
    # The paper's ranks and subspaces cannot tell: they read these as one direction.
    assert found["effective_rank_mergeability_score"].value == pytest.approx(1, abs=1e-5)


def test_identical_models() -> None:
    base = base_state()
    one = child(base, 1)
    found = only(measure(base, {"one": one, "copy": dict(one)}, cache=False)).metrics
    for name, value in {
        "task_vector_cosine_similarity": 1, "task_vector_l2_distance": 0, "weight_space_angle": 0,
        "task_vector_magnitude_ratio": 1, "effective_rank": 1, "singular_value_overlap": 1,
        "right_subspace_overlap_top_k": 1, "right_subspace_overlap_bottom_k": 1,
        "sign_conflict_rate": 0, "mass_weighted_sign_conflict": 0,
        "signed_effective_rank_mergeability_score": 1, "layer_profile_similarity": 1,
    }.items():  # fmt: skip
        assert found[name].value == pytest.approx(value, abs=1e-7), name
    # Matrices of 16, 16, 24, ... rows have ten vectors, the one of three rows has three.
    expected = (6 / math.sqrt(10) + 1 / math.sqrt(3)) / 7
    assert found["subspace_overlap"].value == pytest.approx(expected)


def test_a_model_that_is_the_base() -> None:
    base = base_state()
    found = only(measure(base, {"same": dict(base), "one": child(base, 1)}, cache=False)).metrics
    for name in (
        "task_vector_cosine_similarity", "weight_space_angle", "subspace_overlap",
        "singular_value_overlap", "layerwise_effective_rank", "sign_conflict_rate",
        "signed_effective_rank_mergeability_score", "layer_profile_similarity",
    ):  # fmt: skip
        assert found[name].status == "undefined", name
        assert math.isnan(found[name].value)
        assert "same" in found[name].reason
    assert found["task_vector_dot_product"].value == 0
    assert found["task_vector_magnitude_ratio"].value == 0
    assert found["effective_rank"].value == 1
    assert found["larger_task_vector_norm"].value == found["task_vector_l2_distance"].value


def test_tensors_that_nobody_changes_count_only_as_the_papers_code_counts_them() -> None:
    base = base_state()
    models = children(base, 2)
    for state in models.values():
        state["embed_tokens.weight"] = base["embed_tokens.weight"].clone()
    ours = only(measure(base, models, cache=False)).metrics
    theirs = only(measure(base, models, cache=False, compat=True)).metrics
    for name, constant in {
        "singular_value_overlap": 0, "subspace_overlap": 1 / math.sqrt(10),
        "right_subspace_overlap_top_k": 1, "right_subspace_overlap_bottom_k": 1,
        "interaction_matrix_overlap_top_k": 1, "interaction_matrix_overlap_bottom_k": 1,
    }.items():  # fmt: skip
        assert theirs[name].value == pytest.approx((6 * ours[name].value + constant) / 7), name
        assert theirs[name].coverage - ours[name].coverage == pytest.approx(
            base["embed_tokens.weight"].numel() / sum(t.numel() for t in base.values())
        )


def test_a_tensor_that_one_model_changes_overlaps_in_nothing() -> None:
    base = base_state()
    models = children(base, 2)
    whole = only(measure(base, dict(models), cache=False)).metrics
    name = "layers.1.mlp.up_proj.weight"
    models["m1"] = models["m1"] | {name: base[name].clone()}
    some = only(measure(base, models, cache=False)).metrics["right_subspace_overlap_top_k"]
    lost = only(
        measure({name: base[name]}, {m: {name: child(base, int(m[1]))[name]} for m in models},
                cache=False)
    ).metrics["right_subspace_overlap_top_k"]  # fmt: skip
    expected = whole["right_subspace_overlap_top_k"].value - lost.value / 7
    assert some.value == pytest.approx(expected)


def test_rank_deficient_changes_are_compared_in_the_directions_that_they_have() -> None:
    base = {"layers.0.mlp.weight": torch.zeros(20, 12, dtype=torch.float64) + 1}
    axes = torch.eye(12, dtype=torch.float64)
    rows = torch.randn(20, 4, dtype=torch.float64)

    def of(*columns: int) -> State:
        return {"layers.0.mlp.weight": 1 + 0.1 * rows[:, : len(columns)] @ axes[list(columns)]}

    found = measure(
        base, {"a": of(0, 1), "b": of(0, 2), "c": of(1, 0), "d": of(3, 4, 5)}, cache=False
    )
    value = {(p.a, p.b): p.metrics["interaction_matrix_overlap_top_k"].value for p in found.pairs}
    assert value["a", "c"] == pytest.approx(1)
    assert value["a", "d"] == pytest.approx(0, abs=1e-12)
    assert value["a", "b"] == pytest.approx(0.5)
    for pair in found.pairs:
        bottom = pair.metrics["right_subspace_overlap_bottom_k"]
        assert bottom.status == "undefined"
        assert "full rank" in bottom.reason


def test_noise_tells_rounding_from_structure() -> None:
    """A change below the resolution of the storage has singular vectors that say nothing."""
    base = base_state(dtype=torch.bfloat16)
    coarse = {n: child(base, i, size=0.003) for i, n in enumerate(("a", "b"))}
    found = only(measure(base, coarse, cache=False)).metrics
    assert found["right_subspace_overlap_bottom_k"].noise == pytest.approx(1, abs=0.2)
    fine = base_state(dtype=torch.float32)
    found = only(measure(fine, children(fine, 2), cache=False)).metrics
    noise = found["right_subspace_overlap_bottom_k"].noise
    assert noise is not None
    assert noise < 1e-3
