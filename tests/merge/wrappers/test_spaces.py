"""KnOTS, Core Space and Subspace Boosting equal their papers, and lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from merge.methods.test_spectral import adapters, doubles, off, tuned
from miscible.merge.contract import METHODS, WRAPPERS, Context, Delta, Deltas, Site
from miscible.merge.ops.consensus import elect_signs
from references import spectral

SPACES = ["knots", "core_space"]
SHAPES = [(12, 9), (110, 130), (300, 100)]


def wrapped(name: str, deltas: Deltas, merge: Callable[[Deltas], Delta], **values: Any) -> Any:
    full = {key: p.default for key, p in WRAPPERS.get(name).parameters.items()} | values
    return WRAPPERS.get(name)(deltas, merge, full, Context(Site("t"))).tensor


def mean(deltas: Deltas) -> Delta:
    return deltas.weighted_sum([1 / len(deltas)] * len(deltas))


def elected(deltas: Deltas) -> Delta:
    return Delta(elect_signs(deltas.tensors, [1.0] * len(deltas), normalize=True))


def elected_arrays(d: Sequence[np.ndarray]) -> np.ndarray:
    """The sign consensus of TIES (2306.01708), element by element."""
    stacked = np.stack(d)
    agree = np.where(stacked.sum(axis=0) >= 0, stacked > 0, stacked < 0)
    return (stacked * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SPACES)
def test_linear_methods_are_not_changed(name: str, shape: tuple[int, int]) -> None:
    deltas = Deltas(tuned(shape, 1))
    assert off(wrapped(name, deltas, mean), mean(deltas).tensor.double().numpy()) < 1e-5
    low = Deltas(factors=adapters(shape, (2, 3)))
    found = wrapped(name, low, mean)
    assert found.dtype == torch.float32
    assert "tensors" not in low.__dict__, "adapters were multiplied out"
    assert off(found, mean(low).tensor.double().numpy()) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_knots_equals_the_paper(shape: tuple[int, int]) -> None:
    deltas = tuned(shape, 2, count=2)
    expected = spectral.knots(doubles(deltas), elected_arrays)
    assert off(wrapped("knots", Deltas(deltas), elected), expected) < 1e-3
    factors = adapters(shape, (3, 4))
    dense = doubles([factor.dense(torch.float64) for factor in factors])
    found = wrapped("knots", Deltas(factors=factors), elected)
    assert off(found, spectral.knots(dense, elected_arrays)) < 1e-4
    assert off(found, elected_arrays(dense)) > 0.01, "the space makes no difference"


@pytest.mark.parametrize("shape", SHAPES)
def test_core_space_equals_the_paper(shape: tuple[int, int]) -> None:
    factors = adapters(shape, (3, 4))
    b, a = doubles([f.b * f.scale for f in factors]), doubles([f.a for f in factors])
    seen = []

    def watch(deltas: Deltas) -> Delta:
        seen.append(tuple(deltas.tensors[0].shape))
        return elected(deltas)

    found = wrapped("core_space", Deltas(factors=factors), watch)
    assert seen == [(7, 7)]
    assert off(found, spectral.core_space(b, a, elected_arrays)) < 1e-4


def test_core_space_of_dense_deltas() -> None:
    deltas = [factor.dense() for factor in adapters((30, 40), (3, 4))]
    seen = []

    def watch(inner: Deltas) -> Delta:
        seen.append(tuple(inner.tensors[0].shape))
        return mean(inner)

    found = wrapped("core_space", Deltas(deltas), watch)
    assert seen == [(7, 7)]
    assert off(found, (sum(doubles(deltas)) / 2)) < 1e-5


@pytest.mark.parametrize("name", SPACES)
def test_isotropic_merging_within_a_space(name: str) -> None:
    factors = adapters((60, 50), (3, 4))
    method = METHODS.get("iso_c")
    values = {"weight": (1.0, 1.0), "lambda": 1.0}
    merge = partial(method, values=values, context=Context(Site("t")))
    found = wrapped(name, Deltas(factors=factors), merge)
    total = sum(factor.dense(torch.float64).numpy() for factor in factors)
    _, s, _ = spectral.svd(total)
    # The mean is over the 7 directions of the space, not over 50 of which 43 are null.
    np.testing.assert_allclose(spectral.svd(found.numpy())[1][:7], s.sum() / 7, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", [0.0, 0.01, 0.3, 0.9])
def test_boosting_equals_the_paper(shape: tuple[int, int], beta: float) -> None:
    deltas = Deltas(tuned(shape, 3))
    expected = spectral.boosted(mean(deltas).tensor.double().numpy(), beta)
    assert off(wrapped("subspace_boosting", deltas, mean, beta=beta), expected) < 1e-3


def test_boosting_ends() -> None:
    deltas = Deltas(tuned((40, 30), 4))
    plain = mean(deltas).tensor
    whole = wrapped("subspace_boosting", deltas, mean, beta=1.0)
    assert off(whole, plain.double().numpy()) < 1e-6
    low = Deltas(factors=adapters((40, 30), (2, 2)))
    boosted = spectral.svd(wrapped("subspace_boosting", low, mean).double().numpy())[1]
    np.testing.assert_allclose(boosted[:4], boosted[0], rtol=1e-5)
    assert boosted[4] < 1e-5 * boosted[0], "null directions were filled"


@pytest.mark.parametrize("name", [*SPACES, "subspace_boosting"])
@pytest.mark.parametrize("shape", [(5,), (1, 6), (6, 1), (4, 3, 2, 2)])
def test_what_is_no_matrix_is_merged_as_it_is(name: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    deltas = Deltas([torch.randn(shape, generator=generator) for _ in range(2)])
    assert wrapped(name, deltas, mean).equal(mean(deltas).tensor)


@pytest.mark.parametrize("name", [*SPACES, "subspace_boosting"])
def test_zero_deltas_give_zero(name: str) -> None:
    found = wrapped(name, Deltas([torch.zeros(6, 5)] * 2), mean)
    assert found.shape == (6, 5)
    assert not found.any()
    zero = [type(f)(f.a, f.b * 0, f.scale) for f in adapters((6, 5), (2, 2))]
    assert not wrapped(name, Deltas(factors=zero), mean).any()
