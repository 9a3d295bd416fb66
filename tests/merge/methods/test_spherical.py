"""Means on the sphere equal their references on whole vectors, and keep their edges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.contract import METHODS
from miscible.merge.ops.means import karcher_coefficients
from references import spherical
from references.calling import arrays, merged

seeds = st.integers(0, 2**31)


def tensors(seed: int, count: int = 2, shape: tuple[int, ...] = (5, 7)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def near(found: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(-0.5, 1.5))
def test_slerp(seed: int, t: float) -> None:
    x, y = tensors(seed)
    near(merged("slerp", [y], base=x, t=t), spherical.slerp(*arrays([x, y]), t))


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.1, 2.0))
def test_nuslerp(seed: int, share: float) -> None:
    x, y, base = tensors(seed, 3)
    t = share / (1 + share)
    near(merged("nuslerp", [x, y], weight=[1.0, share]), spherical.slerp(*arrays([x, y]), t))
    deltas = spherical.slerp(*arrays([x - base, y - base]), t)
    near(merged("nuslerp", [x, y], base=base, weight=[1.0, share]), base.numpy() + deltas)


@pytest.mark.parametrize("row_wise", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4)])
def test_nuslerp_of_vectors(row_wise: bool, shape: tuple[int, ...]) -> None:
    x, y = tensors(3, shape=shape)
    dim = 0 if row_wise else -1
    found = merged("nuslerp", [x, y], weight=[0.6, 0.4], nuslerp_flatten=False,
                   nuslerp_row_wise=row_wise)  # fmt: skip
    parts = [np.moveaxis(a, dim, -1).reshape(-1, shape[dim]) for a in arrays([x, y, found])]
    for left, right, result in zip(*parts, strict=True):
        np.testing.assert_allclose(result, spherical.slerp(left, right, 0.4, 1.0), atol=1e-10)


@pytest.mark.parametrize("shape", [(), (6,)])
def test_a_tensor_of_one_dimension_is_one_vector(shape: tuple[int, ...]) -> None:
    x, y = (tensor.abs() for tensor in tensors(3, shape=shape))
    rows = merged("nuslerp", [x, y], weight=1.0, nuslerp_flatten=False, nuslerp_row_wise=True)
    assert torch.allclose(rows, merged("nuslerp", [x, y], weight=1.0))


@pytest.mark.parametrize("scale", [-3.0, -1.0, 1.7])
def test_parallel_and_antipodal_vectors_go_along_the_line(scale: float) -> None:
    (x,) = tensors(5, 1, (40, 11))
    found = merged("nuslerp", [x, scale * x], weight=[0.5, 0.5])
    near(found, (1 + scale) / 2 * x.numpy())


def test_nuslerp_walks_on_where_slerp_takes_the_line() -> None:
    x, y = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0, 0.01]).double()
    near(merged("nuslerp", [x, y], weight=0.5), spherical.slerp(*arrays([x, y]), 0.5, 1.0))
    near(merged("slerp", [y], base=x, t=0.5), (x + y).numpy() / 2)


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_multislerp(seed: int, normalize: bool) -> None:
    weight = [0.2, 0.9, 0.4]
    shares = [w / sum(weight) for w in weight] if normalize else weight
    models = tensors(seed, 3)
    found = merged("multislerp", models, weight=weight, normalize_weights=normalize)
    near(found, spherical.multislerp(arrays(models), shares))
    base = tensors(seed + 1, 1)[0]
    found = merged("multislerp", models, base=base, weight=weight, normalize_weights=normalize)
    deltas = arrays([model - base for model in models])
    near(found, base.numpy() + spherical.multislerp(deltas, shares))


def test_multislerp_at_its_edges() -> None:
    x, zero = torch.tensor([3.0, 4.0]), torch.zeros(2)
    near(merged("multislerp", [x], weight=7.0, normalize_weights=False), x.numpy(), 1e-6)
    near(merged("multislerp", [x, -x / 3], weight=1.0), x.numpy() / 3, 1e-6)  # on the line
    near(merged("multislerp", [x, zero], weight=1.0), x.numpy() / 2, 1e-6)
    assert not merged("multislerp", [zero, zero, zero], weight=1.0).any()
    third = [torch.tensor([np.cos(a), np.sin(a)]) for a in (0.0, 2 * np.pi / 3, -2 * np.pi / 3)]
    with pytest.raises(IncompatibleModelsError, match="tensor 't': .* cancel"):
        merged("multislerp", third, weight=1.0)
    with pytest.raises(RecipeError, match="sum to 0"):
        merged("multislerp", [x, x], weight=[1.0, -1.0])


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 5))
def test_karcher_mean_has_no_gradient(seed: int, count: int) -> None:
    models = [tensor + 0.5 for tensor in tensors(seed, count)]
    found = merged("karcher", models, max_iter=200, tol=1e-12).numpy()
    gradient = spherical.karcher_gradient(found, arrays(models))
    assert np.abs(gradient).max() < 1e-9
    norms = [np.linalg.norm(model) for model in arrays(models)]
    assert np.linalg.norm(found) == pytest.approx(np.mean(norms))


def test_karcher_of_two_is_slerp_of_the_units_half_way() -> None:
    x, y = tensors(7)
    units = [a / np.linalg.norm(a) for a in arrays([x, y])]
    norm = (x.norm() + y.norm()).item() / 2
    near(merged("karcher", [x, y]), norm * spherical.slerp(*units, 0.5))


def test_karcher_iterations() -> None:
    models = [torch.tensor(v) for v in ([1, 2, -3, 0.5], [2, -2, -1, 0.25], [0.5, 4, 1, -1])]
    steps = [merged("karcher", models, max_iter=k) for k in (0, 1, 2, 40)]
    lengths = [np.linalg.norm(spherical.karcher_gradient(a, arrays(models))) for a in arrays(steps)]
    assert all(later < earlier for earlier, later in pairwise(lengths))
    assert merged("karcher", models, max_iter="1", tol="1e-3").equal(steps[1])


def test_karcher_at_its_edges() -> None:
    x, zero = torch.tensor([3.0, 4.0]), torch.zeros(2)
    near(merged("karcher", [x]), x.numpy(), 0.0)
    near(merged("karcher", [x, zero]), x.numpy() / 2, 1e-6)
    assert not merged("karcher", [zero, zero]).any()
    near(merged("karcher", [x, -3 * x]), 2 * x.numpy(), 1e-6)  # directions cancel: the first
    assert karcher_coefficients(np.ones((3, 3)), 10, 0.0) == pytest.approx([1 / 3] * 3)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 4))
def test_model_stock(seed: int, count: int) -> None:
    base, *models = tensors(seed, count + 1)
    models = [model + 0.3 for model in models]
    deltas = arrays([model - base for model in models])
    near(merged("model_stock", models, base=base), base.numpy() + spherical.model_stock(deltas))
    rows = [spherical.model_stock(row) for row in zip(*deltas, strict=True)]
    found = merged("model_stock", models, base=base, filter_wise=True)
    near(found, base.numpy() + np.stack(rows), 1e-7)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_model_stock_knows_no_smallest_delta(scale: float) -> None:
    base, x, y = tensors(2, 3)
    base = torch.zeros_like(base)
    whole = merged("model_stock", [x, y], base=base)
    assert torch.allclose(merged("model_stock", [x * scale, y * scale], base=base), whole * scale,
                          rtol=1e-12, atol=0)  # fmt: skip


def test_model_stock_at_its_edges() -> None:
    base, x = tensors(4)
    near(merged("model_stock", [base + x, base - x], base=base), base.numpy())
    near(merged("model_stock", [base, base + x], base=base), base.numpy())
    with pytest.raises(RecipeError, match="1 models"):
        merged("model_stock", [x], base=base)


def test_linear_and_passthrough() -> None:
    x, y = tensors(6)
    weight = [0.3, 1.1]
    near(merged("linear", [x, y], weight=weight), spherical.linear(arrays([x, y]), weight))
    raw = spherical.linear(arrays([x, y]), weight, normalize=False)
    near(merged("linear", [x, y], weight=weight, normalize=False), raw)
    near(merged("passthrough", [x]), x.numpy(), 0.0)
    near(merged("passthrough", [x], scale=0.25), 0.25 * x.numpy(), 0.0)


def test_what_streams() -> None:
    """Methods that are coefficients of the Gram matrix say so."""
    assert METHODS.get("karcher").can_stream({})
    assert METHODS.get("multislerp").can_stream({})
    assert METHODS.get("nuslerp").can_stream({"nuslerp_flatten": True})
    assert not METHODS.get("nuslerp").can_stream({"nuslerp_flatten": False})
    assert METHODS.get("model_stock").can_stream({"filter_wise": False})
    assert not METHODS.get("model_stock").can_stream({"filter_wise": True})
