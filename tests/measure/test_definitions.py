"""Every metric of weights equals its definition, computed with whole models and full SVDs."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from measure.synthetic import State, base_state, child, children
from miscible.measure import changes
from miscible.measure.api import measure
from miscible.measure.result import PairResult
from references.mergeability import metrics as reference


def check(pair: PairResult, base: State, one: State, two: State) -> None:
    expected = reference(base, one, two)
    for name, value in expected.items():
        found = pair.metrics[name]
        assert found.status == "ok", (name, found.reason)
        assert found.value == pytest.approx(value, rel=1e-6, abs=1e-12), name
    own = set(pair.metrics) - set(expected)
    assert own == {"layer_profile_similarity"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_pairs_equal_the_definitions(dtype: torch.dtype) -> None:
    base = base_state(dtype=dtype)
    models = children(base, 4)
    found = measure(base, models, cache=False)
    assert [(p.a, p.b) for p in found.pairs] == list(combinations(models, 2))
    for pair in found.pairs:
        check(pair, base, models[pair.a], models[pair.b])


def test_half_precision_equals_the_definitions() -> None:
    base = base_state(dtype=torch.float16)
    models = children(base, 2)
    (pair,) = measure(base, models, cache=False).pairs
    check(pair, base, models["m0"], models["m1"])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_state()
    models = children(base, 3)
    whole = measure(base, models, cache=False)
    monkeypatch.setattr("miscible.measure.changes.CHUNK_BYTES", 8 * 16 * 3)
    assert len(changes.chunks(40, 16)) == 14
    for one, two in zip(whole.pairs, measure(base, models, cache=False).pairs, strict=True):
        for name, value in one.metrics.items():
            assert two.metrics[name].value == pytest.approx(value.value, rel=1e-9), name


def test_metrics_of_one_pair_agree() -> None:
    base = base_state()
    for pair in measure(base, children(base, 3), cache=False).pairs:
        value = {name: held.value for name, held in pair.metrics.items()}
        small, large = value["smaller_task_vector_norm"], value["larger_task_vector_norm"]
        dot = value["task_vector_dot_product"]
        assert dot == pytest.approx(value["task_vector_cosine_similarity"] * small * large)
        assert value["task_vector_l2_distance"] ** 2 == pytest.approx(small**2 + large**2 - 2 * dot)
        assert value["spectral_gap"] == pytest.approx(1 - value["singular_value_ratio"])


def test_layers_and_roles_are_pairs_of_fewer_tensors() -> None:
    base = base_state()
    models = children(base, 2)
    for by, part in (("layer", "layers.1"), ("role", "mlp")):
        (pair,) = measure(base, models, by=by, cache=False).pairs  # type: ignore[arg-type]
        names = [n for n in base if (part + "." in n or f".{part}." in n)]
        some = [{n: state[n] for n in names} for state in (base, models["m0"], models["m1"])]
        expected = reference(some[0], some[1], some[2])
        found = pair.scopes[part]
        for name, value in expected.items():
            assert found[name].value == pytest.approx(value, rel=1e-6), (by, name)
        squares = sum(v["task_vector_l2_distance"].value ** 2 for v in pair.scopes.values())
        assert squares == pytest.approx(pair.metrics["task_vector_l2_distance"].value ** 2)


def test_coverage_is_the_share_of_elements_that_entered() -> None:
    base = base_state()
    (pair,) = measure(base, children(base, 2), cache=False).pairs
    total = sum(tensor.numel() for tensor in base.values())
    matrices = sum(tensor.numel() for tensor in base.values() if tensor.ndim == 2)
    assert pair.metrics["effective_rank"].coverage == 1
    assert pair.metrics["subspace_overlap"].coverage == pytest.approx(matrices / total)


def test_models_have_their_norms_by_layer_and_role() -> None:
    base = base_state()
    models = children(base, 2)
    for result in measure(base, models, cache=False).models:
        state = models[result.name]
        norm = sum(float((state[n].double() - base[n].double()).square().sum()) for n in base)
        assert result.norm**2 == pytest.approx(norm)
        assert sum(v**2 for v in result.layers.values()) == pytest.approx(norm)
        assert sum(v**2 for v in result.roles.values()) == pytest.approx(norm)
        assert 0.05 < result.relative_distance < 0.2


def test_profile_is_alike_where_the_same_layers_change() -> None:
    base = base_state()
    one = child(base, 1)
    other = dict(one, **{n: base[n] for n in base if n.startswith("layers.0")})
    only = {n: (one if n.startswith("layers.0") else base)[n] for n in base}
    found = measure(base, {"one": one, "other": other, "only": only}, cache=False)
    first, _, apart = found.values("layer_profile_similarity")
    assert 0.5 < first.value < 1
    assert apart.value == 0
